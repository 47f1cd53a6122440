"""From answers with rewards to the pairs and labels that preference losses read, round by round.

Shape letters: N trees, G answers per tree.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tunesmith.data.trees import Batch, Branch, Tree

Pairing = Literal["best-worst", "best-random", "all"]
Rewards = Sequence[float | None]


def choose_pairs(
    rewards: Rewards,
    pairing: Pairing,
    *,
    min_gap: float = 0.0,
    most: int | None = None,
    may_win: Sequence[bool] | None = None,
    chance: random.Random | None = None,
) -> list[tuple[int, int]]:
    """Which answers to a prompt are compared: (better, worse), the widest gaps first.

    Answers of equal reward, or whose rewards differ by less than ``min_gap``, are never compared, nor are answers
    without a reward.

    Args:
        rewards: of the answers.
        pairing: the best with the worst; the best with a random worse one; or every two.
        min_gap: difference of rewards that a pair must have at least.
        most: pairs at most.
        may_win: False for answers that must not be chosen, such as those that were cut off.
        chance: draws the random one.
    """
    known = [i for i, reward in enumerate(rewards) if reward is not None]
    winners = [i for i in known if may_win is None or may_win[i]]
    if not winners:
        return []

    def gap(pair: tuple[int, int]) -> float:
        return _value(rewards, pair[0]) - _value(rewards, pair[1])

    def fits(pair: tuple[int, int]) -> bool:
        return gap(pair) > 0 and gap(pair) >= min_gap

    best = max(winners, key=lambda i: (_value(rewards, i), -i))
    if pairing == "all":
        both = [(i, j) if _value(rewards, i) > _value(rewards, j) else (j, i) for i, j in combinations(known, 2)]
        pairs = [pair for pair in both if pair[0] in winners and fits(pair)]
    elif pairing == "best-worst":
        worst = min(known, key=lambda i: (_value(rewards, i), i))
        pairs = [pair for pair in [(best, worst)] if fits(pair)]
    else:
        worse = [(best, i) for i in known if fits((best, i))]
        pairs = [(chance or random.Random(0)).choice(worse)] if worse else []
    return sorted(pairs, key=lambda pair: (-gap(pair), pair))[:most]


def _value(rewards: Rewards, i: int) -> float:
    reward = rewards[i]
    assert reward is not None
    return reward


def distinct(pairs: Iterable[tuple[int, int]], answers: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The pairs whose answers are not the same tokens."""
    return [(i, j) for i, j in pairs if list(answers[i]) != list(answers[j])]


# ---------------------------------------------------------------------------------------------- trees
def pair_trees(tree: Tree, pairs: Iterable[tuple[int, int]]) -> list[Tree]:
    """A tree for every pair: the better answer (value 1), the worse one (value 0)."""
    made = []
    for better, worse in pairs:
        branches = [
            Branch(tree.branches[i].ids, tree.branches[i].mask, value) for i, value in ((better, 1.0), (worse, 0.0))
        ]
        made.append(replace(tree, branches=tuple(branches)))
    return made


def label_trees(tree: Tree, labels: Mapping[int, bool]) -> list[Tree]:
    """A tree for every labelled answer: value 1 for a good one, 0 for a bad one."""
    return [
        replace(tree, branches=(Branch(tree.branches[i].ids, tree.branches[i].mask, float(good)),))
        for i, good in labels.items()
    ]


def taken(batch: Batch, made: Sequence[Sequence[Tree]]) -> Batch:
    """The batch with every tree replaced by those made of it, which stand where it stood."""
    where = [i for i, trees in enumerate(made) for _ in trees]
    return replace(batch.take(where), trees=[tree for trees in made for tree in trees])


# ---------------------------------------------------------------------------------------------- earlier rounds
def packed_trees(trees: Iterable[Tree]) -> list[Any]:
    """Trees as JSON values."""
    return [
        [tree.source, tree.row, tree.trunk.tolist(), [[branch.ids.tolist(), branch.value] for branch in tree.branches]]
        for tree in trees
    ]


def unpacked_trees(values: Iterable[Any]) -> list[Tree]:
    """Trees from `packed_trees`; every token of their answers is trained on."""
    return [
        Tree(
            np.array(trunk, dtype=np.int32),
            tuple(
                Branch(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_), value)
                for ids, value in answers
            ),
            source,
            row,
        )
        for source, row, trunk, answers in values
    ]


def weights_digest(module: nn.Module) -> str:
    """16 characters that name the trained weights of a model."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in sorted(module.named_parameters()):
        if parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
