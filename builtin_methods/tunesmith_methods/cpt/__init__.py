"""Continued pre-training with replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

import tunesmith
from tunesmith import (
    AnyObjective,
    AnyScheduler,
    Card,
    ConfigError,
    DataSpec,
    Method,
    OfflineMethod,
    Text,
    TokenLogps,
    did_you_mean,
)

if TYPE_CHECKING:
    from tunesmith.runner.context import Context


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, (str, Mapping)) else value


class CPT(OfflineMethod):
    """Continue pre-training on a domain with general text mixed in, and report what is forgotten."""

    name: ClassVar[str] = "cpt"
    consumes: ClassVar[type] = Text
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(
        paper="Simple and Scalable Strategies to Continually Pre-train Large Language Models (arXiv:2403.08763)",
        use_when="Facts or a domain must get into the weights: medicine, law, a code base, a language.",
        data="5B-20B tokens for a vertical domain, 10B-50B and more for a new language, 1B-5B for internal "
        "knowledge; 10-20% general text among them (25-50% for a new language).",
        memory="16 bytes per parameter (weights, gradients, AdamW states) and activations.",
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-4,
        "schedule": {"name": "cosine", "warmup": 0.01},
        "weight_decay": 0.1,
        "batch_size": 64,
        "max_length": 1024,
        "overlong": "split",
        "holdout": 0.02,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-4}

    objective: AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""
    replay: Annotated[tuple[DataSpec, ...], BeforeValidator(_one_or_more)] = ()
    """General text to mix in, as close as possible to what the model was pre-trained on."""
    replay_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the training tokens that is replay; 0 trains on the domain alone and only measures on replay."""
    replay_schedule: AnyScheduler | None = None
    """Multiplies replay_share over the run."""
    general_set: str = "replay"
    """Evaluation set that forgetting is measured on: held-out replay rows, or the label of an eval_data source."""
    domain_set: str = "train"
    """Evaluation set that domain_gain is measured on: held-out training rows, or the label of an eval_data source."""

    @model_validator(mode="after")
    def _replay_has_rows(self) -> CPT:
        if self.replay_share > 0 and not self.replay:
            raise ValueError(
                f"replay_share is {self.replay_share:g}, but there is no general text to replay: give it with "
                "--replay PATH, or set --replay-share 0 and accept that the model forgets"
            )
        return self

    def data_groups(self) -> Mapping[str, Sequence[DataSpec]]:
        """The replay rows."""
        return {"replay": self.replay} if self.replay else {}

    def mixture(self, step: int, total: int) -> Mapping[str, float] | None:
        """Token shares of the domain and of replay; replay tokens are taken out of the domain's budget."""
        scale = self.replay_schedule(step, total) if self.replay_schedule else 1.0
        share = self.replay_share * scale
        return {"train": 1.0 - share, "replay": share} if self.replay else None

    def after_eval(self, ctx: Context, losses: Mapping[str, float]) -> Mapping[str, float]:
        """``forgetting`` (general loss now less that of the base) and ``domain_gain``, in nats per token.

        The losses before the first step are kept in the checkpointed state.

        Raises:
            ConfigError: `general_set` or `domain_set` was given, and there is no such set.
        """
        start = ctx.state.setdefault("loss_before", dict(losses))
        metrics = {}
        for metric, key, sign in (("forgetting", "general_set", 1), ("domain_gain", "domain_set", -1)):
            name = getattr(self, key)
            if name in losses and name in start:
                metrics[metric] = sign * losses[name] - sign * start[name]
            elif name != type(self).model_fields[key].default:
                raise ConfigError(
                    f"{key}: there is no evaluation set {name!r}{did_you_mean(name, losses)}",
                    why=f"evaluation sets of this run: {', '.join(losses) or 'none'}",
                    fix=f"write --eval-data '{{path: ..., label: {name}}}', or hold rows out with --holdout",
                )
        return metrics


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [CPT]
