"""Losses over sampled answers: policy gradients, clipped or not, and a critic beside them.

The variants are settings of one loss, so that comparing them compares the algorithm and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tunesmith import ConfigError, CriticLogps, Loss, Objective, PolicyLogps

if TYPE_CHECKING:
    from torch import Tensor

Aggregation = Literal["token", "sequence", "sum", "constant", "prompt"]
Ratio = Literal["token", "sequence", "sequence-token", "product"]
Correction = Literal["none", "token-tis", "sequence-tis", "token-mask", "sequence-mask"]
BOUNDS = {"token-tis": (0.0, 2.0), "sequence-tis": (0.0, 3.0), "token-mask": (0.5, 5.0), "sequence-mask": (0.0, 3.0)}
"""Bounds of the importance ratio where none are given."""
Sum = tuple["Tensor", "Tensor"]


class Spans(NamedTuple):
    """Which tokens belong to which branch.

    Attributes:
        branches: ``[S]`` int64, the branch of each token.
        sizes: ``[R]`` scored tokens of each branch.
    """

    branches: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, x: Any) -> Self:
        """Of the input of an objective."""
        from tunesmith.numerics import counts_by

        return cls(x.branches, counts_by(x.branches, x.num_branches).to(x.logps))

    def mean(self, values: Tensor, whole: bool = False) -> Sum:
        """Sum and count of ``[S]`` values, without gradient, over tokens, or over the answers that have any."""
        values = values.detach() * 1.0
        if not whole:
            return values.sum(), values.new_tensor(len(values))
        return (values / self.sizes[self.branches]).sum(), (self.sizes > 0).to(values).sum()


class _Policy(Objective):
    """A policy gradient on sampled answers, with what keeps it right when the answers are not the policy's own."""

    inputs: ClassVar[type] = PolicyLogps
    aggregation: Aggregation = "token"
    """Mean over tokens, over sequences of their mean or of their sum, the latter by a constant, or over prompts."""
    constant: int | None = Field(default=None, gt=0)
    """Tokens that the aggregation `constant` divides by; by default the longest answer allowed (Dr. GRPO)."""
    ratio: Ratio = "token"
    """Ratio to the old policy: of a token, geometric mean of a sequence (GSPO; GSPO-token), or of a whole sequence."""
    surrogate: Literal["clip", "cispo", "none"] = "clip"
    """PPO's clip, CISPO's truncated weights, in which no token is without gradient, or the bare ratio."""
    clip_low: float = Field(default=0.2, ge=0)
    """The ratio counts down to 1 minus this; GSPO wants about 0.0003."""
    clip_high: float = Field(default=0.28, ge=0)
    """The ratio counts up to 1 plus this; more than clip_low keeps entropy up (DAPO). GSPO wants about 0.0004."""
    delta: float | None = Field(default=None, gt=1)
    """Upper bound of the ratio where the advantage is negative as well (two-sided clip, dual clip): 3-4."""
    is_cap: float = Field(default=5.0, gt=0)
    """CISPO's upper bound of the ratio itself."""
    off_policy_mask: float | None = Field(default=None, gt=0)
    """Drop bad answers that the policy left behind by more than this, in nats per token: 0.5 (DeepSeek-V3.2)."""
    correction: Correction = "none"
    """Weights against a sampler whose probabilities are not the trainer's: truncated, or 0 outside of the bounds."""
    correction_low: float | None = Field(default=None, ge=0)
    """Lower bound of that ratio; by default 0.5 for token-mask (IcePop), else 0."""
    correction_high: float | None = Field(default=None, gt=0)
    """Upper bound of that ratio; by default 2 for token-tis, 5 for token-mask, 3 for whole sequences."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the KL to the reference in the loss: 0, or about 0.001."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of the KL per token: k1 log-ratio, k2 half its square, k3 never negative and unbiased."""
    kl_correction: Literal["none", "importance", "straight-through"] = "importance"
    """What gives it the gradient of the KL: the importance ratio, or k2's gradient under the estimator's value."""

    @property
    def unit(self) -> Any:
        """What the aggregation takes the mean over."""
        return {"token": "token", "prompt": "prompt"}.get(self.aggregation, "sequence")

    def at_start(self) -> Mapping[str, float]:
        """The policy is the one that sampled."""
        return {"ratio/mean": 1.0, "approx_kl": 0.0}

    @model_validator(mode="after")
    def _combination(self) -> Self:
        """Refuse settings that contradict each other, or that would have no effect."""
        for wrong, reason in (*self._contradictions(), *self._idle()):
            if wrong:
                raise ValueError(reason)
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        whole, by_token = self.ratio != "token", self.correction.startswith("token")
        geometric = self.ratio in ("sequence", "sequence-token")
        low, high = self._bounds
        return [
            (
                geometric and self.aggregation in ("token", "prompt"),
                f"ratio: {self.ratio} has one ratio per answer, and aggregation: {self.aggregation} would weigh it by "
                "the answer's length; use aggregation: sequence (GSPO), or sum where that is meant (LUSPO)",
            ),
            (
                self.ratio == "product" and self.aggregation not in ("sum", "constant"),
                "ratio: product takes an answer as one action; use aggregation: sum or constant",
            ),
            (whole and self.surrogate == "cispo", "surrogate: cispo weighs single tokens; use ratio: token"),
            (
                whole and by_token,
                f"correction: {self.correction} weighs single tokens, and ratio: {self.ratio} whole answers; "
                "use sequence-tis or sequence-mask",
            ),
            (low > high, f"correction_low {low:g} is above correction_high {high:g}"),
            (
                self.delta is not None and self.delta <= 1 + self.clip_high,
                f"delta must be above 1 + clip_high = {1 + self.clip_high:g}, or good answers are cut by it too",
            ),
            (
                self.kl_coef > 0 and self.kl_estimator == "k1" and self.kl_correction == "none",
                "kl_estimator: k1 in the loss has an expected gradient of zero, so it would change nothing but the "
                "noise; use kl_correction: importance or straight-through, or put the KL into the reward",
            ),
            (
                self.kl_coef > 0 and self.kl_estimator == "k2" and self.kl_correction == "importance",
                "kl_estimator: k2 has the gradient of the KL on its own, and the importance ratio would take it away; "
                "use kl_correction: none",
            ),
        ]

    def _idle(self) -> list[tuple[bool, str]]:
        bounded = self.correction_low is not None or self.correction_high is not None
        fields = type(self).model_fields
        clips = any(getattr(self, name) != fields[name].default for name in ("clip_low", "clip_high", "delta"))
        return [
            (
                self.constant is not None and self.aggregation != "constant",
                f"constant has no effect with aggregation: {self.aggregation}",
            ),
            (
                clips and self.surrogate != "clip",
                f"clip_low, clip_high and delta have no effect with surrogate: {self.surrogate}",
            ),
            (
                self.is_cap != fields["is_cap"].default and self.surrogate != "cispo",
                f"is_cap has no effect with surrogate: {self.surrogate}",
            ),
            (bounded and self.correction == "none", "correction_low and correction_high need a correction"),
        ]

    @property
    def _bounds(self) -> tuple[float, float]:
        """Of the importance ratio."""
        low, high = BOUNDS.get(self.correction, (0.0, 1.0))
        return (
            low if self.correction_low is None else self.correction_low,
            high if self.correction_high is None else self.correction_high,
        )

    def __call__(self, x: Any) -> Loss:
        """Sum over the units of the aggregation; its metrics are means over tokens, or over answers for their ratio."""
        from .losses import policy as losses

        spans = Spans.of(x)
        old = x.logps.detach() if x.old is None else x.old
        log_ratios = losses.log_ratios(x.logps, old, *spans, level=self.ratio)
        loss = Loss(x.logps.new_zeros(()), means=self._ratio_metrics(log_ratios.detach().exp(), x, old, spans))
        values = self._surrogates(log_ratios, x) * self._weights(x, old, spans, loss)
        shares = self._shares(x, spans)
        once = shares / spans.sizes[x.branches] if self.ratio == "product" else shares
        loss.total = (values * once).sum()
        loss.metrics["policy_loss"] = loss.total.detach()
        if x.reference is not None or self.kl_coef:
            penalty = self._kl(x, old)
            loss.means["kl"] = spans.mean(penalty)
            loss.total = loss.total + self.kl_coef * (penalty * shares).sum()
        if len(x.logps):
            loss.maxima["ratio/max"] = log_ratios.detach().max().exp()
        return loss

    def _shares(self, x: Any, spans: Spans) -> Tensor:
        """Weight ``[S]`` of each token in the sum over units."""
        from .losses.policy import shares

        constant = self.constant or x.longest
        if self.aggregation == "constant" and constant is None:
            raise ConfigError("aggregation: constant needs a number of tokens", fix="set constant in the objective")
        return shares(*spans, trees_R=x.trees, aggregation=self.aggregation, constant=float(constant or 1))

    def _surrogates(self, log_ratios: Tensor, x: Any) -> Tensor:
        """The loss ``[S]`` of each token before weights."""
        from .losses.policy import clipped, truncated

        ratios = log_ratios.exp()
        if self.surrogate == "cispo":
            return truncated(x.logps, ratios, x.advantages, is_cap=self.is_cap)
        if self.surrogate == "none":
            return -ratios * x.advantages
        return clipped(ratios, x.advantages, clip_low=self.clip_low, clip_high=self.clip_high, delta=self.delta)

    def _weights(self, x: Any, old: Tensor, spans: Spans, loss: Loss) -> Tensor | float:
        """Weights ``[S]`` without gradient, from the off-policy mask and the correction; adds their metrics."""
        from .losses import policy as losses

        weights: Tensor | float = 1.0
        if self.off_policy_mask is not None:
            drift = (old if x.sampler is None else x.sampler) - x.logps
            kept = losses.on_policy(drift, x.advantages, *spans, limit=self.off_policy_mask)
            loss.means["off_policy_masked"] = spans.mean(~kept)
            weights = kept.to(x.logps)
        if x.sampler is None:
            if self.correction != "none":
                raise ConfigError(
                    f"correction: {self.correction} needs the sampler's log-probabilities, and there are none",
                    fix="use a generator that reports them, or correction: none",
                )
            return weights
        gap = (old - x.sampler).detach()
        distance = gap.nan_to_num(nan=0.0).abs()
        loss.means["sampling/sampling_logp_difference/mean"] = (distance.sum(), (~gap.isnan()).to(gap).sum())
        whole = self.correction.startswith("sequence")
        ratios = losses.importance(gap, *spans, whole=whole)
        loss.means["sampling/importance_sampling_ratio/mean"] = spans.mean(ratios, whole)
        if len(gap):
            loss.maxima["sampling/sampling_logp_difference/max"] = distance.max()
            loss.maxima["sampling/importance_sampling_ratio/max"] = ratios.max()
        if self.correction == "none":
            return weights
        low, high = self._bounds
        loss.means["sampling/outside_bounds"] = spans.mean((ratios < low) | (ratios > high), whole)
        return weights * losses.correction(gap, *spans, kind=self.correction, low=low, high=high)

    def _kl(self, x: Any, old: Tensor) -> Tensor:
        from .losses.policy import kl_penalty

        if x.reference is None:
            raise ConfigError("kl_coef needs a reference, and the method has none", fix="set kl_coef to 0")
        return kl_penalty(x.logps, x.reference, old, estimator=self.kl_estimator, correction=self.kl_correction)

    def _ratio_metrics(self, ratios: Tensor, x: Any, old: Tensor, spans: Spans) -> dict[str, Sum]:
        whole = self.ratio != "token"
        good, bad = x.advantages > 0, x.advantages < 0
        means = {"ratio/mean": spans.mean(ratios, whole), "approx_kl": spans.mean((x.logps.detach() - old) ** 2 / 2)}
        if self.surrogate == "cispo":
            return means | {"cispo_clip_ratio": spans.mean((ratios > self.is_cap) & good, whole)}
        if self.surrogate == "none":
            return means
        low, high = (ratios < 1 - self.clip_low) & bad, (ratios > 1 + self.clip_high) & good
        sides = {"low_mean": low, "high_mean": high, "region_mean": low | high}
        return means | {f"clip_ratio/{side}": spans.mean(hit, whole) for side, hit in sides.items()}


class GRPO(_Policy):
    """GRPO, and with other settings Dr. GRPO, DAPO, GSPO, CISPO: a clipped policy gradient (arXiv:2402.03300)."""

    name: ClassVar[str] = "grpo"


class RLOO(_Policy):
    """RLOO: REINFORCE with the answer as one action, clipped when it is no longer the policy's (arXiv:2402.14740)."""

    name: ClassVar[str] = "rloo"
    aggregation: Aggregation = "sum"
    """Mean over sequences of their summed log-probability (unbiased), or that by a constant; see `grpo`."""
    ratio: Ratio = "product"
    """Ratio to the old policy: of the whole sequence, or (several updates on long answers) of a token."""
    clip_high: float = Field(default=0.2, ge=0)
    """The ratio counts up to 1 plus this."""


class PPO(_Policy):
    """PPO: a clipped policy gradient with an advantage per token, and a critic's loss (arXiv:1707.06347)."""

    name: ClassVar[str] = "ppo"
    inputs: ClassVar[type] = CriticLogps
    clip_high: float = Field(default=0.2, ge=0)
    """The ratio counts up to 1 plus this."""
    value_coef: float = Field(default=0.1, ge=0)
    """Weight of the critic's loss."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """How far the critic's estimate may move from the one at collection; null: as far as it likes."""

    @model_validator(mode="after")
    def _per_token(self) -> Self:
        if self.ratio in ("sequence", "product"):
            raise ValueError(
                f"ratio: {self.ratio} takes an answer as one action, and a critic judges single tokens; "
                "use ratio: token or sequence-token"
            )
        return self

    def __call__(self, x: Any) -> Loss:
        """The policy's loss plus the weighted critic's, both over the same units.

        The means and mean squares of returns and of the critic's errors give the explained variance of the step.
        """
        import torch

        from .losses.policy import value_errors

        loss, spans = super().__call__(x), Spans.of(x)
        plain, near = value_errors(x.values, x.old_values, x.returns, clip=self.value_clip)
        critic = 0.5 * (torch.maximum(plain, near) * self._shares(x, spans)).sum()
        loss.metrics["value_loss"] = critic.detach()
        loss.means["value_clip_ratio"] = spans.mean(near > plain)
        for name, values in (("returns", x.returns), ("value_error", x.returns - x.values)):
            loss.means |= {f"{name}/mean": spans.mean(values), f"{name}/square_mean": spans.mean(values**2)}
        loss.total = loss.total + self.value_coef * critic
        return loss
