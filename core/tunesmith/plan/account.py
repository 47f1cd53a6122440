"""What is in memory at a moment: models, and what a part of an update takes as it goes through them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tunesmith.components import Texts, Workload
from tunesmith.plan.body import Pass
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup, States

COMPONENTS = (
    "weights", "gradients", "optimizer", "activations", "working memory", "loss head", "KV cache", "engine copy",
    "framework",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Held:
    """A model of the run.

    Attributes:
        role: what it is.
        blueprint: its config.
        setup: how it is held.
        states: its bytes.
    """

    role: str
    blueprint: Blueprint
    setup: Setup
    states: States


@dataclass(slots=True)
class PhaseMemory:
    """Bytes in a phase, at its peak, by component and role."""

    name: str
    parts: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts.values())

    def of(self, component: str) -> float:
        """Bytes of a component, over all roles."""
        return sum(value for (name, _), value in self.parts.items() if name == component)


@dataclass(slots=True)
class Memory:
    """What a run takes on a device.

    Attributes:
        phases: in order.
        held: models in memory.
        workload: as the method declares it.
        part: the trees of the largest part of an update.
        parts: of an update, on one device.
        notes: what was assumed.
    """

    phases: list[PhaseMemory]
    held: list[Held]
    workload: Workload
    part: list[Texts]
    parts: int
    notes: list[str]

    @property
    def peak(self) -> PhaseMemory:
        """The phase that takes the most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def total(self) -> float:
        """Bytes at the peak."""
        return self.peak.total


def unpack(one: PhaseMemory, model: Held) -> None:
    """Add room for the largest quantised weight as it is while it computes."""
    if model.states.unpacked:
        key = ("working memory", model.role)
        one.parts[key] = one.parts.get(key, 0.0) + model.states.unpacked


def always_there(held: Iterable[Held]) -> dict[tuple[str, str], float]:
    """What is there in every phase, from the second step on."""
    parts: dict[tuple[str, str], float] = {}
    for model in held:
        own = {
            "weights": model.states.weights,
            "optimizer": model.states.optimizer,
            "gradients": model.states.head_gradient,
        }
        for name, value in own.items():
            parts[name, model.role] = parts.get((name, model.role), 0.0) + value
    return parts


def loading(held: list[Held]) -> PhaseMemory:
    """The largest model beside the pages of its file, which count as well while they are read."""
    parts = {("weights", model.role): float(model.states.weights) for model in held}
    most = max((model for model in held if model.setup.own_base), key=lambda model: model.states.weights)
    return PhaseMemory("load", {**parts, ("working memory", most.role): float(most.states.weights)})


def moments_of(
    found: Pass, states: States, parts: int, rows: float, head: float, beside: float
) -> list[Mapping[str, float]]:
    """What is there at the moments of an update that can be its peak.

    In the first part gradients come into being as activations go; in later ones all of them are there.

    Args:
        rows: bytes of the gradient of the scored hidden states.
        head: working memory of the loss head.
        beside: what a critic takes beside it.
    """
    every, first = float(states.gradients), float(states.head_gradient)
    early = every if parts > 1 else first

    def moment(gradients: float, activations: float, head: float = 0.0, beside: float = 0.0) -> Mapping[str, float]:
        return {"gradients": gradients, "activations": activations, "loss head": head, "beside": beside}

    return [
        moment(early, found.rising),
        moment(early, found.saved + rows, head, beside),
        moment(early, found.falling),
        moment(every, max(0.0, found.falling - found.saved)),
        moment(every, found.ending),
    ]


def parts_of(texts: Texts, trees: int, micro_tokens: int) -> tuple[list[Texts], int]:
    """The largest part of so many trees of this shape, and how many parts they make.

    Trees are not cut: one that is larger than ``micro_tokens`` is a part of its own. What the longest leave free is
    filled with a shorter one, as real batches have them.

    >>> part, parts = parts_of(Texts(answer=1500), 8, 4096)
    >>> [texts.tokens for texts in part], parts
    ([1500, 1500, 1096], 4)
    """
    fit = max(1, micro_tokens // texts.tokens)
    part = [texts] * min(fit, trees)
    left = micro_tokens - fit * texts.tokens
    if trees > fit and left > 1:
        part.append(Texts(answer=left))
    return part, math.ceil(trees / fit)
