"""Losses over single answers with a thumb up or down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from tunesmith import Loss, Objective, UnpairedLogps


class KTO(Objective):
    """KTO: answers are pushed above or below a baseline that the batch sets (arXiv:2402.01306)."""

    name: ClassVar[str] = "kto"
    inputs: ClassVar[type] = UnpairedLogps
    unit: ClassVar[Any] = "sequence"
    beta: float = Field(default=0.1, gt=0)
    """Risk aversion; a lower value wants a lower learning rate."""

    def at_start(self) -> Mapping[str, float]:
        """Half the weight of an answer, as it is neither above nor below the baseline."""
        return {"loss": 0.5, "kl": 0.0}

    def baseline(self, x: Any) -> Any:
        """z0 of the step, without gradient."""
        return x.baseline.detach()

    def __call__(self, x: Any) -> Loss:
        """Sum over answers of the class-weighted loss."""
        from .losses.unpaired import kto

        ratios, baseline = x.logps - x.reference, self.baseline(x)
        values = x.weights * kto(ratios, x.desirable, baseline=baseline, beta=self.beta)
        rewards = self.beta * ratios.detach()
        up, down = x.desirable.to(rewards), (~x.desirable).to(rewards)
        saturated = (self.beta * (ratios.detach() - baseline)).abs() > 4
        count = baseline.new_tensor(len(rewards))
        means = {
            "kl": (baseline * count, count),
            "rewards/chosen": ((rewards * up).sum(), up.sum()),
            "rewards/rejected": ((rewards * down).sum(), down.sum()),
            "logps/chosen": ((x.logps.detach() * up).sum(), up.sum()),
            "logps/rejected": ((x.logps.detach() * down).sum(), down.sum()),
        }
        return Loss(values.sum(), {"saturated": saturated.float().sum()}, means)


class APOZeroUnpaired(KTO):
    """KTO with a baseline of zero: answers are held against the reference alone (arXiv:2408.06266)."""

    name: ClassVar[str] = "apo-zero-unpaired"

    def baseline(self, x: Any) -> Any:
        """Zero."""
        return x.baseline.new_zeros(())
