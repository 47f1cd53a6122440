"""What is known about the judged answers of a source as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from tunesmith.data.rows import Outcome
from tunesmith.examples import Judged, Passage, Unpaired

if TYPE_CHECKING:
    from tunesmith.examples import Answer


@dataclass(slots=True)
class Balance:
    """Counts over the rows of a source whose answers are judged.

    Attributes:
        good: single answers that are labelled good, and ``bad`` those that are not.
        compared: rows with answers that are compared.
        longer: of these, rows whose best answer is longer than the worst, and ``shorter`` those where it is not.
        same: rows in which answers that are judged differently are the same.
        blunted: rows longer than the limit that would lose the part in which their answers differ, if cut.
        conflicts: judgements that another row contradicts: an answer good and bad, or better and worse than another.
    """

    good: int = 0
    bad: int = 0
    compared: int = 0
    longer: int = 0
    shorter: int = 0
    same: int = 0
    blunted: int = 0
    conflicts: int = 0
    _labels: dict[bytes, int] = field(default_factory=dict)
    _orders: set[bytes] = field(default_factory=set)

    @property
    def wrong(self) -> bool:
        """True where what is trained on contradicts itself or says nothing."""
        return bool(self.same or self.conflicts)

    @property
    def one_sided(self) -> bool:
        """True where all single answers have the same label."""
        return bool(self.good + self.bad) and not (self.good and self.bad)

    def add(self, outcome: Outcome) -> None:
        """Count a row; those that are bad for another reason are left out."""
        example = outcome.example
        if not isinstance(example, Judged):
            return
        self.same += outcome.same_answers
        self.blunted += outcome.blunted
        if outcome.status == "bad":
            return
        if isinstance(example, Unpaired):
            self._add_label(example)
        else:
            self._add_order(outcome, example)

    def _add_label(self, example: Unpaired) -> None:
        self.good += example.label
        self.bad += not example.label
        key, label = _key(example, example.completion), 1 + example.label
        seen = self._labels.get(key, 0)
        self.conflicts += seen not in (0, 3) and seen | label == 3
        self._labels[key] = seen | label

    def _add_order(self, outcome: Outcome, example: Judged) -> None:
        self.compared += 1
        answers = sorted(example.answers(), key=lambda answer: -answer.value)
        best, worst = _sizes(outcome, answers)
        self.longer += best > worst
        self.shorter += best < worst
        keys = [(answer.value, _key(example, answer.passage)) for answer in answers]
        for (high, one), (low, other) in combinations(keys, 2):
            if high > low and one + other not in self._orders:
                self.conflicts += other + one in self._orders
                self._orders.add(one + other)

    def lines(self) -> Iterator[tuple[str, str, bool]]:
        """Label, text and whether it is a fault; nothing where no answer is judged."""
        if self.good or self.bad:
            total = self.good + self.bad
            share = f"{self.good:,} true, {self.bad:,} false ({self.good / total:.0%} true)"
            yield "labels", share + (": there is only one class" if self.one_sided else ""), False
        if self.compared:
            shares = f"{self.longer / self.compared:.0%} of {self.compared:,} rows, shorter in "
            yield "better", f"answer is longer in {shares}{self.shorter / self.compared:.0%}", False
        if self.conflicts:
            both = "answers have both labels" if self.good or self.bad else "pairs stand in both orders"
            yield "conflicts", f"{self.conflicts:,} {both}", True
        if self.same:
            yield "identical", f"{self.same:,} rows have the same answer as better and as worse", True
        if self.blunted:
            yield "cutting", f"{self.blunted:,} long rows would lose the part in which their answers differ", False

    def as_dict(self) -> Mapping[str, Any] | None:
        """For programs; ``None`` where no answer is judged."""
        names = ("good", "bad", "compared", "longer", "shorter", "same", "blunted", "conflicts")
        counts = {name: getattr(self, name) for name in names}
        return counts if any(counts.values()) else None


def _sizes(outcome: Outcome, answers: list[Answer]) -> tuple[int, int]:
    """Tokens of the best and the worst answer, or characters where there is no tree."""
    if outcome.trees:
        branches = sorted(outcome.trees[0].branches, key=lambda branch: -branch.value)
        return len(branches[0]), len(branches[-1])
    return _characters(answers[0].passage), _characters(answers[-1].passage)


def _characters(passage: Passage) -> int:
    if isinstance(passage, str):
        return len(passage)
    return sum(len(str(turn.get("content") or "")) for turn in passage)


def _key(example: Judged, passage: Passage) -> bytes:
    text = json.dumps([example.prompt, example.tools, passage], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:16]
