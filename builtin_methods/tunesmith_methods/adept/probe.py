"""What general text needs of a model: of its layers, and of the tensors in them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tunesmith import Loss
from tunesmith.data.trees import Batch, Tree

from .branches import hidden_input
from .importance import Unit

if TYPE_CHECKING:
    from tunesmith.runner.context import Context
    from tunesmith.scoring.scorer import Scorer

log = logging.getLogger(__name__)
SAY_SECONDS = 15.0
"""Time between two words about how far the layers are."""


@dataclass(slots=True)
class Probe:
    """General text, in halves that count the same: documents, and answers to instructions.

    Attributes:
        halves: the trees of this process, one list for each kind that there is.
        counts: scored tokens of each half over all processes.
    """

    halves: list[list[Tree]]
    counts: list[int]
    sum_tensors: Callable[[list[Tensor]], None] = field(default=lambda tensors: None)

    @classmethod
    def of(cls, ctx: Context, groups: Sequence[str], size: int) -> Probe:
        """``size`` trees of each group that has rows, spread evenly over it; every process takes its share."""
        halves = [trees for group in groups if (trees := evenly(ctx, group, size))]
        counts = [sum(tree.num_scored for tree in trees) for trees in halves]
        own = [trees[ctx.rank :: ctx.processes] for trees in halves]
        return cls(own, counts, ctx.sum_tensors)

    def __len__(self) -> int:
        return len(self.halves)


def evenly(ctx: Context, group: str, size: int) -> list[Tree]:
    """At most ``size`` trees of a group, at equal distances over all of its rows."""
    corpora = list(ctx.corpora.get(group, ()))
    total = sum(len(corpus) for corpus in corpora)
    count = min(size, total)
    wanted = [i * total // count for i in range(count)]
    trees, start = [], 0
    for corpus in corpora:
        trees += [corpus[i - start] for i in wanted if start <= i < start + len(corpus)]
        start += len(corpus)
    return trees


# ---------------------------------------------------------------------------------------------- layers
def layer_importance(policy: Scorer, layers: Sequence[nn.Module], probe: Probe) -> tuple[list[float], list[float]]:
    """By how much general text gets less likely when a layer hands on its input: nats per token, one number a layer.

    ``len(layers) + 1`` passes over the probe, without gradient. Each half counts the same, however many tokens it has.

    Returns:
        the importance of every layer, and the loss of the model as it is on each half.
    """
    rows, said = [_losses(policy, probe)], time.monotonic()
    for number, layer in enumerate(layers):
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            log.info("layers   %d of %d measured", number, len(layers))
        with bypassed(layer):
            rows.append(_losses(policy, probe))
    sums = torch.stack(rows)
    probe.sum_tensors([sums])
    losses = sums.cpu() / torch.tensor(probe.counts)
    return (losses[1:] - losses[0]).mean(1).tolist(), losses[0].tolist()


@contextlib.contextmanager
def bypassed(layer: nn.Module) -> Iterator[None]:
    """The layer hands on what it is given: only the residual is left of it."""
    handle = layer.register_forward_hook(_hand_on, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _hand_on(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    hidden = hidden_input(args, kwargs)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _losses(policy: Scorer, probe: Probe) -> Tensor:
    """``[halves]`` summed ``-log p`` of this process's share of each."""
    exact = torch.float32 if policy.device.type == "mps" else torch.float64
    sums = torch.zeros(len(probe), dtype=exact, device=policy.device)
    with torch.no_grad():
        for half, trees in enumerate(probe.halves):
            for part in Batch(trees).split(policy.micro_tokens):
                sums[half] -= policy.token_logps(part).logps.sum(dtype=exact)
    return sums


# ---------------------------------------------------------------------------------------------- tensors
def unit_importance(
    policy: Scorer, parameters: Mapping[str, nn.Parameter], probe: Probe
) -> tuple[dict[str, float], list[float]]:
    """Mean ``|theta * dL/dtheta|`` of every tensor, L the mean loss on general text (first-order Taylor).

    The gradient is that of the whole probe, so the number does not depend on how it is cut into parts. Absolute values:
    a mean of signed ones can cancel. The halves are taken one by one and averaged, lest their gradients cancel.

    Args:
        policy: only these parameters may be trainable.
        parameters: by name.

    Returns:
        the importance of every tensor, and the loss on each half. No gradient is left behind.
    """
    found = torch.zeros(len(parameters))
    losses = []
    for trees, count in zip(probe.halves, probe.counts, strict=True):
        total = torch.zeros((), device=policy.device)
        for part in Batch(trees).split(policy.micro_tokens):
            total += policy.backward(part, lambda batch: _nll(policy, batch), count).total
        gradients = [_gradient(parameter) for parameter in parameters.values()]
        probe.sum_tensors([*gradients, total])
        values = [_mean_product(p, g) for p, g in zip(parameters.values(), gradients, strict=True)]
        found += torch.stack(values).cpu() / len(probe)
        losses.append(float(total) / count)
        for parameter in parameters.values():
            parameter.grad = None
    return dict(zip(parameters, found.tolist(), strict=True)), losses


def _nll(policy: Scorer, batch: Batch) -> Loss:
    return Loss(-policy.token_logps(batch).logps.sum())


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _mean_product(parameter: nn.Parameter, gradient: Tensor) -> Tensor:
    return (parameter.detach().float() * gradient.float()).abs().mean()


def units_of(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> dict[str, Unit]:
    """Sizes, and which tensors belong to a norm: its ``weight`` is a vector."""
    units = {}
    for name, parameter in parameters.items():
        owner = module.get_submodule(name.rpartition(".")[0])
        weight = owner._parameters.get("weight")
        units[name] = Unit(parameter.numel(), norm=weight is not None and weight.ndim == 1)
    return units
