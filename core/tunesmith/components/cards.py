"""What a method says about itself: when to use it, and on how much data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Unit = Literal["tokens", "rows", "pairs", "prompts"]
GOALS: tuple[str, ...] = (
    "facts",
    "domain",
    "language",
    "reasoning",
    "style",
    "safety",
    "format",
    "task",
    "tool-use",
    "pretrain",
)
"""Words for what training is for. A method may use others: they are offered as soon as it is installed."""
_SCALES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Volume:
    """How much data one use of a method typically takes. Programs read it: see `Card.volumes`.

    Attributes:
        use_case: what is done, in two or three words.
        unit: what is counted.
        low: the least that is typical, and ``high`` the most.
        source: who says so: a paper with its number, or a document and its section.
        note: what to watch.
        goals: what this use is for, of `GOALS` or other words; empty: whatever its card's `Card.goals` say.
        open_ended: True where more than ``high`` is usual as well.

    Raises:
        ValueError: the unit is unknown, or the numbers are no range.
    """

    use_case: str
    unit: Unit
    low: int
    high: int
    source: str = ""
    note: str = ""
    goals: tuple[str, ...] = ()
    open_ended: bool = False

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ValueError(f"Volume {self.use_case!r}: unit should be one of {', '.join(get_args(Unit))}")
        if not 0 < self.low <= self.high:
            raise ValueError(f"Volume {self.use_case!r}: low and high should be a range, not {self.low} to {self.high}")

    def __str__(self) -> str:
        """The range as people write it: ``10B-50B+ tokens``."""
        return f"{short(self.low)}-{short(self.high)}{'+' if self.open_ended else ''} {self.unit}"


@dataclass(frozen=True, slots=True)
class Card:
    """What ``show`` prints about a method, and what advice is given from."""

    paper: str
    """Where the method comes from: title and arXiv number, or ``-``."""
    use_when: str
    data: str
    """Typical volume of data, in words."""
    memory: str
    """Models and optimizer states held, per parameter."""
    volumes: tuple[Volume, ...] = ()
    """Typical volumes of data as numbers, one for each use."""
    goals: tuple[str, ...] = ()
    """What the method is for, of `GOALS` or other words; those of its volumes count as well."""

    def serves(self) -> tuple[str, ...]:
        """All goals of the card and of its volumes, each once."""
        return tuple(dict.fromkeys([*self.goals, *(goal for volume in self.volumes for goal in volume.goals)]))

    def volumes_for(self, goal: str | None) -> tuple[Volume, ...]:
        """The volumes that speak of a goal; all of them where none does, or the goal is not known."""
        own = tuple(v for v in self.volumes if goal in (v.goals or self.goals))
        return own or self.volumes


def short(number: float) -> str:
    """A count in three digits at most: ``2k``, ``1.5M``, ``0.9B`` is ``900M``."""
    for size, letter in _SCALES:
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
