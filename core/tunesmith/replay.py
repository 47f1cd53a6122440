"""Methods that go on training on a domain: replay of general text, and what is forgotten as a number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from tunesmith.components import AnyScheduler, DataSpec
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.offline import OfflineMethod

if TYPE_CHECKING:
    from tunesmith.runner.context import Context


def one_or_more(value: Any) -> Any:
    """A tuple of the one source that is written where several may stand."""
    return (value,) if isinstance(value, (str, Mapping)) else value


SomeData = Annotated[tuple[DataSpec, ...], BeforeValidator(one_or_more)]
"""The type of a setting that holds sources of data, one or several."""


class ReplayMethod(OfflineMethod):
    """Mixes general text into the training tokens and reports what is forgotten of it."""

    replay: SomeData = ()
    """General text to mix in, as close as possible to what the model was pre-trained on."""
    replay_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the training tokens that is replay; 0 trains on the domain alone and only measures on replay."""
    replay_schedule: AnyScheduler | None = None
    """Multiplies replay_share over the run."""
    general_set: str = "replay"
    """Evaluation set that forgetting is measured on: held-out replay rows, or the label of an eval_data source."""
    domain_set: str = "train"
    """Evaluation set that domain_gain is measured on: held-out training rows, or the label of an eval_data source."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A few texts to replay."""
        path = folder / "replay.jsonl"
        rows = [{"text": f"General text {i}: " + "water is wet, and fire is hot. " * (1 + i % 3)} for i in range(8)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"replay": str(path)}

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
