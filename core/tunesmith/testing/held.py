"""Finite differences that keep what a loss itself holds constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

STEP = 1e-5
"""Of a directional difference; in float64 its error is about the square of it."""


class _Held(TorchFunctionMode):
    """Remembers what is cut off from the graph, and puts it back in later passes.

    A weight that a loss detaches, or computes without gradient, is meant to be constant: the gradient is that of the
    value with such weights held at what they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.replayed: int | None = None
        self._cut = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            self._cut = not args[0]
        if func in (Tensor.item, Tensor.__float__) and args[0].requires_grad:
            args = (args[0].detach(), *args[1:])  # a number taken out of the graph, of which torch would warn
        result = _kept_wide(func, args, kwargs or {})
        cut = func in (Tensor.detach, Tensor.detach_) or (self._cut and isinstance(result, Tensor))
        return self._held(result) if cut else result

    def _held(self, result: Any) -> Any:
        if self.replayed is None:
            self.found.append(result.clone())
            return result
        before = self.found[self.replayed] if self.replayed < len(self.found) else result
        self.replayed += 1
        return before if before.shape == result.shape else result


def _kept_wide(func: Any, args: Any, kwargs: Any) -> Any:
    """The result, in float64 where models and losses go down to float32 for good reasons of their own."""
    wide = bool(args) and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
    narrows = kwargs.get("dtype") == torch.float32
    if wide and (func is Tensor.float or (func is Tensor.to and (narrows or torch.float32 in args))):
        return args[0]
    if wide and narrows:
        kwargs = {**kwargs, "dtype": torch.float64}
    return func(*args, **kwargs)


class Held:
    """A function of tensors whose constants stay as they were when it was first called."""

    def __init__(self, function: Callable[[], Tensor]) -> None:
        self._function, self._mode = function, _Held()
        with self._mode:
            self.first = function()

    def again(self) -> float:
        """Its value now."""
        self._mode.replayed = 0
        with self._mode:
            return float(self._function())


@contextmanager
def moved(tensors: Sequence[Tensor], directions: Sequence[Tensor], step: float) -> Iterator[None]:
    """The tensors moved in place for a while."""
    before = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor, direction in zip(tensors, directions, strict=True):
            tensor.add_(direction, alpha=step)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)


def slope(held: Held, tensors: Sequence[Tensor], directions: Sequence[Tensor], step: float = STEP) -> float:
    """Central difference of a function along a direction of its float64 tensors."""
    values = []
    for sign in (1, -1):
        with moved(tensors, directions, sign * step):
            values.append(held.again())
    return (values[0] - values[1]) / (2 * step)
