"""Losses that are wrong in one way each, and some that are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from tunesmith import Loss, Objective, PolicyLogps, ReferencedPairLogps, TokenLogps


def doubled_gradient(values: Any) -> Any:
    """The values with a gradient that is not theirs."""
    import torch

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, given):
            return given.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    return Doubled.apply(values)


class Likelihood(Objective):
    """Minus the log-probability of every token, times a factor."""

    name: ClassVar[str] = "odd-likelihood"
    inputs: ClassVar[type] = TokenLogps
    factor: float = -1.0
    """Factor."""

    def __call__(self, x: Any) -> Loss:
        return Loss(self.factor * x.logps.sum())


class BentLikelihood(Likelihood):
    """The same with a wrong gradient."""

    name: ClassVar[str] = "odd-bent-likelihood"

    def __call__(self, x: Any) -> Loss:
        return Loss(-doubled_gradient(x.logps).sum())


class PairLoss(Objective):
    """What DPO's loss does, with a metric."""

    name: ClassVar[str] = "odd-pairs"
    inputs: ClassVar[type] = ReferencedPairLogps
    unit: ClassVar[Any] = "pair"

    def at_start(self):
        import math

        return {"loss": math.log(2), "margin": 0.0}

    def margins(self, x):
        return 0.1 * ((x.chosen - x.reference_chosen) - (x.rejected - x.reference_rejected))

    def values(self, margins):
        from torch.nn.functional import softplus

        return softplus(-margins)

    def __call__(self, x: Any) -> Loss:
        margins = self.margins(x)
        return Loss(self.values(margins).sum(), {"margin": margins.detach().sum()})


class NoSum(PairLoss):
    """Grows faster than the number of pairs."""

    name: ClassVar[str] = "odd-no-sum"

    def __call__(self, x: Any) -> Loss:
        loss = super().__call__(x)
        return replace(loss, total=loss.total * (1 + 0.01 * (len(x.chosen) - 7)))


class MeanMetric(PairLoss):
    """Reports a mean for a sum."""

    name: ClassVar[str] = "odd-mean-metric"

    def __call__(self, x: Any) -> Loss:
        loss = super().__call__(x)
        return replace(loss, metrics={"margin": loss.metrics["margin"] / max(1, len(x.chosen))})


class LiveMetric(PairLoss):
    """Reports a metric with its graph."""

    name: ClassVar[str] = "odd-live-metric"

    def __call__(self, x: Any) -> Loss:
        return replace(super().__call__(x), metrics={"margin": self.margins(x).sum()})


class OddMetric(PairLoss):
    """Reports a metric of large batches alone."""

    name: ClassVar[str] = "odd-metric-now-and-then"

    def __call__(self, x: Any) -> Loss:
        loss = super().__call__(x)
        return replace(loss, metrics=loss.metrics | ({"large": loss.metrics["margin"]} if len(x.chosen) > 5 else {}))


class Coupled(PairLoss):
    """Gives every pair the gradient of all."""

    name: ClassVar[str] = "odd-coupled"

    def __call__(self, x: Any) -> Loss:
        loss, level = super().__call__(x), 1 + self.margins(x).square().mean() if len(x.chosen) else 1.0
        return replace(loss, total=loss.total * level / (level.detach() if len(x.chosen) else 1.0))


class ByPlace(PairLoss):
    """Weighs pairs by their places."""

    name: ClassVar[str] = "odd-by-place"

    def values(self, margins):
        import torch

        return super().values(margins) * (1.0 + torch.arange(len(margins)) % 3 * (len(margins) > 2))

    def at_start(self):
        return {}


class Shifted(PairLoss):
    """Asks for more than it says."""

    name: ClassVar[str] = "odd-shifted"

    def values(self, margins):
        return super().values(margins - 0.1)


class BentPairs(PairLoss):
    """Has a gradient that is not its own."""

    name: ClassVar[str] = "odd-bent-pairs"

    def values(self, margins):
        return super().values(doubled_gradient(margins))


class Rounded(PairLoss):
    """Computes outside of the graph, as numbers."""

    name: ClassVar[str] = "odd-rounded"

    def values(self, margins):
        import torch

        return super().values(margins) * torch.tensor([1 + value**2 for value in margins.tolist()])


class Naive(PairLoss):
    """Takes the logarithm of what may be 0."""

    name: ClassVar[str] = "odd-naive"

    def values(self, margins):
        return -margins.sigmoid().log()


class Nothing(PairLoss):
    """Makes a number of its own where there is no pair."""

    name: ClassVar[str] = "odd-nothing"

    def __call__(self, x: Any) -> Loss:
        import torch

        return super().__call__(x) if len(x.chosen) else Loss(torch.zeros(()))


class Greedy(PairLoss):
    """Changes what others read."""

    name: ClassVar[str] = "odd-greedy"

    def margins(self, x):
        x.reference_chosen.clamp_(max=-2.0)
        return super().margins(x)


class PerAnswer(Objective):
    """The mean over an answer, said to be a sum over tokens."""

    name: ClassVar[str] = "odd-per-answer"
    inputs: ClassVar[type] = TokenLogps

    def __call__(self, x: Any) -> Loss:
        from tunesmith.numerics import counts_by

        return Loss(-(x.logps / counts_by(x.branches, x.num_branches)[x.branches]).sum())


class Demanding(Objective):
    """Reads what need not be there."""

    name: ClassVar[str] = "odd-demanding"
    inputs: ClassVar[type] = PolicyLogps

    def __call__(self, x: Any) -> Loss:
        return Loss(-((x.logps - x.old).clamp(-20, 20).exp() * x.advantages).sum())
