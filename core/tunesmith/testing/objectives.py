"""Checks of a loss: a sum over units, of which each minds its own, with the gradient that it says it has."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tunesmith.components import Objective
from tunesmith.errors import ConfigError
from tunesmith.inputs import Loss
from tunesmith.plugins import Registry
from tunesmith.testing.held import Held, slope
from tunesmith.testing.loss_inputs import Atom, Kind, kind_of
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite, Unchecked

TREES = 7
SAME = 1e-9
"""Numbers in float64 that differ by less are the same."""
SLOPE = 1e-6
"""How far a difference in float64 may be from the gradient, as a share of its size."""
EXTREMES = (-1e4, 0.0)


@dataclass(frozen=True, slots=True)
class Subject:
    """A loss and what it reads.

    Attributes:
        objective: with its settings.
        kind: how its input is made.
        trees: seven, at random.
    """

    objective: Objective
    kind: Kind
    trees: Sequence[Atom]

    def loss(self, trees: Sequence[Atom]) -> Loss:
        """Of these trees together."""
        return self._sum(self.kind.made(trees))

    def gradients(self, trees: Sequence[Atom]) -> list[Tensor]:
        """Of the sum over these trees, by field."""
        x = self.kind.made(trees)
        return self.gradients_of(self._sum(x).total, x)

    def gradients_of(self, total: Tensor, x: Any) -> list[Tensor]:
        """Of a sum, by field of its input; 0 for what it does not depend on."""
        leaves = self.kind.leaves(x)
        return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))

    def _sum(self, x: Any) -> Loss:
        found: Loss = self.objective(x)
        return found

    def count(self, x: Any) -> int:
        """Units of an input, as the runner counts them."""
        unit = self.objective.unit
        if hasattr(x, "branches"):
            owners = x.branches if unit == "sequence" else x.trees[x.branches] if unit == "prompt" else None
            return len(x.logps) if owners is None else len(owners.unique())
        return len(x.margins if hasattr(x, "margins") else x.logps if hasattr(x, "logps") else x.chosen)


# ---------------------------------------------------------------------------------------------- a sum
def _halves(subject: Subject) -> tuple[Loss, Loss, Loss]:
    trees, middle = subject.trees, len(subject.trees) // 2
    return subject.loss(trees), subject.loss(trees[:middle]), subject.loss(trees[middle:])


def sums(subject: Subject) -> Finding:
    """It can be evaluated a few trees at a time."""
    whole, one, other = _halves(subject)
    if whole.total.shape != ():
        return failed(f"the total has the shape {tuple(whole.total.shape)}; it is one number")
    parts = one.total + other.total
    if not _same(whole.total, parts):
        return failed(
            f"{_number(whole.total):.6g} for {TREES} trees, {_number(parts):.6g} for 3 and 4 of them: not a sum"
        )
    return ok(f"{_number(whole.total):.6g} for {TREES} trees at once, and in two parts")


def metrics(subject: Subject) -> Finding:
    """Metrics are sums as well, and have no gradient."""
    whole, one, other = _halves(subject)
    tensors = [
        *whole.metrics.values(),
        *whole.maxima.values(),
        *(part for pair in whole.means.values() for part in pair),
    ]
    if any(tensor.requires_grad for tensor in tensors):
        return failed("a metric carries gradient, which keeps the graph of every part alive: detach it")
    for kept in ("metrics", "means", "maxima"):
        names = {*getattr(one, kept), *getattr(other, kept)}
        if odd := names ^ set(getattr(whole, kept)):
            return failed(f"{', '.join(sorted(odd))} is not reported of every part")
    wrong = [name for name, value in whole.metrics.items() if not _same(value, one.metrics[name] + other.metrics[name])]
    wrong += [
        name
        for name, pair in whole.means.items()
        if not all(_same(all_, a + b) for all_, a, b in zip(pair, one.means[name], other.means[name], strict=True))
    ]
    wrong += [n for n, v in whole.maxima.items() if not _same(v, torch.maximum(one.maxima[n], other.maxima[n]))]
    if wrong:
        return failed(f"{', '.join(wrong)}: of two parts it is not the sum (the larger one, of maxima)")
    return ok(f"{len(whole.metrics)} sums, {len(whole.means)} means, {len(whole.maxima)} maxima" if tensors else "none")


def segments(subject: Subject) -> Finding:
    """The gradient of a tree does not depend on what else is there."""
    others = subject.kind.trees(TREES - 1, seed=1)
    ours, theirs = subject.gradients(subject.trees), subject.gradients([subject.trees[0], *others])
    for name, one, other in zip(subject.kind.trained, ours, theirs, strict=True):
        own = len(subject.trees[0][name])
        if not _same(one[:own], other[:own]):
            distance = float((one[:own] - other[:own]).abs().max())
            return failed(f"the gradient of {name} of a tree differs by {distance:.2g} beside other trees")
    return ok("the gradient of a tree is its own affair")


def order(subject: Subject) -> Finding:
    """Trees in another order give the same."""
    ours, theirs = subject.loss(subject.trees).total, subject.loss(subject.trees[::-1]).total
    if not _same(ours, theirs):
        return failed(f"{_number(ours):.6g}, and {_number(theirs):.6g} in reverse order")
    return ok("the same in reverse order")


# ---------------------------------------------------------------------------------------------- what it is a sum of
def unit(subject: Subject) -> Finding:
    """What the runner divides by is what the loss is a sum of."""
    declared, kind = subject.objective.unit, subject.kind
    if declared not in kind.units:
        return failed(
            f"unit is {declared!r}; a loss over {kind.cls.__name__} is summed over a {' or '.join(kind.units)}"
        )
    if "sizes" not in subject.trees[0]:
        return ok(f"summed over every {declared}")
    trees = [subject.kind.on_policy(tree) for tree in subject.trees]  # ratios of whole answers count their tokens
    alone = subject.loss(trees).total
    if declared == "token":
        longer = subject.loss([_repeated(tree, "token") for tree in trees]).total
        if not _same(longer, 2 * alone):
            return failed("with every token twice the sum is not twice as large, so it is none over tokens")
        return ok("with every token twice it is twice as large")
    wider = subject.loss([_repeated(tree, "branch") for tree in trees]).total
    factor = 1 if declared == "prompt" else 2
    if not _same(wider, factor * alone):
        return failed(
            f"with every answer twice the sum should be {factor} times as large, as a sum over every {declared}"
        )
    return ok(f"with every answer twice it is {factor} times as large, as a sum over every {declared} is")


def _repeated(tree: Atom, what: str) -> Atom:
    """Every token of a tree twice, side by side, or every branch twice."""
    if what == "branch":
        return {name: torch.cat([values, values]) for name, values in tree.items()}
    doubled = {name: values.repeat_interleave(2) for name, values in tree.items() if name != "sizes"}
    return {**doubled, "sizes": tree["sizes"] * 2}


def at_start(subject: Subject) -> Finding:
    """What is known before anything was learned."""
    known = subject.objective.at_start()
    if not known:
        return skipped("at_start() declares nothing")
    x = subject.kind.made([subject.kind.at_start(tree) for tree in subject.trees])
    loss, count = subject.objective(x), subject.count(x)
    found: dict[str, float] = {"loss": _number(loss.total) / count}
    found |= {name: _number(value) / count for name, value in loss.metrics.items()}
    found |= {name: _number(value) / _number(number) for name, (value, number) in loss.means.items() if number > 0}
    for name, value in known.items():
        if name not in found:
            return failed(f"at_start() speaks of {name}, and it reports {', '.join(found)}")
        if not abs(found[name] - value) <= SAME * max(1.0, abs(value)):
            return failed(f"{name} is {found[name]:.9g}, not {value:.9g}, where all is equally likely to everybody")
    return ok("; ".join(f"{name} is {value:.6g}" for name, value in known.items()))


# ---------------------------------------------------------------------------------------------- gradients
def gradient(subject: Subject) -> Finding:
    """Autograd's gradient is that of the value; what is detached or without gradient counts as constant."""
    x = subject.kind.made(subject.trees)
    leaves = subject.kind.leaves(x)
    held = Held(lambda: subject.objective(x).total)
    if not held.first.requires_grad:
        return failed("the total has no gradient")
    ours = subject.gradients_of(held.first, x)
    size = float(torch.cat(ours).norm())
    if size == 0:
        return failed("it is zero everywhere: nothing would be learned")
    chance = torch.Generator().manual_seed(0)
    for _ in range(3):
        directions = [torch.randn(len(leaf), generator=chance, dtype=torch.float64) for leaf in leaves]
        found = sum(float(g @ d) for g, d in zip(ours, directions, strict=True))
        wanted = slope(held, leaves, directions)
        if not abs(found - wanted) <= SLOPE * size * max(float(d.norm()) for d in directions):
            return failed(f"along a random direction it is {found:.8g}, and the value changes by {wanted:.8g}")
    return ok(f"that of the value in 3 directions; its size is {size:.3g}")


def extremes(subject: Subject) -> Finding:
    """Hopeless and certain answers give finite numbers, in float32."""
    kind = subject.kind
    tried = 0
    for values in product(EXTREMES, repeat=len(kind.logps)):
        trees = [{**tree, **_set(tree, dict(zip(kind.logps, values, strict=True)))} for tree in subject.trees]
        x = kind.made(trees, torch.float32)
        loss = subject.objective(x)
        numbers = [loss.total, *subject.gradients_of(loss.total, x), *loss.metrics.values()]
        tried += 1
        if not all(bool(torch.isfinite(number).all()) for number in numbers):
            told = ", ".join(f"{name} {value:g}" for name, value in zip(kind.logps, values, strict=True))
            return failed(f"not finite where {told}")
    return ok(f"finite in {tried} combinations of {' and '.join(f'{value:g}' for value in EXTREMES)}")


def _set(tree: Atom, values: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: torch.full_like(tree[name], value) for name, value in values.items()}


def empty(subject: Subject) -> Finding:
    """A part without any unit adds nothing, and does not break the backward pass."""
    x = subject.kind.made([])
    total = subject.objective(x).total
    if _number(total) != 0:
        return failed(f"{_number(total):g} for no tree at all; a sum over nothing is 0")
    if not total.requires_grad:
        return failed("without any tree the total has no gradient, so that the backward pass would raise")
    total.backward()  # type: ignore[no-untyped-call]
    return ok("0, with a gradient, for no tree at all")


def optional(subject: Subject) -> Finding:
    """It does without what a method need not supply, or says what it needs."""
    names = [f.name for f in fields(subject.kind.cls) if f.default is None and f.name != "longest"]
    names = [name for name in names if getattr(subject.kind.made(subject.trees), name) is not None]
    if not names:
        return skipped("nothing that it reads is optional")
    refused = []
    for name in names:
        x = replace(subject.kind.made(subject.trees), **{name: None})
        try:
            loss = subject.objective(x)
        except ConfigError as error:
            refused.append(f"without {name}: {' '.join(str(error).split())}")
            continue
        if not bool(torch.isfinite(loss.total)):
            return failed(f"without {name} it is not finite")
    return ok("; ".join(refused) or f"does without {', '.join(names)}")


def pure(subject: Subject) -> Finding:
    """It changes nothing that it reads, and says the same twice."""
    x = subject.kind.made(subject.trees)
    before = {field.name: copy.deepcopy(getattr(x, field.name)) for field in fields(x)}
    first, second = subject.objective(x).total, subject.objective(x).total
    for name, value in before.items():
        now = getattr(x, name)
        if not (torch.equal(now, value) if isinstance(value, Tensor) else now == value):
            return failed(f"it changes {name}, which others read too")
    if not torch.equal(first, second):
        return failed(f"{_number(first):.9g}, and then {_number(second):.9g} for the same")
    return ok("it changes nothing that it reads, and says the same twice")


def _number(value: Tensor) -> float:
    return float(value.detach())


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=SAME, atol=SAME)


# ---------------------------------------------------------------------------------------------- the suite
@contextmanager
def subject(objective: Objective, registry: Registry) -> Iterator[Subject]:
    """A loss and random trees of what it reads."""
    kind = kind_of(objective.inputs)
    if kind is None:
        name = objective.inputs.__name__
        raise Unchecked(
            Finding("inputs", "skipped", f"{name} is an input of its own; the method that supplies it is checked")
        )
    yield Subject(objective, kind, kind.trees(TREES))


SUITE = Suite(
    "objective",
    subject,
    {
        "sum over units": sums,
        "metrics": metrics,
        "segments": segments,
        "row order": order,
        "unit": unit,
        "at start": at_start,
        "gradient": gradient,
        "extremes": extremes,
        "empty": empty,
        "optional inputs": optional,
        "no side effects": pure,
    },
)
