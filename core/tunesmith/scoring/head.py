"""Log-probabilities of the scored tokens from hidden states, a few rows of logits at a time.

Neither ``[T, V]`` logits nor logits of tokens that are not scored ever exist. Where the caller evaluates its
objective chunk by chunk (`Sink`), the probabilities of a chunk are still at hand when its gradient arrives: three
matrix products instead of the four of recomputing them, and no gradient buffer beyond the parameters' own.

Shape letters: S scored tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_BYTES = 64 << 20
"""Memory for one chunk of fp32 logits."""
CHUNK_BYTES_GPU = 512 << 20
"""The same on a GPU, where a matrix product of few rows leaves most of it idle."""


@dataclass(slots=True)
class Sink:
    """Where gradients of staged rows go: straight into place, without a graph.

    Attributes:
        hidden_grad: ``[S, H]``, the gradient of all staged rows; `None` when nothing below the head is trained.
        row: index of the chunk's first row.
        stats: sums over tokens of ``correct`` (the target was the most probable token) and ``entropy`` in nats;
            filled where the keys are present.
    """

    hidden_grad: Tensor | None
    row: int = 0
    stats: dict[str, Tensor] = field(default_factory=dict)


class Head:
    """The LM head: weight ``[V, H]``, optional bias ``[V]``, optional soft cap on the logits.

    Attributes:
        temperature: the logits are divided by it, after the soft cap.
    """

    def __init__(self, linear: nn.Linear, softcap: float | None = None) -> None:
        self.linear, self.softcap, self.temperature = linear, softcap, 1.0
        self._buffer: Tensor | None = None
        self._tanh: Tensor | None = None
        self._owner: object = None
        self._low: tuple[int, Tensor] | None = None

    def weight_as(self, dtype: torch.dtype) -> Tensor:
        """The weight in the dtype of the hidden states; a copy is kept until the weight changes or `release`."""
        weight = self.linear.weight.detach()
        if weight.dtype == dtype:
            return weight
        if self._low is None or self._low[0] != weight._version or self._low[1].dtype != dtype:
            self._low = (weight._version, weight.to(dtype))
        return self._low[1]

    @property
    def rows(self) -> int:
        """Rows of logits in a chunk."""
        weight = self.linear.weight
        chunk = CHUNK_BYTES_GPU if weight.is_cuda else CHUNK_BYTES
        return max(16, chunk // (4 * weight.shape[0]))

    def logps(self, hidden: Tensor, targets: Tensor, sink: Sink | None = None) -> Tensor:
        """``[S]`` fp32 log-probabilities of ``targets [S]`` given ``hidden [S, H]``.

        With a ``sink``, the backward writes the gradients there and into the parameters' ``.grad``.
        """
        if sink is None:
            return _Logps.apply(hidden, self.linear.weight, self.linear.bias, None, targets, self, None)  # type: ignore[no-any-return, no-untyped-call]  # torch's apply is untyped
        anchor = torch.zeros((), device=hidden.device, requires_grad=True)
        return _Logps.apply(hidden.detach(), None, None, anchor, targets, self, sink)  # type: ignore[no-any-return, no-untyped-call]  # torch's apply is untyped

    def _room(self, rows: int, device: torch.device) -> Tensor:
        """``[rows, V]`` fp32 of the buffer that all chunks share: fresh memory costs more than the arithmetic."""
        if self._buffer is None or len(self._buffer) < rows or self._buffer.device != device:
            shape = (max(rows, min(self.rows, 2 * rows)), self.linear.weight.shape[0])
            self._buffer = torch.empty(shape, device=device)
            self._tanh = torch.empty(shape, device=device) if self.softcap else None
        return self._buffer[:rows]

    def probabilities(self, hidden: Tensor, owner: object) -> tuple[Tensor, Tensor, Tensor]:
        """Unnormalised ``exp(logits - max)`` ``[n, V]`` in the shared buffer, ``max [n, 1]``, their sum ``[n, 1]``."""
        logits = self._room(len(hidden), hidden.device)
        weight, bias = self.weight_as(hidden.dtype), self.linear.bias
        if hidden.dtype == logits.dtype:
            torch.mm(hidden, weight.t(), out=logits)
        else:
            logits.copy_(hidden @ weight.t())
        if bias is not None:
            logits.add_(bias.detach())
        if self.softcap:
            assert self._tanh is not None
            tanh = torch.tanh(logits.div_(self.softcap), out=self._tanh[: len(hidden)])
            torch.mul(tanh, self.softcap, out=logits)
        if self.temperature != 1.0:
            logits.div_(self.temperature)
        self._owner = owner
        top = logits.amax(1, keepdim=True)
        logits.sub_(top).exp_()
        return logits, top, logits.sum(1, keepdim=True)

    def holds(self, owner: object, rows: int) -> Tensor | None:
        """The buffer when it still holds what ``owner`` put there."""
        return self._buffer[:rows] if self._owner is owner and self._buffer is not None else None

    def release(self) -> None:
        """Forget what the buffer holds, and the copy of the weight."""
        self._owner = self._low = None

    def logits_gradient(self, exps: Tensor, sums: Tensor, targets: Tensor, grad: Tensor) -> Tensor:
        """In place: the gradient of the raw logits ``grad * (onehot - p)``, through the soft cap."""
        exps.mul_(-grad[:, None] / sums)
        exps.scatter_add_(1, targets[:, None], grad[:, None])
        if self.temperature != 1.0:
            exps.div_(self.temperature)
        if self.softcap:
            assert self._tanh is not None
            tanh = self._tanh[: len(exps)]
            exps.addcmul_(exps * tanh, tanh, value=-1.0)
        self._owner = None
        return exps


class _Logps(torch.autograd.Function):
    """See `Head.logps`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        anchor: Tensor | None,
        targets: Tensor,
        head: Head,
        sink: Sink | None,
    ) -> Tensor:
        out = torch.empty(len(hidden), device=hidden.device)
        for lo in range(0, len(hidden), head.rows):
            hi = min(len(hidden), lo + head.rows)
            exps, top, sums = head.probabilities(hidden[lo:hi], ctx)
            chosen = exps.gather(1, targets[lo:hi, None])
            out[lo:hi] = _logps_of(chosen, sums, exps, top, head, hidden[lo:hi], targets[lo:hi])
            if sink is not None and sink.stats:
                _add_stats(sink.stats, exps, sums, chosen)
        ctx.save_for_backward(hidden, targets)
        ctx.head, ctx.sink = head, sink
        # what the buffer holds is only worth keeping when it is the whole input
        ctx.sums = sums if len(hidden) and len(hidden) <= head.rows else None
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, targets = ctx.saved_tensors
        head, sink = ctx.head, ctx.sink
        linear = head.linear
        if sink is not None:
            into, weight_grad, bias_grad = sink.hidden_grad, _grad_of(linear.weight), _grad_of(linear.bias)
            into = into[sink.row : sink.row + len(hidden)] if into is not None else None
        else:
            wanted = ctx.needs_input_grad
            into = torch.empty_like(hidden) if wanted[0] else None
            weight_grad = torch.zeros_like(linear.weight) if wanted[1] else None
            bias_grad = torch.zeros_like(linear.bias) if wanted[2] and linear.bias is not None else None
        for lo in range(0, len(hidden), head.rows):
            hi = min(len(hidden), lo + head.rows)
            rows = hidden[lo:hi]
            exps = head.holds(ctx, len(rows)) if ctx.sums is not None else None
            sums = ctx.sums
            if exps is None:
                exps, _, sums = head.probabilities(rows, ctx)
            delta = head.logits_gradient(exps, sums, targets[lo:hi], grad[lo:hi].float())
            low = head.weight_as(rows.dtype)
            _products(delta, rows, low, None if into is None else into[lo:hi], weight_grad, bias_grad)
        return (None,) * 7 if sink is not None else (into, weight_grad, bias_grad, None, None, None, None)


def _logps_of(
    chosen: Tensor, sums: Tensor, exps: Tensor, top: Tensor, head: Head, hidden: Tensor, targets: Tensor
) -> Tensor:
    """``log(exp / sum)`` of the chosen tokens; where the exponential underflowed, from the logit itself."""
    logps = (chosen.log() - sums.log()).squeeze(1)
    lost = chosen.squeeze(1) < 1e-30
    if bool(lost.any()):
        weight = head.linear.weight.detach()[targets[lost]]
        logits = (hidden[lost].float() * weight.float()).sum(1)
        if head.linear.bias is not None:
            logits = logits + head.linear.bias.detach()[targets[lost]]
        if head.softcap:
            logits = head.softcap * torch.tanh(logits / head.softcap)
        logits = logits / head.temperature
        logps[lost] = logits - top[lost].squeeze(1) - sums[lost].log().squeeze(1)
    return logps


def _add_stats(stats: dict[str, Tensor], exps: Tensor, sums: Tensor, chosen: Tensor) -> None:
    """Entropy = log sum + sum of p * (max - logit); the most probable token has an exponential of exactly 1."""
    stats["correct"] += (chosen >= 1.0).sum()
    stats["entropy"] += (sums.log().squeeze(1) - torch.special.xlogy(exps, exps).sum(1) / sums.squeeze(1)).sum()


def _grad_of(parameter: nn.Parameter | None) -> Tensor | None:
    """The parameter's own gradient buffer, made when it is missing."""
    if parameter is None or not parameter.requires_grad:
        return None
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _products(
    delta: Tensor,
    hidden: Tensor,
    weight: Tensor,
    hidden_grad: Tensor | None,
    weight_grad: Tensor | None,
    bias_grad: Tensor | None,
) -> None:
    """The two matrix products of the backward, written into place; ``weight`` has the dtype of ``hidden``."""
    same = hidden.dtype == delta.dtype
    low = delta if same else delta.to(hidden.dtype)
    if hidden_grad is not None:
        torch.mm(low, weight, out=hidden_grad)
    if weight_grad is not None:
        if same and weight_grad.dtype == delta.dtype:
            weight_grad.addmm_(low.t(), hidden)
        else:
            weight_grad.add_(low.t() @ hidden)
    if bias_grad is not None:
        bias_grad.add_(delta.sum(0))
