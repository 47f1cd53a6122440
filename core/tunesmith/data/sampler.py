"""Which trees an optimizer step trains on: mixing of sources by weight, epochs, exact resume.

The order is a pure function of the seed, the sources and the schedule of weights; the state is a handful of numbers.
Sources are mixed by tokens with worst-case fair queueing (WF2Q, Bennett and Zhang 1996): of the sources that are not
ahead of their share, the one whose next sequence would be due first. After any number of tokens every source is
within one sequence of its share.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.components import Scheduler
from tunesmith.data.loading import Corpus, StreamCorpus
from tunesmith.data.trees import Tree
from tunesmith.errors import ConfigError, DataError

Mixture = Callable[[int, int], Mapping[str, float] | None]
TRAIN = "train"


class CorpusCursor:
    """Walks through a corpus epoch by epoch, each in an order of its own."""

    def __init__(self, corpus: Corpus, seed: int, shuffle: bool) -> None:
        self.corpus, self.shuffle = corpus, shuffle
        self.key = [seed, zlib.crc32(f"{corpus.label}:{corpus.fingerprint}".encode())]
        self.position = 0
        self._epoch = -1
        self._order: Sequence[int] = range(len(corpus))

    def _index(self) -> int:
        epoch, place = divmod(self.position, len(self.corpus))
        if self.shuffle and epoch != self._epoch:
            self._order = np.random.default_rng([*self.key, epoch]).permutation(len(self.corpus)).tolist()
            self._epoch = epoch
        return self._order[place]

    def peek(self) -> int:
        """Tokens of the next tree."""
        return int(self.corpus.lengths[self._index()])

    def take(self) -> Tree:
        """The next tree."""
        tree = self.corpus[self._index()]
        self.position += 1
        return tree

    @property
    def epochs(self) -> float:
        """Passes made so far."""
        return self.position / len(self.corpus)

    def state(self) -> Any:
        """What `restore` needs."""
        return self.position

    def restore(self, state: Any) -> None:
        """Go on where `state` was taken."""
        self.position = int(state)


class StreamCursor:
    """Walks through a stream, from the start again when it ends."""

    def __init__(self, stream: StreamCorpus) -> None:
        self.corpus = stream
        self.passes = 0
        self.position = (0, 0)
        self._trees: Iterator[tuple[Tree, tuple[int, int]]] | None = None
        self._next: tuple[Tree, tuple[int, int]] | None = None

    def _ahead(self) -> tuple[Tree, tuple[int, int]]:
        if self._next is None:
            if self._trees is None:
                self._trees = self.corpus.trees(self.position)
            self._next = next(self._trees, None)
        if self._next is None:
            if self.position == (0, 0):
                raise DataError(f"{self.corpus.label} has no rows to train on")
            self.passes, self.position, self._trees = self.passes + 1, (0, 0), None
            return self._ahead()
        return self._next

    def peek(self) -> int:
        """Tokens of the next tree."""
        return self._ahead()[0].num_tokens

    def take(self) -> Tree:
        """The next tree."""
        tree, self.position = self._ahead()
        self._next = None
        return tree

    @property
    def epochs(self) -> float:
        """Whole passes made so far."""
        return float(self.passes)

    def state(self) -> Any:
        """What `restore` needs."""
        return [self.passes, *self.position]

    def restore(self, state: Any) -> None:
        """Go on where `state` was taken."""
        self.passes, self.position = int(state[0]), (int(state[1]), int(state[2]))
        self._trees = self._next = None


@dataclass(slots=True)
class Share:
    """Tokens that a source has given, and would have given if tokens could be cut at will."""

    due: float = 0.0
    given: int = 0


class Sampler:
    """Draws the batch of every optimizer step.

    Args:
        corpora: all training sources, of every data group.
        batch_size: examples per step, over all processes.
        epochs: passes over the sources of the group ``train``; with weights, in tokens.
        max_steps: wins over ``epochs``; needed where the amount of rows is unknown.
        mixture: token shares of the data groups, or ``None`` to use the sources' own weights.

    Raises:
        ConfigError: weights that cannot be compared, or no end.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus | StreamCorpus],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        epochs: float = 1.0,
        max_steps: int | None = None,
        mixture: Mixture = lambda step, total: None,
    ) -> None:
        self.corpora, self.batch_size, self.mixture = list(corpora), batch_size, mixture
        self.cursors: list[CorpusCursor | StreamCursor] = [
            CorpusCursor(c, seed, shuffle) if isinstance(c, Corpus) else StreamCursor(c) for c in corpora
        ]
        self.shares = [Share() for _ in corpora]
        self.drawn = 0
        self._check_weights()
        self.examples = self._whole_epochs(epochs) if max_steps is None else None
        self.total_steps = max_steps or self._steps(epochs)

    # ------------------------------------------------------------------------------------------ how long
    def _grouped(self) -> bool:
        return self.mixture(0, 1) is not None

    def _check_weights(self) -> None:
        pools: dict[str, list[Corpus | StreamCorpus]] = {}
        for corpus in self.corpora:
            pools.setdefault(corpus.group if self._grouped() else TRAIN, []).append(corpus)
        for pool in pools.values():
            weighted = [c for c in pool if c.weight is not None]
            bare = [c for c in pool if c.weight is None]
            if len(pool) > 1 and weighted and bare:
                raise ConfigError(
                    f"{weighted[0].label} has a weight, but {bare[0].label} has none",
                    fix="give every source of the mix a weight, or none",
                )
            unknown = [c for c in bare if isinstance(c, StreamCorpus)]
            if len(pool) > 1 and unknown:
                raise ConfigError(
                    f"{unknown[0].label} is streamed, so its size is unknown and it needs a weight in a mix",
                    fix="give every source of the mix a weight",
                )

    def _whole_epochs(self, epochs: float) -> int | None:
        """The exact number of examples where every row is seen equally often, else ``None``."""
        plain = all(isinstance(c, Corpus) and c.weight is None for c in self.corpora)
        if self._grouped() or not plain:
            return None
        return max(1, round(epochs * sum(len(c) for c in self.corpora if isinstance(c, Corpus))))

    def _steps(self, epochs: float) -> int:
        if self.examples is not None:
            return math.ceil(self.examples / self.batch_size)
        streams = [c.label for c in self.corpora if isinstance(c, StreamCorpus)]
        if streams:
            raise ConfigError(f"{streams[0]} is streamed, so the number of steps is unknown", fix="set --max-steps")
        corpora = [c for c in self.corpora if isinstance(c, Corpus)]
        budget = epochs * sum(int(c.lengths.sum()) for c in corpora if c.group == TRAIN)
        means = [float(c.lengths.mean()) for c in corpora]
        grid = 100
        per_token = sum(
            weight / mean for step in range(grid) for weight, mean in zip(self.weights(step, grid), means, strict=True)
        )
        return max(1, round(budget * per_token / grid / self.batch_size))

    # ------------------------------------------------------------------------------------------ the mix
    def weights(self, step: int, total: int) -> list[float]:
        """Share of tokens of every source at a step; they sum to 1. Raises `ConfigError` when none is positive."""
        own = [self._own_weight(c, step, total) for c in self.corpora]
        groups = self.mixture(step, total)
        if groups is not None:
            sums = {g: sum(w for w, c in zip(own, self.corpora, strict=True) if c.group == g) for g in groups}
            own = [
                groups.get(c.group, 0.0) * w / sums[c.group] if sums.get(c.group) else 0.0
                for w, c in zip(own, self.corpora, strict=True)
            ]
        whole = sum(own)
        if min(own) < 0 or not whole > 0:
            raise ConfigError(f"weights of the sources at step {step} are {own}", fix="they must be >= 0, one > 0")
        return [w / whole for w in own]

    @staticmethod
    def _own_weight(corpus: Corpus | StreamCorpus, step: int, total: int) -> float:
        if isinstance(corpus.weight, Scheduler):
            return corpus.weight(step, total)
        if corpus.weight is not None:
            return float(corpus.weight)
        return float(corpus.lengths.sum()) if isinstance(corpus, Corpus) else 1.0

    def batch(self, step: int) -> list[Tree]:
        """The trees of 0-based ``step``; call it once for every step, in order."""
        size = self.batch_size
        if self.examples is not None:
            size = min(size, self.examples - self.drawn)
        weights = self.weights(step, self.total_steps)
        trees = [self._draw(weights) for _ in range(size)]
        self.drawn += size
        return trees

    def extra(self, step: int) -> list[Tree]:
        """Another whole batch for the same step, which does not bring the end of the run nearer."""
        weights = self.weights(step, self.total_steps)
        return [self._draw(weights) for _ in range(self.batch_size)]

    def _draw(self, weights: Sequence[float]) -> Tree:
        best, best_due = -1, math.inf
        slack = 1e-9 * (1 + sum(share.given for share in self.shares))
        for i, (weight, share) in enumerate(zip(weights, self.shares, strict=True)):
            if weight <= 0 or share.given > share.due + slack:
                continue
            due = (share.given + self.cursors[i].peek() - share.due) / weight
            if due < best_due:
                best, best_due = i, due
        if best < 0:  # all sources with a weight are ahead of it, after the weights changed: the least so comes next
            best = min(
                (i for i, w in enumerate(weights) if w > 0),
                key=lambda i: (self.shares[i].given - self.shares[i].due) / weights[i],
            )
        tree = self.cursors[best].take()
        size = tree.num_tokens
        self.shares[best].given += size
        for weight, share in zip(weights, self.shares, strict=True):
            share.due += weight * size
        return tree

    # ------------------------------------------------------------------------------------------ state
    @property
    def epoch(self) -> float:
        """Passes over the sources of the group ``train``, by examples."""
        train = [c for c in self.cursors if c.corpus.group == TRAIN]
        sized = [c for c in train if isinstance(c, CorpusCursor)]
        if len(sized) < len(train):
            return max(c.epochs for c in train)
        return sum(c.position for c in sized) / sum(len(c.corpus) for c in sized)

    def state(self) -> dict[str, Any]:
        """A JSON value from which `restore` goes on exactly here."""
        return {
            "drawn": self.drawn,
            "sources": [
                {"label": c.corpus.label, "fingerprint": c.corpus.fingerprint, "at": c.state(), "due": s.due,
                 "given": s.given}
                for c, s in zip(self.cursors, self.shares, strict=True)
            ],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. Raises `DataError` when the rows are not those of the state."""
        then = [(s["label"], s["fingerprint"]) for s in state["sources"]]
        now = [(c.label, c.fingerprint) for c in self.corpora]
        for old, new in zip(then, now, strict=False):
            if old != new:
                raise DataError(
                    f"the rows of {new[0]} are not those that the run was started on",
                    why=f"content {str(old[1])[:12]} then ({old[0]}), {str(new[1])[:12]} now",
                    fix="restore the data, or start a new run from the checkpoint's model",
                )
        if len(then) != len(now):
            raise DataError(f"the run was started on {len(then)} sources, now there are {len(now)}")
        self.drawn = int(state["drawn"])
        for cursor, share, saved in zip(self.cursors, self.shares, state["sources"], strict=True):
            cursor.restore(saved["at"])
            share.due, share.given = float(saved["due"]), int(saved["given"])
