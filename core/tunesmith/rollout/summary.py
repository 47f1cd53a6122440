"""What the verdicts of rewards amount to: counts, moments, histograms, and how far rewards agree."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, get_args

from tunesmith.components import State, Verdict
from tunesmith.data.report import printable

BLOCKS = " ▁▂▃▄▅▆▇█"
BINS = 10
NEIGHBOURS = 16
"""An answer is compared with at most this many others to its prompt: all pairs of a large group are too many."""
STATES: tuple[str, ...] = get_args(State)


@dataclass(slots=True)
class Judged:
    """What one reward said of all completions, in their order.

    Attributes:
        label: its name in tables.
        verdicts: one per completion.
        seconds: how long it took, without loading.
    """

    label: str
    verdicts: Sequence[Verdict]
    seconds: float
    scores: list[float | None] = field(init=False)
    numbers: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.scores = [verdict.score for verdict in self.verdicts]
        self.numbers = [score for score in self.scores if score is not None]

    def share(self, state: str) -> float:
        """Share of the completions in a state, 0 to 1."""
        return sum(verdict.state == state for verdict in self.verdicts) / len(self.verdicts)

    def first(self, state: str) -> tuple[int, str] | None:
        """The first completion in a state and why, or ``None``."""
        found = ((i, verdict.why) for i, verdict in enumerate(self.verdicts) if verdict.state == state)
        return next(found, None)

    def as_dict(self) -> dict[str, Any]:
        """For programs: the counts of all states, and every score."""
        return {
            "reward": self.label,
            "completions": len(self.verdicts),
            **{state: sum(verdict.state == state for verdict in self.verdicts) for state in STATES},
            "mean": statistics.fmean(self.numbers) if self.numbers else None,
            "std": statistics.pstdev(self.numbers) if self.numbers else None,
            "min": min(self.numbers, default=None),
            "max": max(self.numbers, default=None),
            "ms_per_completion": 1000 * self.seconds / len(self.verdicts),
            "scores": self.scores,
            "states": [verdict.state for verdict in self.verdicts],
            "whys": {str(i): printable(verdict.why) for i, verdict in enumerate(self.verdicts) if verdict.why},
        }


# ---------------------------------------------------------------------------------------------- agreement
@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree; shares are ``None`` where there is nothing to compare.

    Attributes:
        first: label of one.
        second: label of the other.
        both: completions that both scored.
        correlation: Pearson's, ``None`` where one of them does not vary.
        equal: share of these completions with equal scores.
        pairs: pairs of answers to one prompt that both tell apart.
        same_order: share of these pairs that both put in the same order.
    """

    first: str
    second: str
    both: int
    correlation: float | None
    equal: float | None
    pairs: int
    same_order: float | None


def agreement(first: str, ours: Scores, second: str, theirs: Scores, groups: Sequence[str]) -> Agreement:
    """Compare two judges of the same completions; ``groups``: the prompt of each."""
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    signs = []
    for i, j in neighbours(groups):
        one, other = _sign(ours, i, j), _sign(theirs, i, j)
        if one and other:
            signs.append(one == other)
    return Agreement(
        first,
        second,
        len(both),
        correlation(both),
        statistics.fmean(math.isclose(a, b, abs_tol=1e-9) for a, b in both) if both else None,
        len(signs),
        statistics.fmean(signs) if signs else None,
    )


Scores = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Wins:
    """How often a reward prefers what the data prefers, over pairs of answers to one prompt that the data tells apart.

    Attributes:
        pairs: of which both answers were scored.
        right: share in which the better answer has the higher score.
        ties: share in which both have the same.
    """

    pairs: int
    right: float
    ties: float


def wins(scores: Scores, values: Scores, groups: Sequence[str]) -> Wins | None:
    """Compare scores with what the data says; ``None`` where it says nothing that could be compared."""
    found = []
    for i, j in neighbours(groups):
        wanted = _sign(values, i, j)
        given = _sign(scores, i, j)
        if wanted and given is not None:
            found.append(given * wanted)
    if not found:
        return None
    return Wins(len(found), found.count(1) / len(found), found.count(0) / len(found))


def _sign(scores: Scores, i: int, j: int) -> int | None:
    """1 where i is above j, -1 where it is below, 0 where they are equal; ``None`` where one has no score."""
    a, b = scores[i], scores[j]
    if a is None or b is None:
        return None
    return (a > b) - (a < b)


def neighbours(groups: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of positions of the same group, each position with the next `NEIGHBOURS` of its group."""
    order = sorted(range(len(groups)), key=lambda i: groups[i])
    for _, members in groupby(order, key=lambda i: groups[i]):
        found = sorted(members)
        for place, i in enumerate(found):
            yield from ((i, j) for j in found[place + 1 : place + 1 + NEIGHBOURS])


def correlation(both: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's correlation, or ``None`` where it is not defined."""
    if len(both) < 2:
        return None
    ours, theirs = zip(*both, strict=True)
    if min(ours) == max(ours) or min(theirs) == max(theirs):
        return None
    try:
        return statistics.correlation(ours, theirs)
    except statistics.StatisticsError:  # differences too small for floating point
        return None


# ---------------------------------------------------------------------------------------------- histogram
def histogram(numbers: Sequence[float]) -> str:
    """Ten bars from the least to the greatest number.

    >>> histogram([0.0, 0.0, 1.0])
    '█        ▄'
    """
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    width = (high - low) or 1.0
    counts = [0] * BINS
    for number in numbers:
        counts[min(BINS - 1, int((number - low) / width * BINS))] += 1
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // max(counts))] for count in counts)
