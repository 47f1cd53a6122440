"""Methods that train on what the rows hold. Declared without torch; the work is in `tunesmith.scoring.supply`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.components import Method, Role, Settings, StepSize, Texts
from tunesmith.inputs import PairLogps, RankedScores

if TYPE_CHECKING:
    from tunesmith.data.trees import Batch
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

log = logging.getLogger(__name__)
FALLING_STEPS = 50
"""Steps in a row that the smoothed log-probability of chosen answers must fall before it is said."""


class OfflineMethod(Method):
    """Scores what `supplies` asks for: tokens, pairs, single answers or ranked answers.

    A new method of this kind is a name, what it consumes and supplies, a card and an objective.
    """

    def texts_of_step(self, step: StepSize) -> Texts:
        """Two answers where answers are compared: pairs, or what a ranking has at least."""
        if not issubclass(self.supplies, (PairLogps, RankedScores)):
            return super().texts_of_step(step)
        # without any prompt attention would need no mask, which takes memory
        return replace(
            super().texts_of_step(replace(step, prompt=step.prompt or max(1, step.longest // 64))), answers=2
        )

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Numbers of pairs and of their chosen tokens, where pairs are scored."""
        from tunesmith.scoring.supply import totals

        return totals(self.supplies, batch)

    def forward(self, models: Models, batch: Batch) -> Any:
        """What the objective reads, from the policy and the batch's columns."""
        from tunesmith.scoring.supply import supply

        return supply(self.supplies, models, batch)

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Warn once when chosen answers keep getting less likely."""
        value = ctx.metrics.get("logps/chosen")
        if value is not None and ctx.state.get("chosen_logps") != "falling":
            _watch(ctx, value)
        return {}


def _watch(ctx: Context, value: float) -> None:
    """Smooth over about 20 steps; count the steps in a row that the smoothed value falls."""
    last = ctx.state.get("chosen_mean", value)
    mean = 0.95 * last + 0.05 * value
    falling = ctx.state.get("chosen_falling", 0) + 1 if mean < last else 0
    ctx.state.update(chosen_mean=mean, chosen_falling=falling)
    if falling >= FALLING_STEPS:
        ctx.state["chosen_logps"] = "falling"
        log.warning(
            "the log-probability of chosen answers has fallen for %d steps (now %.1f): the margin grows because "
            "rejected answers fall faster. Use an objective that adds the likelihood of chosen answers, or lower "
            "learning_rate",
            falling,
            value,
        )


class HasReference(Settings):
    """Settings of a method that holds the policy against a frozen reference."""

    reference: Literal["auto", "adapter-off", "copy"] = "auto"
    """The reference: the base with adapters off, or a frozen copy. auto: adapters off where an adapter is trained."""
    reference_model: str | None = None
    """Model folder or hub name of the reference; by default the model that training starts from."""
    sync_every: int | None = Field(default=None, ge=1)
    """Move the reference towards the policy every so many steps (TR-DPO, arXiv:2404.09656); needs a copy."""
    sync_weight: float = Field(default=0.6, gt=0, le=1)
    """How far: reference = weight * policy + (1 - weight) * reference."""


class ReferencedMethod(OfflineMethod, HasReference):
    """An offline method that holds the policy against a frozen reference."""

    roles: ClassVar[frozenset[Role]] = frozenset({"policy", "reference"})

    reference: Literal["auto", "adapter-off", "copy", "cached"] = "auto"  # type: ignore[assignment]  # one way more
    """The reference: the base with adapters off, a frozen copy, or log-probabilities computed once and kept on disk.
    auto: adapters off where an adapter is trained, else a copy."""

    def collect(self, batch: Batch, ctx: Context) -> Batch:
        """Add the column ``reference`` ``[N, G]``: summed log-probabilities of every branch under the reference."""
        return batch.with_columns(reference=ctx.models.reference.branch_sums(batch))

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Move the reference where that is asked for."""
        if self.sync_every is not None and ctx.step % self.sync_every == 0:
            ctx.models.reference.move_towards(ctx.models.policy, self.sync_weight)
        return super().after_step(ctx)
