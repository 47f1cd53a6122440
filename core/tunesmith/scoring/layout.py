"""How the trees of a batch lie in one packed stream, and which of its positions are scored.

Shape letters: T packed tokens, S scored tokens, N trees, R branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.trees import Tree


@dataclass(slots=True)
class Segment:
    """A root of ``length`` tokens followed by leaves that each see the root and themselves.

    A tree with one branch is a root alone: its trunk and branch are one causal sequence.
    """

    length: int
    leaves: tuple[int, ...] = ()


@dataclass(slots=True)
class Layout:
    """A packed stream of trees.

    Attributes:
        input_ids: ``[1, T]`` int64.
        position_ids: ``[1, T]`` int64; they restart in every tree, and at the trunk's length in every branch.
        segments: the trees in order.
        source_S: ``[S]`` int64, the position whose output predicts the scored token.
        target_S: ``[S]`` int64, the scored token's id.
        branch_S: ``[S]`` int64, the branch it belongs to, ascending.
        tree_bounds: N + 1 offsets into the scored tokens.
        num_branches: R.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: list[Segment]
    source_S: Tensor
    target_S: Tensor
    branch_S: Tensor
    tree_bounds: list[int]
    num_branches: int
    masks: dict[tuple[object, ...], object] = field(default_factory=dict)
    """Attention masks made for this layout, by what they depend on."""

    @property
    def sizes(self) -> list[int]:
        """Length of every root and leaf in order: how to split the stream."""
        return [size for segment in self.segments for size in (segment.length, *segment.leaves)]


def pack(trees: Sequence[Tree], device: torch.device) -> Layout:
    """Lay trees out one behind the other; no padding."""
    ids, positions, sources, targets, branches, bounds = [], [], [], [], [], [0]
    segments: list[Segment] = []
    start = branch_index = num_scored = 0
    for tree in trees:
        trunk = len(tree.trunk)
        ids.append(tree.trunk)
        positions.append(np.arange(trunk))
        offset = start + trunk
        for branch in tree.branches:
            scored = np.flatnonzero(tree.scored(branch))
            ids.append(branch.ids)
            positions.append(np.arange(trunk, trunk + len(branch)))
            # the first token of a branch is predicted by the last one of the trunk, the others by their neighbour
            sources.append(np.where(scored == 0, start + trunk - 1, offset + scored - 1))
            targets.append(branch.ids[scored])
            branches.append(np.full(len(scored), branch_index))
            offset += len(branch)
            branch_index += 1
            num_scored += len(scored)
        one = len(tree.branches) == 1
        lengths = tuple(len(branch) for branch in tree.branches)
        segments.append(Segment(trunk + lengths[0]) if one else Segment(trunk, lengths))
        bounds.append(num_scored)
        start = offset

    def tensor(parts: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return Layout(
        tensor(ids)[None], tensor(positions)[None], segments, tensor(sources), tensor(targets), tensor(branches),
        bounds, branch_index,
    )  # fmt: skip


@dataclass(slots=True)
class Padded:
    """The same trees as right-padded rows, one a branch, for models that cannot take a packed stream.

    Attributes:
        input_ids, attention_mask, position_ids: ``[R, longest]`` int64.
        source_S: ``[S]`` int64, index into the flattened rows.
        target_S, branch_S, tree_bounds, num_branches: as in `Layout`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    source_S: Tensor
    target_S: Tensor
    branch_S: Tensor
    tree_bounds: list[int]
    num_branches: int


def pad(trees: Sequence[Tree], pad_id: int, device: torch.device) -> Padded:
    """One row per branch, trunk included, padded on the right."""
    rows = [(tree, branch) for tree in trees for branch in tree.branches]
    width = max(len(tree.trunk) + len(branch) for tree, branch in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    sources, targets, branches = [], [], []
    for row, (tree, branch) in enumerate(rows):
        trunk, end = len(tree.trunk), len(tree.trunk) + len(branch)
        ids[row, :trunk], ids[row, trunk:end], mask[row, :end] = tree.trunk, branch.ids, 1
        scored = np.flatnonzero(tree.scored(branch))
        sources.append(row * width + trunk + scored - 1)
        targets.append(branch.ids[scored])
        branches.append(np.full(len(scored), row))
    per_tree = [tree.num_scored for tree in trees]
    bounds = np.concatenate([[0], np.cumsum(per_tree)]).astype(int).tolist()

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array).astype(np.int64)).to(device)

    positions = np.broadcast_to(np.arange(width), ids.shape)
    return Padded(
        tensor(ids), tensor(mask), tensor(positions), tensor(np.concatenate(sources)),
        tensor(np.concatenate(targets)), tensor(np.concatenate(branches)), bounds, len(rows),
    )  # fmt: skip
