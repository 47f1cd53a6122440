"""One optimizer step: count, forward and backward part by part, one division, one update.

The denominator is the global count of the objective's units, known before any backward, so the way a batch is cut
into parts or spread over processes changes nothing but rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tunesmith.components import Method
from tunesmith.data.trees import Batch
from tunesmith.errors import ResourceError
from tunesmith.inputs import Loss, TokenLogps
from tunesmith.models.roles import Models
from tunesmith.runner.processes import Processes
from tunesmith.runner.randomness import restore, snapshot
from tunesmith.runner.signals import StopRequest

log = logging.getLogger(__name__)


class Stopped(Exception):
    """A process was asked to stop; no gradient of this step is left."""


@dataclass(slots=True)
class StepSums:
    """Sums over the units of a step, over all processes once `reduce` was called.

    Attributes:
        total: of the objective.
        metrics: of the objective's metrics.
        sources: by source index: summed ``-log p``, and number of tokens.
        tokens: top-1 hits and entropy of the scored tokens, where they were asked for.
    """

    num_sources: int
    device: torch.device
    detailed: bool = False
    total: Tensor = field(init=False)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    sources: Tensor = field(init=False)
    tokens: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        self.total = zero.clone()
        self.sources = torch.zeros(2, self.num_sources, dtype=torch.float64, device=self.device)
        if self.detailed:
            self.tokens = {"correct": zero.clone(), "entropy": zero.clone()}

    def add(self, loss: Loss) -> None:
        """Add the sums of one part."""
        self.total += loss.total
        for name, value in loss.metrics.items():
            self.metrics[name] = self.metrics.get(name, torch.zeros_like(self.total)) + value

    def add_sources(self, batch: Batch, x: TokenLogps) -> None:
        """Add the tokens of one part to their sources."""
        owners = [tree.source for tree in batch.trees for _ in tree.branches]
        index = torch.tensor(owners, device=x.logps.device)[x.branches]
        self.sources[0].index_add_(0, index, -x.logps.detach().double())
        self.sources[1].index_add_(0, index, torch.ones_like(x.logps, dtype=torch.float64))

    def reduce(self, processes: Processes) -> None:
        """Sum over processes."""
        names = sorted(self.metrics)
        stacked = [self.total, *(self.metrics[n] for n in names), *self.tokens.values(), *self.sources.flatten()]
        summed = processes.sum([float(v) for v in stacked])
        self.total.fill_(summed[0])
        for name, value in zip(names, summed[1:], strict=False):
            self.metrics[name].fill_(value)
        rest = summed[1 + len(names) :]
        for key, value in zip(self.tokens, rest, strict=False):
            self.tokens[key].fill_(value)
        flat = torch.tensor(rest[len(self.tokens) :], dtype=torch.float64, device=self.device)
        self.sources.copy_(flat.view_as(self.sources))


class Stepper:
    """Computes the gradient of a step; halves the parts when memory runs out.

    Attributes:
        micro_tokens: tokens of a part at most, as it stands now.
    """

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
        self.micro_tokens, self.num_sources, self.parameters = micro_tokens, num_sources, parameters

    def gradient(self, batch: Batch, count: float, stop: StopRequest, detailed: bool) -> StepSums:
        """Leave the gradient of the mean over ``count`` units in the parameters, summed over processes.

        Args:
            batch: this process's share.
            count: units of the whole step, over all processes.

        Raises:
            Stopped: a process was asked to stop; the gradients are cleared.
            ResourceError: out of memory with one example at a time.
        """
        while True:
            chance = snapshot()
            sums = StepSums(self.num_sources, self.processes.device, detailed)
            exhausted = self._parts(batch, count, stop, sums)
            alone = sum(1 for _ in batch.split(self.micro_tokens)) == len(batch)
            asked, full, smallest = self.processes.sum([stop.code > 0, exhausted, alone])
            if not asked and not full:
                break
            self.clear()
            if asked:
                raise Stopped
            restore(chance)
            if smallest == self.processes.count:
                longest = max(tree.num_tokens for tree in batch.trees)
                raise ResourceError(
                    f"out of memory with one example of {longest:,} tokens at a time",
                    fix="try --activation-checkpointing, a smaller max_length, or --adapter lora",
                )
            self._halve()
        self.processes.sum_tensors(_gradients(self.parameters))
        sums.reduce(self.processes)
        return sums

    def _parts(self, batch: Batch, count: float, stop: StopRequest, sums: StepSums) -> bool:
        """Forward and backward of every part; True when memory ran out."""
        policy = self.models.policy
        loss_of = self._loss_of(sums)
        try:
            for part in batch.split(self.micro_tokens):
                if stop.code:
                    return False
                sums.add(policy.backward(part, loss_of, count, sums.tokens))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return True
        return False

    def _loss_of(self, sums: StepSums) -> Callable[[Batch], Loss]:
        method, models, several = self.method, self.models, self.num_sources > 1

        def loss_of(part: Batch) -> Loss:
            x: Any = method.forward(models, part)
            if several and isinstance(x, TokenLogps):
                sums.add_sources(part, x)
            return method.objective(x)

        return loss_of

    def clear(self) -> None:
        """Zero the gradients; their memory is kept for the next step."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()

    def _halve(self) -> None:
        if self.processes.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_tokens = max(1, self.micro_tokens // 2)
        log.warning("out of memory; micro_tokens is now %d and the step is redone", self.micro_tokens)


def _gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    for parameter in parameters:
        if parameter.grad is None:  # a process whose share does not reach it must still take part in the sum
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in parameters if p.grad is not None]


def out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or "out of memory" in text
