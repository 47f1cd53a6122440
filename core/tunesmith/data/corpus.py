"""What a run draws its trees from: a source that was read whole, or one that is read while training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tunesmith.components import DataSpec, Row, Scheduler
from tunesmith.data.report import Problems, RejectLog, SourceReport
from tunesmith.data.rows import Intake, Outcome
from tunesmith.data.store import Ints, Reader, Store
from tunesmith.data.trees import Tree

TRAIN, EVAL = "train", "eval"
Weight = float | Scheduler | None
Position = tuple[int, int]
STREAM_CHUNK = 16
"""Rows of a stream that are read ahead."""


@dataclass(slots=True)
class DataSource:
    """A source of a run and its name; ``measured``: it is there to be measured on, and nothing is trained on it."""

    spec: DataSpec
    group: str
    label: str
    measured: bool = False

    def rows(self) -> Iterator[Row]:
        """Its rows, as many as the run file wants."""
        rows = iter(self.spec.source.rows())
        return rows if self.spec.limit is None else islice(rows, self.spec.limit)

    @property
    def streams(self) -> bool:
        """A limited number of rows to measure on is read whole, wherever it comes from."""
        return self.spec.source.streams and not (self.measured and self.spec.limit)


class Corpus:
    """The trees of one source, or of a held-out set; memory-mapped where they are cached.

    Attributes:
        label: name in metrics and messages.
        group: ``train`` or a name from `Method.data_groups` or `Method.probes`; ``eval`` for evaluation rows.
        index: number of the source over the run; the `Tree.source` of its trees.
        weight: share of tokens relative to other sources; ``None``: its number of tokens.
        lengths: ``[n]`` int64, tokens of each tree.
        fingerprint: a hash of the trees and their order, whatever the path they came from.
    """

    def __init__(
        self, label: str, group: str, index: int, weight: Weight, store: Store, chosen: Ints, digest: str
    ) -> None:
        self.label, self.group, self.index, self.weight = label, group, index, weight
        self._reader, self._chosen = Reader(store), chosen
        self.lengths: Ints = np.array(store.lengths[chosen])
        self.fingerprint = hashlib.sha256(digest.encode() + chosen.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, i: int) -> Tree:
        return self._reader.tree(int(self._chosen[i]), self.index)


class StreamCorpus:
    """A source that is read, judged and tokenised while training.

    Attributes:
        label, group, index, weight: as in `Corpus`.
        fingerprint: what the source says about its content, ``None`` when it does not know.
    """

    def __init__(
        self, source: DataSource, index: int, intake: Intake, report: SourceReport, rejects: RejectLog | None
    ) -> None:
        self.label, self.group, self.index, self.weight = source.label, source.group, index, source.spec.weight
        self.fingerprint = source.spec.source.fingerprint()
        self._source, self._intake, self.report, self._rejects = source, intake, report, rejects

    def trees(self, position: Position) -> Iterator[tuple[Tree, Position]]:
        """One pass from a position on: each tree, and the position after it.

        Args:
            position: rows consumed, and trees of the next row that are consumed already.

        Raises:
            DataError: a bad row, unless bad rows are skipped; it is then counted and written to rejected.jsonl.
        """
        first, done = position
        rows = islice(self._source.rows(), first, None)
        for outcome in self._intake.outcomes(rows, first, STREAM_CHUNK):
            if outcome.status == "bad":
                self._refuse(outcome)
            trees = outcome.trees[done if outcome.index == first else 0 :]
            already = len(outcome.trees) - len(trees)
            tally(self.report, outcome)
            for number, tree in enumerate(trees, start=already + 1):
                tree.source = self.index
                ended = number == len(outcome.trees)
                yield tree, (outcome.index + 1, 0) if ended else (outcome.index, number)

    def _refuse(self, outcome: Outcome) -> None:
        if self._rejects is None:
            problems = Problems()
            problems.add(outcome.reason, outcome.row)
            raise problems.error(self.label, outcome.index + 1)
        self._rejects.add(outcome.row, outcome.reason)


def tally(report: SourceReport, outcome: Outcome) -> None:
    """Add a row to the counts; what is held out is subtracted once it is known."""
    report.rows += 1
    names = {"used": "used", "skipped": "skipped", "bad": "rejected", "dropped": "dropped"}
    name = names[outcome.status]
    setattr(report, name, getattr(report, name) + 1)
    if outcome.status in ("used", "dropped"):
        report.tokens_in += outcome.tokens
        report.longest = max(report.longest, outcome.length)
    if outcome.status == "dropped":
        report.tokens_dropped += outcome.tokens
    if outcome.status == "used":
        report.tokens += outcome.tokens - outcome.lost
        report.trained += sum(tree.num_scored for tree in outcome.trees)
        report.tokens_truncated += outcome.lost
        report.truncated += outcome.lost > 0
        report.split += len(outcome.trees) > 1
