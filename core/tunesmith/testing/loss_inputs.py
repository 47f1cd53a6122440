"""What objectives read, made up: a tree at a time, so that any of them can be put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tunesmith.inputs import (
    CriticLogps,
    PairLogps,
    PolicyLogps,
    RankedScores,
    ReferencedPairLogps,
    TokenLogps,
    UnpairedLogps,
)

Atom = Mapping[str, Tensor]
"""A tree: values of its branches, tokens or pair by the name of the field. Of a tree with branches, ``sizes`` are the
numbers of their tokens."""
LEVEL = math.log(300.0)
"""Nats of a token where 300 are equally likely."""
LONGEST = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of input is made.

    Attributes:
        cls: the dataclass.
        draw: a tree with random numbers.
        join: from trees to the input.
        trained: fields that carry gradient.
        logps: fields of log-probabilities or scores, one of them without gradient perhaps.
        units: what a loss over it can be summed over.
    """

    cls: type
    draw: Callable[[torch.Generator], dict[str, Tensor]]
    join: Callable[[Sequence[Atom]], Any]
    trained: tuple[str, ...]
    logps: tuple[str, ...]
    units: tuple[str, ...]

    def trees(self, count: int, seed: int = 0) -> list[Atom]:
        """So many trees."""
        chance = torch.Generator().manual_seed(seed)
        return [self.draw(chance) for _ in range(count)]

    def made(self, trees: Sequence[Atom], dtype: torch.dtype = torch.float64) -> Any:
        """The input, with what carries gradient as leaves."""
        x = self.join(trees)
        changed = {}
        for field in fields(x):
            value = getattr(x, field.name)
            if isinstance(value, Tensor) and value.is_floating_point():
                value = value.to(dtype)
                changed[field.name] = value.detach().clone().requires_grad_(field.name in self.trained)
        return replace(x, **changed)

    def leaves(self, x: Any) -> list[Tensor]:
        """Its tensors that carry gradient."""
        return [getattr(x, name) for name in self.trained]

    def on_policy(self, tree: Atom) -> Atom:
        """The same tree where everybody says what the policy does."""
        return {name: tree["logps"] if name in ("old", "reference", "sampler") else tree[name] for name in tree}

    def at_start(self, tree: Atom) -> Atom:
        """The same tree before anything was learned: all tokens equally likely to everybody, equal scores."""
        same = dict(tree)
        for name in self.logps:
            sizes = _tokens_of(name, tree)
            same[name] = (
                torch.full_like(tree[name], -LEVEL) * sizes if sizes is not None else torch.zeros(len(tree[name]))
            )
        for name in ("margins",):
            if name in same:
                same[name] = torch.zeros_like(same[name])
        if "weights" in same:
            same["weights"] = torch.ones_like(same["weights"])
        return same


def _tokens_of(name: str, tree: Atom) -> Tensor | float | None:
    """Tokens that a field's log-probabilities are sums over: 1 where each is that of a token, None for scores."""
    if name == "scores":
        return None
    if "chosen_tokens" in tree:
        return tree["chosen_tokens" if name.endswith("chosen") else "rejected_tokens"]
    return tree.get("tokens", 1.0)


# ---------------------------------------------------------------------------------------------- drawing
def _uniform(chance: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=chance, dtype=torch.float64)


def _normal(chance: torch.Generator, count: int, scale: float) -> Tensor:
    return scale * torch.randn(count, generator=chance, dtype=torch.float64)


def _sizes(chance: torch.Generator, branches: int) -> Tensor:
    return torch.randint(1, LONGEST, (branches,), generator=chance)


def _tokens(chance: torch.Generator) -> dict[str, Tensor]:
    sizes = _sizes(chance, 2)
    return {"sizes": sizes, "logps": _uniform(chance, int(sizes.sum()), -3.0, -0.1)}


def _answers(chance: torch.Generator) -> dict[str, Tensor]:
    """Off-policy by about 0.2 nats a token; the last answer has no trained token."""
    sizes = torch.cat([_sizes(chance, 3), torch.zeros(1, dtype=torch.int64)])
    count = int(sizes.sum())
    logps = _uniform(chance, count, -3.0, -0.1)
    tree = {"sizes": sizes, "logps": logps}
    tree |= {name: logps + _normal(chance, count, 0.2) for name in ("old", "reference", "sampler")}
    tree["advantages"] = _normal(chance, 4, 1.0).repeat_interleave(sizes)
    return tree


def _valued(chance: torch.Generator) -> dict[str, Tensor]:
    tree = _answers(chance)
    count = len(tree["logps"])
    return tree | {name: _normal(chance, count, 1.0) for name in ("values", "old_values", "returns")}


def _pair(chance: torch.Generator) -> dict[str, Tensor]:
    tree = {}
    for name in ("chosen", "rejected"):
        tokens = _sizes(chance, 1).double()
        tree[f"{name}_tokens"], tree[name] = tokens, tokens * _uniform(chance, 1, -3.0, -0.1)
    return tree


def _referenced_pair(chance: torch.Generator) -> dict[str, Tensor]:
    tree = _pair(chance)
    for name in ("chosen", "rejected"):
        tree[f"reference_{name}"] = tree[name] + _normal(chance, 1, 1.0)
    return tree


def _judged(chance: torch.Generator) -> dict[str, Tensor]:
    tokens = _sizes(chance, 1).double()
    logps = tokens * _uniform(chance, 1, -3.0, -0.1)
    tree = {"tokens": tokens, "logps": logps, "reference": logps + _normal(chance, 1, 2.0)}
    good = torch.rand(1, generator=chance) < 0.5
    return tree | {"desirable": good, "weights": _uniform(chance, 1, 0.5, 2.0)}


def _ranked(chance: torch.Generator) -> dict[str, Tensor]:
    ranks = torch.randperm(3, generator=chance).double()
    return {"scores": _normal(chance, 3, 1.0), "ranks": ranks, "margins": _uniform(chance, 1, 0.0, 0.5)}


# ---------------------------------------------------------------------------------------------- putting together
def _column(trees: Sequence[Atom], name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.cat([tree[name] for tree in trees]) if trees else torch.zeros(0, dtype=dtype)


def _branches(trees: Sequence[Atom]) -> tuple[Tensor, int, Tensor]:
    """The branch of every token, the number of branches, and the tree of each."""
    sizes = _column(trees, "sizes", torch.int64)
    each = torch.tensor([len(tree["sizes"]) for tree in trees], dtype=torch.int64)
    return (
        torch.arange(len(sizes)).repeat_interleave(sizes),
        len(sizes),
        torch.arange(len(trees)).repeat_interleave(each),
    )


def _token_logps(trees: Sequence[Atom]) -> TokenLogps:
    branches, count, _ = _branches(trees)
    return TokenLogps(_column(trees, "logps"), branches, count)


def _of_tokens(cls: type[PolicyLogps], *names: str) -> Callable[[Sequence[Atom]], Any]:
    def join(trees: Sequence[Atom]) -> PolicyLogps:
        branches, count, owners = _branches(trees)
        own = {name: _column(trees, name) for name in ("advantages", "old", "reference", "sampler", *names)}
        return cls(_column(trees, "logps"), branches, count, trees=owners, longest=LONGEST, **own)

    return join


def _of_pairs(cls: type[PairLogps], *names: str) -> Callable[[Sequence[Atom]], Any]:
    def join(trees: Sequence[Atom]) -> PairLogps:
        own = {n: _column(trees, n) for n in ("chosen", "rejected", "chosen_tokens", "rejected_tokens", *names)}
        return cls(tokens_per_pair=LONGEST / 2, **own)

    return join


def _unpaired(trees: Sequence[Atom]) -> UnpairedLogps:
    names = ("logps", "reference", "weights")
    desirable = _column(trees, "desirable", torch.bool)
    return UnpairedLogps(
        desirable=desirable, baseline=torch.zeros(()), **{name: _column(trees, name) for name in names}
    )


def _scores(trees: Sequence[Atom]) -> RankedScores:
    sizes = torch.tensor([len(tree["scores"]) for tree in trees], dtype=torch.int64)
    prompts = torch.arange(len(trees)).repeat_interleave(sizes)
    return RankedScores(_column(trees, "scores"), prompts, _column(trees, "ranks"), _column(trees, "margins"))


ANY = ("token", "sequence", "prompt")
KNOWN: Sequence[Kind] = (
    Kind(TokenLogps, _tokens, _token_logps, ("logps",), ("logps",), ANY),
    Kind(PolicyLogps, _answers, _of_tokens(PolicyLogps), ("logps",), ("logps", "old", "reference", "sampler"), ANY),
    Kind(
        CriticLogps,
        _valued,
        _of_tokens(CriticLogps, "values", "old_values", "returns"),
        ("logps", "values"),
        ("logps", "old", "reference", "sampler"),
        ANY,
    ),
    Kind(PairLogps, _pair, _of_pairs(PairLogps), ("chosen", "rejected"), ("chosen", "rejected"), ("pair", "prompt")),
    Kind(
        ReferencedPairLogps,
        _referenced_pair,
        _of_pairs(ReferencedPairLogps, "reference_chosen", "reference_rejected"),
        ("chosen", "rejected"),
        ("chosen", "rejected", "reference_chosen", "reference_rejected"),
        ("pair", "prompt"),
    ),
    Kind(UnpairedLogps, _judged, _unpaired, ("logps",), ("logps", "reference"), ("sequence", "prompt")),
    Kind(RankedScores, _ranked, _scores, ("scores",), ("scores",), ("pair", "prompt")),
)


def kind_of(cls: type) -> Kind | None:
    """How such an input is made; ``None`` for somebody's own."""
    return next((kind for kind in KNOWN if kind.cls is cls), None)
