"""Answers that were judged: what tells good from bad, beside what was meant to."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from statistics import median
from typing import TYPE_CHECKING, Any

from tunesmith.data.quality.findings import (
    ALIKE,
    BLANK,
    LONGER,
    MINORITY,
    PREFIX,
    RATIO,
    Finding,
    Place,
    judged_share,
    percent,
    shared,
)
from tunesmith.data.quality.wording import prompt_of, written
from tunesmith.data.report import SHOWN
from tunesmith.examples import Comparison, Example

if TYPE_CHECKING:
    from tunesmith.components import Method, Row
    from tunesmith.data.balance import Balance

COMPARED = 400
"""Pairs whose edits are counted, as many as fit into a second."""
WORDS = 300
"""Words of an answer that are compared."""


@dataclass(slots=True)
class Answers:
    """What is counted over the rows of a source.

    Attributes:
        blank: rows that ask nothing before their answer.
        prefixes: rows in which one of best and worst answer begins with the other.
        ratios: share of equal words in best and worst answer, of the first rows.
        best: characters of the best answer, and ``worst`` of the worst one, of every compared row.
    """

    rows: int = 0
    blank: int = 0
    prefixes: int = 0
    ratios: list[float] = field(default_factory=list)
    best: array[int] = field(default_factory=lambda: array("q"))
    worst: array[int] = field(default_factory=lambda: array("q"))
    _blank: list[Place] = field(default_factory=list)
    _prefixes: list[Place] = field(default_factory=list)

    def add(self, row: Row, example: Example) -> None:
        """Count a usable row."""
        self.rows += 1
        prompt = prompt_of(example)
        if prompt is not None and not prompt.strip():
            self.blank += 1
            _first(self._blank, row)
        if isinstance(example, Comparison):
            self._compare(row, example)

    def _compare(self, row: Row, example: Comparison) -> None:
        answers = sorted(example.answers(), key=lambda answer: -answer.value)
        best, worst = (written(answers[i].passage) for i in (0, -1))
        self.best.append(len(best))
        self.worst.append(len(worst))
        if best != worst and (best.startswith(worst) or worst.startswith(best)):
            self.prefixes += 1
            _first(self._prefixes, row)
        if len(self.ratios) < COMPARED:
            words = best.split()[:WORDS], worst.split()[:WORDS]
            self.ratios.append(SequenceMatcher(None, *words, autojunk=False).ratio())

    def findings(self, balance: Balance, methods: Sequence[Method]) -> Iterator[Finding]:
        """What the answers teach beside what they should."""
        yield from judged_share(
            "blank-prompt",
            self.blank,
            self.rows,
            BLANK,
            f"blank prompts: {shared(self.blank, self.rows)}",
            fix="fill the prompt, or use a format of documents",
            places=tuple(self._blank),
        )
        yield from self._pairs(balance)
        yield from labels(balance, methods)

    def _pairs(self, balance: Balance) -> Iterator[Finding]:
        rows = balance.compared
        longer = balance.longer / rows if rows else 0.0
        if longer > LONGER.value:
            text = f"the better answer is the longer one in {longer:.0%} of the rows: length would be learned"
            fix = "shorten or add pairs, or take a loss that counts by length"
            yield Finding("length-bias", "warn", text, fix, balance.longer, rows, threshold=LONGER)
        text = f"one answer is the beginning of the other: {shared(self.prefixes, rows)}"
        yield from judged_share(
            "prefix",
            self.prefixes,
            rows,
            PREFIX,
            text,
            fix="look whether answers were cut",
            places=tuple(self._prefixes),
        )
        if self.ratios and (half := median(self.ratios)) > ALIKE.value:
            text = f"half of the pairs share {half:.0%} of their words and more: there is little to tell them apart by"
            fix = "drop pairs that differ in a few words, or watch the log-probability of chosen answers"
            yield Finding("alike", "warn", text, fix, sum(r > ALIKE.value for r in self.ratios), len(self.ratios),
                          threshold=ALIKE)  # fmt: skip

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        return {
            "blank_prompts": self.blank,
            "prefixes": self.prefixes,
            "median_equal_words": median(self.ratios) if self.ratios else None,
            "compared_by_words": len(self.ratios),
        }


def labels(balance: Balance, methods: Sequence[Method]) -> Iterator[Finding]:
    """Whether single answers have both labels in a usable proportion, and the weights that methods give them."""
    total = balance.good + balance.bad
    if not total:
        return
    few = min(balance.good, balance.bad)
    name = "true" if balance.good < balance.bad else "false"
    if balance.one_sided:
        yield Finding("labels", "warn", "all labels are the same: nothing is learned of the other kind",
                      "add rows with the other label", total, total)  # fmt: skip
    elif few / total < MINORITY.value:
        text = f"only {percent(few, total)} of the labels are {name}"
        yield Finding("labels", "warn", text, f"collect more that are {name}", few, total, threshold=MINORITY)
    for method in methods:
        weights = method.label_weights(balance.good, balance.bad)
        if weights is None or balance.one_sided:
            continue
        good, bad = weights
        ratio = good * balance.good / (bad * balance.bad)
        off = not 0.99 <= ratio <= RATIO.value * 1.01
        text = f"{method.name} weighs good answers {good:.3g} and bad ones {bad:.3g}, {ratio:.2f} to 1 in all"
        fix = "leave the weights out, so that they are balanced" if off else ""
        yield Finding("label-weights", "warn" if off else "fine", text, fix, threshold=RATIO)


def _first(places: list[Place], row: Row) -> None:
    if len(places) < SHOWN:
        places.append((row.file, row.line))
