"""Token trees and batches of them.

A tree is a tokenised example: a trunk (the prompt) and its branches (the responses). A token may attend to its own
trunk and to earlier tokens of its own branch, and to nothing else. A document or a conversation has one branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Unit = Literal["token", "sequence", "pair", "prompt"]


@dataclass(slots=True)
class Branch:
    """A response: its token ids ``[n]`` and the mask ``[n]``, True where a token is trained on.

    Attributes:
        value: what the row says of the response, higher is better: 1 for chosen or desirable, 0 for rejected or
            undesirable, or a score.
        columns: name to ``[n]`` fp32 numbers of its tokens, such as advantages; only those of trained tokens are read.
    """

    ids: Ids
    mask: Mask
    value: float = 0.0
    columns: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Tree:
    """A trunk and its branches.

    The first token of a branch is predicted by the trunk's last token; where the trunk is empty nothing predicts
    it, so it is never scored whatever its mask says.

    Attributes:
        trunk: ``[n]`` int32 token ids, perhaps empty.
        branches: at least one; none in a prompt that is still to be answered.
        source: index of the source among all sources of the run.
        row: index of the row within its source.
        margin: by how much the better branch should win, where the row says so.
        about: what else is known of a prompt: its ``prompt`` as it was written, and the ``columns`` of its row.
    """

    trunk: Ids
    branches: tuple[Branch, ...]
    source: int = 0
    row: int = 0
    margin: float = 0.0
    about: Mapping[str, Any] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward pass computes."""
        return len(self.trunk) + sum(len(branch) for branch in self.branches)

    @property
    def longest(self) -> int:
        """Tokens of the trunk and the longest branch: the longest text that a model sees."""
        return len(self.trunk) + max((len(branch) for branch in self.branches), default=0)

    @property
    def num_scored(self) -> int:
        """Tokens that are trained on."""
        return sum(int(self.scored(branch).sum()) for branch in self.branches)

    def scored(self, branch: Branch) -> Mask:
        """The branch's mask less a first token that nothing predicts."""
        if len(self.trunk) or not len(branch) or not branch.mask[0]:
            return branch.mask
        mask = branch.mask.copy()
        mask[0] = False
        return mask


@dataclass(slots=True)
class Batch:
    """Trees and what a method collected about them.

    Attributes:
        trees: N trees.
        columns: name to a tensor whose first dimension is N; `split` takes the rows along.
        totals: sums over the whole optimizer step, the same in every part.
        samples: what is to be written down of every completion that was sampled for it.
    """

    trees: Sequence[Tree]
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.trees)

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward pass computes."""
        return sum(tree.num_tokens for tree in self.trees)

    def count(self, unit: Unit) -> int:
        """How many units of a loss the batch holds.

        A sequence is a branch, a prompt a tree of which something is trained on; a pair is a tree whose branches are
        compared.
        """
        if unit == "token":
            return sum(tree.num_scored for tree in self.trees)
        if unit == "sequence":
            return sum(bool(tree.scored(branch).any()) for tree in self.trees for branch in tree.branches)
        if unit == "prompt":
            return sum(tree.num_scored > 0 for tree in self.trees)
        return sum(len(tree.branches) > 1 for tree in self.trees)

    def take(self, indices: Sequence[int]) -> Batch:
        """The trees at these positions, with their rows of every column."""
        rows = list(indices)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, trees=[self.trees[i] for i in rows], columns=columns)

    def with_columns(self, **columns: Tensor) -> Batch:
        """The same trees with more columns."""
        return replace(self, columns={**self.columns, **columns})

    def split(self, micro_tokens: int) -> Iterator[Batch]:
        """Parts of at most ``micro_tokens`` tokens (a longer tree is a part of its own), by best fit."""
        for indices in best_fit([tree.num_tokens for tree in self.trees], micro_tokens):
            yield self.take(indices)


def joined(one: Batch, other: Batch) -> Batch:
    """The trees of both; totals are added up."""
    import torch

    assert one.columns.keys() == other.columns.keys(), "batches with different columns cannot be joined"
    return Batch(
        [*one.trees, *other.trees],
        {name: torch.cat([column, other.columns[name]]) for name, column in one.columns.items()},
        {name: one.totals.get(name, 0) + other.totals.get(name, 0) for name in {*one.totals, *other.totals}},
        [*one.samples, *other.samples],
    )


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items into few bins: longest first, each into the fullest bin that still has room.

    Returns the indices in each bin, ascending. An item larger than ``capacity`` gets a bin of its own. The order of
    items of the same size, and so the result, depends on ``sizes`` alone.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fits = [b for b, free in enumerate(room) if free >= sizes[index]]
        if fits:
            best = min(fits, key=lambda b: (room[b], b))
            bins[best].append(index)
            room[best] -= sizes[index]
        else:
            bins.append([index])
            room.append(capacity - sizes[index])
    return [sorted(indices) for indices in bins]
