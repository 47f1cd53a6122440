"""What a check found, how bad it is, and from where on it is bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["stop", "warn", "fine"]
"""``stop``: a run would train wrongly; ``warn``: look at it first; ``fine``: worth knowing."""
LEVELS: tuple[Level, ...] = ("stop", "warn", "fine")
Place = tuple[str, int]
"""File and row."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number from which on a finding counts, and why it is this one."""

    value: float
    why: str


COPIES = Threshold(0.05, "copies are memorised, and stand on both sides of a split (arXiv:2107.06499); 5% is ours")
SIMILAR = Threshold(0.8, "Jaccard index of near-duplicates in arXiv:2107.06499")
CUT = Threshold(0.02, "an answer that is cut teaches not to end; 2% is ours")
LONGER = Threshold(0.7, "length bias as SimPO (arXiv:2405.14734) describes it; 70% is ours")
PREFIX = Threshold(0.05, "an answer that is cut off mid-way teaches length; 5% is ours")
ALIKE = Threshold(
    0.9, "pairs of small edit distance lower the likelihood of both answers (arXiv:2402.13228); 90% is ours"
)
MINORITY = Threshold(0.1, "KTO (arXiv:2402.01306) held with 90% of the good answers left out; less was not tried there")
RATIO = Threshold(4 / 3, "weight x number of good to bad answers between 1 and 4/3 (arXiv:2402.01306)")
ANSWERS = Threshold(0.05, "several answers to one prompt are usual where they were sampled; 5% is ours")
LEAKED = Threshold(0.01, "a score moves by about the share that is known by heart; 1% is ours")
GRAMS = Threshold(0.7, "share of 8-grams from which on PaLM (arXiv:2204.02311) calls an evaluation row contaminated")
UNENDED = Threshold(0.01, "a model learns from such rows not to stop; 1% is ours")
UNKNOWN = Threshold(0.001, "tokens that stand for anything unknown; 0.1% is ours")
BLANK = Threshold(0.01, "an answer to nothing; 1% is ours")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: name of the check, which stays the same.
        level: how bad it is.
        text: what was found, in a sentence.
        fix: what to do.
        count: rows concerned, ``of`` how many.
        places: the first of them.
        threshold: from where on it counts.
    """

    check: str
    level: Level
    text: str
    fix: str = ""
    count: int = 0
    of: int = 0
    places: tuple[Place, ...] = ()
    threshold: Threshold | None = None

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        return {
            "check": self.check,
            "level": self.level,
            "text": self.text,
            "fix": self.fix or None,
            "rows": self.count,
            "of": self.of,
            "share": self.count / self.of if self.of else None,
            "threshold": self.threshold.value if self.threshold else None,
            "why": self.threshold.why if self.threshold else None,
            "first": [{"file": file, "row": row} for file, row in self.places],
        }


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of some findings; ``fine`` where there are none."""
    return min((found.level for found in findings), key=LEVELS.index, default="fine")


def judged_share(
    check: str,
    count: int,
    of: int,
    limit: Threshold,
    text: str,
    *,
    fix: str = "",
    places: tuple[Place, ...] = (),
    above: Level = "warn",
    below: Level = "fine",
) -> list[Finding]:
    """A finding about a share of rows: ``above`` where it is more than the limit, else ``below``; none for no row."""
    if not count or not of:
        return []
    level = above if count / of > limit.value else below
    return [Finding(check, level, text, fix, count, of, places, limit)]


def shared(count: float, of: float) -> str:
    """A count with its share: ``20 (8.3%)``."""
    return f"{count:,} ({percent(count, of)})"


def percent(count: float, of: float) -> str:
    """A share in words, small ones with a digit more.

    >>> percent(1, 3), percent(1, 300), percent(1, 30000)
    ('33%', '0.3%', 'under 0.1%')
    """
    share = count / of if of else 0.0
    if 0 < share < 0.0005:
        return "under 0.1%"
    return f"{share:.1%}" if 0 < share < 0.0995 and f"{share:.1%}"[-2] != "0" else f"{share:.0%}"
