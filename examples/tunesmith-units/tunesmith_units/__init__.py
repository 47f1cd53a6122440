"""A number with its unit as the answer, in whatever unit it is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import tunesmith
from pydantic import Field
from tunesmith import Fault, Rollout

MAX_UNIT = 60
_LETTER = "[A-Za-z\u00b5\u03bc\u03a9]"
_UNIT = re.compile(rf"[%\u00b0]?(?:{_LETTER}|[ /*()\u00b0]|(?<={_LETTER})(?:\^|\*\*)-?[1-9](?!\d|\^|\*\*))+|%")
_LATEX = re.compile(r"\\(?:text|mathrm|rm|unit|si)\s*\{([^{}]*)\}|\\[,;: ]|~")
_BRACED = re.compile(r"\^\s*\{\s*(-?[1-9])\s*\}")
_SPLIT = re.compile(r"(?<=[\d.})])\s*(?=[A-Za-z\u00b0\u00b5\u03bc\u03a9%])(?![eE][+-]?\d)")


class Numeric(tunesmith.Reward):
    """1 where the final answer is the gold quantity, in any unit of the same kind (1.5 km for 1500 m), else 0.

    It replaces the built-in reward of this name: plain numbers are judged as before, and where the gold answer has a
    unit, an answer without one, or with one of another kind, is wrong.
    """

    name: ClassVar[str] = "numeric"
    replaces: ClassVar[str] = "tunesmith/numeric"
    needs: ClassVar[tuple[str, ...]] = ("pint",)
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    answer: str = "answer"
    """Column of the gold quantity, such as 9.81 m/s^2; text behind ``####`` will do."""
    extract: Literal["auto", "boxed", "final", "last-line", "whole"] = "auto"
    """Where the answer stands after the thinking; auto: in a box, else behind a phrase, else it is everything."""
    several: Literal["wrong", "last"] = "wrong"
    """Different quantities as the answer of one completion: wrong unless all are right, or the last one counts."""
    absolute: float = Field(default=0.0, ge=0)
    """Allowed difference, in the unit of the gold answer."""
    relative: float = Field(default=1e-9, ge=0, lt=1)
    """Allowed difference as a share of the gold answer; the larger of the two allowances counts."""
    thousands: bool = True
    """Read 1,000 and 1 000 as one number."""
    missing: Literal["wrong", "accept"] = "wrong"
    """An answer without a unit where the gold one has one; accept: its unit is taken to be the gold one's."""

    def columns(self) -> Iterable[str]:
        """The column of the gold quantity."""
        return (self.answer,)

    def warm(self) -> None:
        """Read the definitions of units."""
        registry()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Questions whose answer is given in another unit than the gold one, and one without any unit."""
        form = {"auto": "\\boxed{%s}", "boxed": "\\boxed{%s}", "final": "The answer is %s."}.get(self.extract, "%s")
        for prompt, gold, written in SAMPLES:
            yield {"prompt": prompt, self.answer: gold, "completion": form % written}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for a right quantity, 0.0 for anything else; a gold answer that cannot be read is an error."""
        return [self._judged(rollout) for rollout in rollouts]

    def _judged(self, rollout: Rollout) -> float | Fault:
        given = rollout.columns.get(self.answer)
        text = repr(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else given
        gold = self.read(text.rpartition("####")[2]) if isinstance(text, str) else None
        if gold is None or (gold[1] and unit(gold[1]) is None):
            return Fault("error", f"column {self.answer!r}: {given!r} is no number with or without a unit")
        found = [self.read(answer) for answer in self._answers(rollout.text)]
        return float(bool(found) and all(one is not None and self._close(gold, one) for one in found))

    def read(self, text: str) -> tuple[float, str] | None:
        """Number and unit (empty where there is none) that a text is, or ``None``."""
        from tunesmith.numerals import numeral
        from tunesmith.passages import unwrapped

        if len(text) > 500:
            return None
        text = unwrapped(_LATEX.sub(lambda m: m[1] or " ", text).replace("\\%", "%")).rstrip(".,; ")
        text = _BRACED.sub(r"^\1", text) if not text.startswith("\\") else text
        number = numeral(text, thousands=self.thousands)
        written = ""
        if number is None:
            head, *rest = _SPLIT.split(text, maxsplit=1)
            number, written = numeral(head, thousands=self.thousands), rest[0].strip() if rest else ""
        return None if number is None else (float(number), written)

    def _close(self, gold: tuple[float, str], answer: tuple[float, str]) -> bool:
        wanted, number = gold[0], answer[0]
        if gold[1] and answer[1]:
            converted = convert(number, answer[1], gold[1])
            if converted is None:
                return False
            number = converted
        elif gold[1] and self.missing == "wrong" and unit(gold[1]) != unit("percent"):
            return False
        elif gold[1] and unit(gold[1]) == unit("percent"):
            number = number * 100  # 0.5 is 50%
        return abs(wanted - number) <= max(self.absolute, self.relative * abs(wanted))

    def _answers(self, text: str) -> list[str]:
        from tunesmith.passages import after_thinking, boxed, final_answers, last_line

        rest = after_thinking(text)
        if rest is None:
            return []
        found = {
            "auto": lambda: boxed(rest) or final_answers(rest) or [rest],
            "boxed": lambda: boxed(rest),
            "final": lambda: final_answers(rest),
            "last-line": lambda: [last_line(rest)],
            "whole": lambda: [rest],
        }[self.extract]()
        return found[-1:] if self.several == "last" else list(dict.fromkeys(found))[:8]


SAMPLES = (
    ("How far does a car get in 90 minutes at 88 km/h?", "132 km", "132000 m"),
    ("What is the density of water in g/cm^3?", "1 g/cm^3", "1000 kg/m^3"),
    ("At how many degrees Celsius does water boil at sea level?", "100 degC", "373.15 kelvin"),
    ("How much energy is 2.5 kWh in joules?", "9000000 J", "9 MJ"),
    ("How much is 1,234 + 5,678?", 6912, "6,912"),
)


@cache
def registry() -> Any:
    """All units that pint knows. Reading them takes a third of a second."""
    import pint

    return pint.UnitRegistry()


@cache
def unit(text: str) -> Any:
    """The unit that a text names, or ``None``. Only names, products and small powers get as far as pint's parser."""
    from tokenize import TokenError

    import pint

    text = "percent" if text == "%" else text.replace(" per ", " / ")
    if len(text) > MAX_UNIT or not _UNIT.fullmatch(text):
        return None
    try:
        return registry().parse_units(text)
    except (pint.errors.PintError, TokenError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError):
        return None  # a parser of units raises all of these for what is no unit


def convert(number: float, written: str, wanted: str) -> float | None:
    """The number in another unit, or ``None`` where a unit is unknown or of another kind."""
    import pint

    source, target = unit(written), unit(wanted)
    if source is None or target is None:
        return None
    try:
        return float(registry().Quantity(number, source).to(target).magnitude)
    except (pint.errors.PintError, ArithmeticError, ValueError):
        return None


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[tunesmith.Reward]]:
    """Called once, when the plugin is loaded."""
    return [Numeric]
