"""One optimizer step: count, forward and backward part by part, one division, one update.

The denominator is the global count of the objective's units, known before any backward, so the way a batch is cut
into parts or spread over processes changes nothing but rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tunesmith.components import Method
from tunesmith.data.trees import Batch
from tunesmith.errors import ResourceError
from tunesmith.inputs import Loss, TokenLogps
from tunesmith.models.roles import Models
from tunesmith.runner.context import Context
from tunesmith.runner.processes import Processes
from tunesmith.runner.randomness import restore, snapshot
from tunesmith.runner.signals import StopRequest
from tunesmith.scoring.scorer import merge_maxima

log = logging.getLogger(__name__)


class Stopped(Exception):
    """A process was asked to stop; no gradient of this step is left."""


@dataclass(slots=True)
class StepSums:
    """Sums over the units of a step, over all processes once `reduce` was called.

    Attributes:
        total: of the objective.
        metrics: of the objective's metrics.
        means: of its metrics that have a count of their own: sum and count.
        maxima: the largest values that it reports.
        sources: by source index: summed ``-log p``, and number of tokens.
        tokens: top-1 hits and entropy of the scored tokens, where they were asked for.
    """

    num_sources: int
    device: torch.device
    detailed: bool = False
    total: Tensor = field(init=False)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, Tensor] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)
    sources: Tensor = field(init=False)
    tokens: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        exact = torch.float32 if self.device.type == "mps" else torch.float64  # mps has no float64
        zero = torch.zeros((), dtype=exact, device=self.device)
        self.total = zero.clone()
        self.sources = torch.zeros(2, self.num_sources, dtype=exact, device=self.device)
        if self.detailed:
            self.tokens = {"correct": zero.clone(), "entropy": zero.clone()}

    def add(self, loss: Loss) -> None:
        """Add the sums of one part."""
        self.total += loss.total
        for name, value in loss.metrics.items():
            self.metrics[name] = self.metrics.get(name, torch.zeros_like(self.total)) + value
        for name, pair in loss.means.items():
            self.means[name] = self.means.get(name, self.total.new_zeros(2)) + torch.stack(pair)
        merge_maxima(self.maxima, loss.maxima)

    def add_sources(self, batch: Batch, x: TokenLogps) -> None:
        """Add the tokens of one part to their sources."""
        owners = [tree.source for tree in batch.trees for _ in tree.branches]
        index = torch.tensor(owners, device=x.logps.device)[x.branches]
        logps = x.logps.detach().to(self.sources.dtype)
        self.sources[0].index_add_(0, index, -logps)
        self.sources[1].index_add_(0, index, torch.ones_like(logps))

    def reduce(self, processes: Processes) -> None:
        """Sum over processes, of which one may have had nothing to compute and so knows no metric."""
        for names, width in zip(processes.union((self.metrics, self.means)), ((), (2,)), strict=True):
            own = self.means if width else self.metrics
            for name in names:
                own.setdefault(name, self.total.new_zeros(width))
        parts = [self.total, *_by_name(self.metrics), *_by_name(self.means), *_by_name(self.tokens), self.sources]
        summed = processes.sum(torch.cat([part.reshape(-1).to(self.total.dtype) for part in parts]).tolist())
        start = 0
        for part in parts:
            piece = torch.tensor(summed[start : start + part.numel()], dtype=part.dtype, device=self.device)
            part.copy_(piece.view_as(part))
            start += part.numel()
        largest = processes.max_named({name: float(value) for name, value in self.maxima.items()})
        self.maxima = {name: torch.tensor(value) for name, value in largest.items()}


def _by_name(tensors: dict[str, Tensor]) -> list[Tensor]:
    """In an order that all processes share."""
    return [tensors[name] for name in sorted(tensors)]


class Stepper:
    """Computes the gradient of a step; halves the parts when memory runs out."""

    def __init__(
        self,
        method: Method,
        models: Models,
        processes: Processes,
        micro_tokens: int,
        num_sources: int,
        parameters: list[torch.nn.Parameter],
    ) -> None:
        self.method, self.models, self.processes = method, models, processes
        self.num_sources, self.parameters = num_sources, parameters
        self.micro_tokens = micro_tokens

    @property
    def micro_tokens(self) -> int:
        """Tokens of a part at most, as it stands now; the same for all models."""
        return self.models.policy.micro_tokens

    @micro_tokens.setter
    def micro_tokens(self, value: int) -> None:
        for scorer in self.models.scorers:
            scorer.micro_tokens = max(1, value)

    def collect(self, batch: Batch, context: Context, stop: StopRequest) -> Batch:
        """The method's `collect` and the sums over processes that its `forward` needs."""
        done: list[Batch] = []

        def work() -> None:
            done[:] = [self.method.collect(batch, context)]

        self._until_it_fits(batch, work, stop)
        collected = done[0]
        own = self.method.totals(collected)
        names = sorted(own)
        summed = self.processes.sum([own[name] for name in names])
        return replace(collected, totals=dict(zip(names, summed, strict=True)))

    def gradient(self, batch: Batch, count: float, stop: StopRequest, detailed: bool) -> StepSums:
        """Leave the gradient of the mean over ``count`` units in the parameters, summed over processes.

        Args:
            batch: this process's share.
            count: units of the whole step, over all processes.

        Raises:
            Stopped: a process was asked to stop; the gradients are cleared.
            ResourceError: out of memory with one example at a time.
        """
        box: list[StepSums] = []

        def work() -> None:
            box[:] = [StepSums(self.num_sources, self.processes.device, detailed)]
            self._parts(batch, count, stop, box[0])

        self._until_it_fits(batch, work, stop)
        self.processes.sum_tensors(_gradients(self.parameters))
        box[0].reduce(self.processes)
        return box[0]

    def _until_it_fits(self, batch: Batch, work: Callable[[], None], stop: StopRequest) -> None:
        """Do the work; when memory runs out on any process, halve the parts on all and do it again."""
        while True:
            chance = snapshot()
            try:
                work()
                exhausted = False
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                exhausted = True
            alone = sum(1 for _ in batch.split(self.micro_tokens)) == len(batch)
            asked, full, smallest = self.processes.sum([stop.code > 0, exhausted, alone])
            if not asked and not full:
                return
            self.clear()
            restore(chance)
            if asked:
                raise Stopped
            if smallest == self.processes.count:
                longest = max(tree.num_tokens for tree in batch.trees)
                raise ResourceError(
                    f"out of memory with one example of {longest:,} tokens at a time",
                    fix="try --activation-checkpointing, a smaller max_length, or --adapter lora",
                )
            self._halve()

    def _parts(self, batch: Batch, count: float, stop: StopRequest, sums: StepSums) -> None:
        """Forward and backward of every part, until a stop is asked for."""
        policy = self.models.policy
        loss_of = self._loss_of(sums)
        for part in batch.split(self.micro_tokens):
            if stop.code:
                return
            sums.add(policy.backward(part, loss_of, count, sums.tokens))

    def _loss_of(self, sums: StepSums) -> Callable[[Batch], Loss]:
        method, models, several = self.method, self.models, self.num_sources > 1

        def loss_of(part: Batch) -> Loss:
            x: Any = method.forward(models, part)
            if several and isinstance(x, TokenLogps):
                sums.add_sources(part, x)
            return method.objective(x)

        return loss_of

    def clear(self) -> None:
        """Drop the gradients; those that the head writes in place keep their memory."""
        kept = {id(parameter) for parameter in self.models.policy.written_in_place()}
        for parameter in self.parameters:
            if parameter.grad is not None and id(parameter) in kept:
                parameter.grad.zero_()
            else:
                parameter.grad = None  # the next backward hands its own over instead of adding to ours

    def _halve(self) -> None:
        if self.processes.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_tokens //= 2
        log.warning("out of memory; micro_tokens is now %d and the step is redone", self.micro_tokens)


def _gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    for parameter in parameters:
        if parameter.grad is None and parameter.requires_grad:
            # a process whose share does not reach it must still take part in the sum
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters if p.grad is not None]


def out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or "out of memory" in text
