"""Losses over preference pairs, with a reference (the DPO family) and without (ORPO, SimPO)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from tunesmith import Loss, Objective, PairLogps, ReferencedPairLogps

if TYPE_CHECKING:
    from torch import Tensor


def _metrics(chosen: Tensor, rejected: Tensor, x: PairLogps) -> dict[str, Tensor]:
    """Sums over pairs of the implicit rewards and log-probabilities; a tie counts as half right."""
    gap = (chosen - rejected).detach()
    return {
        "rewards/chosen": chosen.detach().sum(),
        "rewards/rejected": rejected.detach().sum(),
        "rewards/margins": gap.sum(),
        "rewards/accuracies": (gap > 0).float().sum() + 0.5 * (gap == 0).float().sum(),
        "logps/chosen": x.chosen.detach().sum(),
        "logps/rejected": x.rejected.detach().sum(),
    }


class _Referenced(Objective):
    """A loss of the log-ratios of a pair; the implicit reward of an answer is beta times its log-ratio."""

    inputs: ClassVar[type] = ReferencedPairLogps
    unit: ClassVar[Any] = "pair"
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference; 0.01-0.05 for long chats."""

    def ratios(self, x: Any) -> tuple[Tensor, Tensor]:
        """Log-ratios ``[P]`` of the chosen and the rejected answers."""
        return x.chosen - x.reference_chosen, x.rejected - x.reference_rejected

    @abstractmethod
    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """The loss ``[P]`` of every pair, from its log-ratios."""

    def at_start(self) -> Mapping[str, float]:
        """No answer is preferred yet."""
        return {"loss": math.log(2), "rewards/margins": 0.0}

    def __call__(self, x: Any) -> Loss:
        """Sum over pairs, with rewards and log-probabilities as metrics."""
        chosen, rejected = self.ratios(x)
        values = self.values(chosen, rejected, x)
        return Loss(values.sum(), _metrics(self.beta * chosen, self.beta * rejected, x))


class Sigmoid(_Referenced):
    """DPO's own loss: -log sigmoid of the scaled margin (arXiv:2305.18290)."""

    name: ClassVar[str] = "sigmoid"

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.sigmoid`."""
        from .losses.pair import sigmoid

        return sigmoid(chosen - rejected, beta=self.beta)


class SigmoidNorm(_Referenced):
    """DPO on log-ratios per token, so that length does not count (Tulu 3, arXiv:2411.15124)."""

    name: ClassVar[str] = "sigmoid-norm"
    beta: float = Field(default=5.0, gt=0)
    """Scale of the margin per token."""

    def ratios(self, x: Any) -> tuple[Tensor, Tensor]:
        """Log-ratios ``[P]`` per token."""
        chosen, rejected = super().ratios(x)
        return chosen / x.chosen_tokens, rejected / x.rejected_tokens

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.sigmoid`."""
        from .losses.pair import sigmoid

        return sigmoid(chosen - rejected, beta=self.beta)


class Hinge(_Referenced):
    """A hinge on the margin: pairs that are right by enough have no gradient (arXiv:2309.06657)."""

    name: ClassVar[str] = "hinge"

    def at_start(self) -> Mapping[str, float]:
        """One for every pair."""
        return {**super().at_start(), "loss": 1.0}

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.hinge`."""
        from .losses.pair import hinge

        return hinge(chosen - rejected, beta=self.beta)


class IPO(_Referenced):
    """A squared distance of the margin per token to a target; certain labels are not overfitted (arXiv:2310.12036)."""

    name: ClassVar[str] = "ipo"

    def at_start(self) -> Mapping[str, float]:
        """The square of the target."""
        return {**super().at_start(), "loss": 1 / (2 * self.beta) ** 2}

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.ipo`."""
        from .losses.pair import ipo

        return ipo(chosen / x.chosen_tokens - rejected / x.rejected_tokens, beta=self.beta)


class CDPO(_Referenced):
    """Conservative DPO: a share of the labels is taken to be flipped."""

    name: ClassVar[str] = "cdpo"
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.smoothed`."""
        from .losses.pair import smoothed

        return smoothed(chosen - rejected, beta=self.beta, label_smoothing=self.label_smoothing)


class Robust(_Referenced):
    """Robust DPO: unbiased when a known share of the labels is flipped (arXiv:2403.00409)."""

    name: ClassVar[str] = "robust"
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of labels that is flipped."""

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.robust`."""
        from .losses.pair import robust

        return robust(chosen - rejected, beta=self.beta, label_smoothing=self.label_smoothing)


class APOZero(_Referenced):
    """APO-zero: chosen up and rejected down, each against the reference (arXiv:2408.06266)."""

    name: ClassVar[str] = "apo-zero"

    def at_start(self) -> Mapping[str, float]:
        """One for every pair."""
        return {**super().at_start(), "loss": 1.0}

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.apo_zero`."""
        from .losses.pair import apo_zero

        return apo_zero(chosen, rejected, beta=self.beta)


class APODown(_Referenced):
    """APO-down: both down, the rejected more; for a model better than its data (arXiv:2408.06266)."""

    name: ClassVar[str] = "apo-down"

    def at_start(self) -> Mapping[str, float]:
        """One for every pair."""
        return {**super().at_start(), "loss": 1.0}

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """See `losses.pair.apo_down`."""
        from .losses.pair import apo_down

        return apo_down(chosen, rejected, beta=self.beta)


class RPO(_Referenced):
    """DPO plus the likelihood of the chosen answer, which keeps it from falling (arXiv:2404.19733)."""

    name: ClassVar[str] = "rpo"
    alpha: float = Field(default=1.0, ge=0)
    """Weight of the negative log-likelihood per token of the chosen answer."""

    def at_start(self) -> Mapping[str, float]:
        """The likelihood of the chosen answers is not known."""
        return {"rewards/margins": 0.0}

    def values(self, chosen: Tensor, rejected: Tensor, x: Any) -> Tensor:
        """Eq. 1: the DPO term and ``alpha`` times the NLL of the chosen answer divided by its length."""
        from .losses.pair import sigmoid

        return sigmoid(chosen - rejected, beta=self.beta) - self.alpha * x.chosen / x.chosen_tokens


class ORPO(Objective):
    """ORPO: likelihood of the chosen answer plus an odds-ratio penalty; needs no reference (arXiv:2403.07691)."""

    name: ClassVar[str] = "orpo"
    inputs: ClassVar[type] = PairLogps
    unit: ClassVar[Any] = "pair"
    beta: float = Field(default=0.1, ge=0)
    """Weight of the odds-ratio term (the paper's lambda)."""

    def at_start(self) -> Mapping[str, float]:
        """The odds are even; the likelihood of the chosen answers is not known."""
        return {"log_odds_ratio": -math.log(2), "log_odds_chosen": 0.0}

    def __call__(self, x: Any) -> Loss:
        """NLL per token of the chosen answers of the step, plus ``beta`` times the odds-ratio term of every pair.

        Where the prompts' log-probabilities are supplied, their tokens count in the NLL as well.
        """
        from .losses.pair import log_odds, odds_ratio

        chosen, rejected = x.chosen / x.chosen_tokens, x.rejected / x.rejected_tokens
        likelihood = -(x.chosen if x.prompt is None else x.chosen + x.prompt).sum() / x.tokens_per_pair
        penalty = odds_ratio(chosen, rejected).sum()
        metrics = _metrics(self.beta * chosen, self.beta * rejected, x) | {
            "nll_loss": likelihood.detach(),
            "log_odds_ratio": -penalty.detach(),
            "log_odds_chosen": log_odds(chosen, rejected).detach().sum(),
        }
        return Loss(likelihood + self.beta * penalty, metrics)


class SimPO(Objective):
    """SimPO: log-probability per token as the reward, with a target margin; needs no reference (arXiv:2405.14734)."""

    name: ClassVar[str] = "simpo"
    inputs: ClassVar[type] = PairLogps
    unit: ClassVar[Any] = "pair"
    beta: float = Field(default=2.5, gt=0)
    """Scale of the reward: 2.0-2.5, up to 10."""
    gamma_beta_ratio: float = Field(default=0.5, ge=0)
    """Target margin as a share of beta: 0.3-0.55, at most 1."""
    sft_weight: float = Field(default=0.0, ge=0)
    """Weight of the negative log-likelihood per token of the chosen answers; keeps what was learned before."""

    def at_start(self) -> Mapping[str, float]:
        """The target margin is missed by all of it."""
        margins = {"rewards/margins": 0.0}
        return (
            margins if self.sft_weight else {"loss": math.log1p(math.exp(self.beta * self.gamma_beta_ratio)), **margins}
        )

    def __call__(self, x: Any) -> Loss:
        """Sum over pairs of the SimPO term, plus the weighted NLL per token of the step."""
        from .losses.pair import simpo

        chosen, rejected = x.chosen / x.chosen_tokens, x.rejected / x.rejected_tokens
        total = simpo(chosen, rejected, beta=self.beta, gamma=self.beta * self.gamma_beta_ratio).sum()
        metrics = _metrics(self.beta * chosen, self.beta * rejected, x)
        if self.sft_weight:
            likelihood = -x.chosen.sum() / x.tokens_per_pair
            total = total + self.sft_weight * likelihood
            metrics["nll_loss"] = likelihood.detach()
        return Loss(total, metrics)
