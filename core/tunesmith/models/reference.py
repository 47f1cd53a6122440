"""References: what the policy is held against, in three ways that give the same numbers."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.cache import cache_folder
from tunesmith.data.trees import Batch, Tree
from tunesmith.models.adapters import unchanged
from tunesmith.scoring.scorer import Scorer


class Reference:
    """A frozen model of its own.

    Args:
        scorer: of the frozen model.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.moved = False

    @contextlib.contextmanager
    def active(self) -> Iterator[Scorer]:
        """The scorer, while it gives the reference's numbers."""
        yield self.scorer

    def branch_sums(self, batch: Batch) -> Tensor:
        """``[N, G]`` fp32 summed log-probabilities of every branch."""
        with self.active() as scorer:
            return scorer.branch_sums(batch)

    def move_towards(self, policy: Scorer, weight: float) -> None:
        """``reference = weight * policy + (1 - weight) * reference`` (TR-DPO, arXiv:2404.09656, eq. 2)."""
        self.moved = True
        with torch.no_grad():
            for mine, theirs in zip(self.scorer.module.parameters(), policy.module.parameters(), strict=True):
                mine.lerp_(theirs.to(mine), weight)

    def state(self) -> dict[str, Tensor]:
        """Its weights by name, for a checkpoint."""
        return dict(self.scorer.module.named_parameters())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over weights from `state`."""
        self.moved = True
        with torch.no_grad():
            for name, parameter in self.scorer.module.named_parameters():
                parameter.copy_(tensors[name])


class AdapterOff(Reference):
    """The policy's own base, with its adapters switched off: no memory at all."""

    def __init__(self, policy: Scorer) -> None:
        self.scorer, self.moved = policy, False

    @contextlib.contextmanager
    def active(self) -> Iterator[Scorer]:
        """The policy's scorer, without the adapters."""
        module: Any = self.scorer.module
        with unchanged(module), module.disable_adapter():
            yield self.scorer


class Cached(Reference):
    """Log-probabilities computed once and kept on disk; no second model while training.

    Args:
        key: a hash of everything that the numbers depend on beside the tokens.
        policy: says where columns are wanted.
    """

    def __init__(self, key: str, policy: Scorer) -> None:
        self.scorer, self.moved = policy, False
        self.path = cache_folder().parent / "references" / f"{key}.npz"
        self.known: dict[bytes, Any] = {}
        if self.path.exists():
            with np.load(self.path, allow_pickle=False) as file:
                digests, values, sizes = file["digests"], file["values"], file["sizes"]
            pieces = np.split(values, np.cumsum(sizes)[:-1])
            self.known = {digest.tobytes(): piece for digest, piece in zip(digests, pieces, strict=True)}

    def fill(self, trees: Iterable[Tree], source: Reference) -> int:
        """Compute what is not known yet; return how many trees that were."""
        missing = {digest_of(tree): tree for tree in trees}
        for digest in self.known.keys() & missing.keys():
            del missing[digest]
        by_size: dict[int, list[tuple[bytes, Tree]]] = {}
        for digest, tree in missing.items():
            by_size.setdefault(len(tree.branches), []).append((digest, tree))
        for items in by_size.values():
            for start in range(0, len(items), 256):
                some = items[start : start + 256]
                sums = source.branch_sums(Batch([tree for _, tree in some])).cpu().numpy()
                self.known.update({digest: row for (digest, _), row in zip(some, sums, strict=True)})
        return len(missing)

    def save(self) -> None:
        """Write the file aside and rename it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        digests = np.array([np.frombuffer(digest, dtype=np.uint8) for digest in self.known])
        sizes = np.array([len(row) for row in self.known.values()], dtype=np.int64)
        aside = self.path.with_name(f".{self.path.stem}.{os.getpid()}.npz")
        np.savez(aside, digests=digests, values=np.concatenate(list(self.known.values())), sizes=sizes)
        aside.rename(self.path)

    def branch_sums(self, batch: Batch) -> Tensor:
        """``[N, G]`` from the cache. Raises `KeyError` for a tree that `fill` has not seen."""
        return torch.from_numpy(np.stack([self.known[digest_of(tree)] for tree in batch.trees])).to(self.scorer.device)


def digest_of(tree: Tree) -> bytes:
    """16 bytes that name the tokens of a tree and what is scored of them."""
    digest = hashlib.blake2b(digest_size=16)
    for ids in (tree.trunk, *(branch.ids for branch in tree.branches)):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(ids, dtype=np.int32).tobytes())
    for branch in tree.branches:
        digest.update(np.packbits(branch.mask).tobytes())
    return digest.digest()
