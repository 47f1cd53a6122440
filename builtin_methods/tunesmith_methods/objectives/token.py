"""Losses over trained tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from tunesmith import Loss, Objective, TokenLogps


class NLL(Objective):
    """Negative log-likelihood of the trained tokens (cross-entropy)."""

    name: ClassVar[str] = "nll"
    inputs: ClassVar[type] = TokenLogps

    def __call__(self, x: Any) -> Loss:
        """Sum of ``-log p`` over tokens."""
        from .losses.token import nll

        return Loss(nll(x.logps))


class DFT(Objective):
    """NLL with every token weighted by its own probability, which evens out the gradient (arXiv:2508.05629)."""

    name: ClassVar[str] = "dft"
    inputs: ClassVar[type] = TokenLogps

    def __call__(self, x: Any) -> Loss:
        """Sum of ``-sg(p) * log p`` over tokens; the plain ``nll`` rides along as a metric."""
        from .losses.token import dft, nll

        return Loss(dft(x.logps), {"nll": nll(x.logps).detach()})
