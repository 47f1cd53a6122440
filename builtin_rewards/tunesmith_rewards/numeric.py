"""Answers that are a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import Fault, Reward, Rollout

_PERCENT = re.compile(r"\s*(?:\\?%|\bpercent\b|\bper cent\b)$", re.IGNORECASE)
_CURRENCY = re.compile("^([-+]?)\\s*\\\\?[$\u20ac\u00a3\u00a5]\\s*")
_WORD = r"(?:(?!(?:and|or|to|plus|minus|times|by|of|e|x)\b)[A-Za-z\u00b0]{2,}|[mgshlLVWJNKCFAk\u00b0])"
_UNIT = re.compile(
    rf"(?<=[\d.}}\s])\s*(?:\\(?:text|mathrm)\s*\{{[^{{}}]*\}}|{_WORD}(?:[ /]{_WORD}){{0,3}})(?:\^?\{{?-?[1-4]\}}?)?\s*$"
)
_NAME = re.compile(r"^[A-Za-z]\w{0,20}\s*(?:=|\\approx|\u2248)\s*")


class Numeric(Reward):
    """1 where the final answer is the gold number, within a tolerance, else 0."""

    name: ClassVar[str] = "numeric"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    answer: str = "answer"
    """Column of the gold number, or of a list of right ones; text behind ``####`` will do."""
    extract: Literal["auto", "boxed", "final", "tag", "last-line", "whole"] = "auto"
    """Where the number stands after the thinking; auto: in a box, else behind a phrase, else it is everything."""
    tag: str = "answer"
    """Tag whose content is the answer, with extract: tag."""
    several: Literal["wrong", "last"] = "wrong"
    """Different numbers as the answer of one completion: wrong unless all are right, or the last one counts."""
    thinking: tuple[str, ...] = ("think", "thinking")
    """Tags of the thinking block, whose content is no answer."""
    absolute: float = Field(default=0.0, ge=0)
    """Allowed difference."""
    relative: float = Field(default=0.0, ge=0, lt=1)
    """Allowed difference as a share of the gold number; the larger of the two allowances counts."""
    percent: Literal["match", "ignore", "value"] = "match"
    """Percent signs: both have one or none; ignore them; or 50% is 0.5."""
    thousands: bool = True
    """Read 1,000 and 1 000 as one number."""
    units: bool = True
    """Leave out a unit or a currency sign around the number; else a number with one is wrong."""

    def columns(self) -> Iterable[str]:
        """The column of the gold number."""
        return (self.answer,)

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Questions with numbers outside what guesses of small numbers hit."""
        form = f"<{self.tag}>{{}}</{self.tag}>" if self.extract == "tag" else "{}"
        form = {"auto": r"\boxed{{{}}}", "boxed": r"\boxed{{{}}}", "final": "The answer is {}."}.get(self.extract, form)
        for prompt, gold, written in _SAMPLES:
            yield {"prompt": prompt, self.answer: gold, "completion": form.format(written)}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for a right number, 0.0 for anything else; a gold answer that is no number is an error."""
        return [self._judge(rollout) for rollout in rollouts]

    def _judge(self, rollout: Rollout) -> float | Fault:
        given = rollout.columns.get(self.answer)
        golds = [self._gold(gold) for gold in (given if isinstance(given, list | tuple) else [given])]
        known = [gold for gold in golds if gold is not None]
        if not known or len(known) < len(golds):
            return Fault("error", f"column {self.answer!r}: {given!r} is no number")
        found = [self.read(text) for text in self._answers(rollout.text)]
        right = bool(found) and all(a is not None and any(self._close(g, a) for g in known) for a in found)
        return float(right)

    def read(self, text: str) -> tuple[Fraction, bool] | None:
        """The number that a text is and whether a percent sign follows it, or ``None``."""
        from tunesmith.numerals import numeral
        from tunesmith.passages import unwrapped

        if len(text) > 500:
            return None
        text = _NAME.sub("", unwrapped(text).rstrip(".,; ").replace("{,}", ",").replace("\\!", "").replace("\\,", ""))
        body = _PERCENT.sub("", text)
        percent = body != text
        number = numeral(body, thousands=self.thousands)
        if number is None and self.units:
            stripped = _UNIT.sub("", _CURRENCY.sub(r"\1", body)).strip()
            number = numeral(stripped, thousands=self.thousands)
        return None if number is None else (number, percent)

    def _gold(self, gold: Any) -> tuple[Fraction, bool] | None:
        from tunesmith.passages import boxed, final_answers

        if isinstance(gold, bool) or not isinstance(gold, str | int | float):
            return None
        if not isinstance(gold, str):
            return self.read(repr(gold))
        stated = boxed(gold) or (final_answers(gold) if "####" in gold else [])
        return self.read(stated[-1] if stated else gold)

    def _close(self, gold: tuple[Fraction, bool], answer: tuple[Fraction, bool]) -> bool:
        if self.percent == "match" and gold[1] != answer[1]:
            return False
        by = [Fraction(1, 100) if sign and self.percent == "value" else 1 for _, sign in (gold, answer)]
        wanted, number = gold[0] * by[0], answer[0] * by[1]
        allowed = max(Fraction(str(self.absolute)), Fraction(str(self.relative)) * abs(wanted))
        return abs(wanted - number) <= allowed

    def _answers(self, text: str) -> list[str]:
        from tunesmith.passages import after_thinking, boxed, final_answers, last_line, tagged

        rest = after_thinking(text, self.thinking)
        if rest is None:
            return []
        found = {
            "auto": lambda: boxed(rest) or final_answers(rest) or [rest],
            "boxed": lambda: boxed(rest),
            "final": lambda: final_answers(rest),
            "tag": lambda: tagged(rest, self.tag),
            "last-line": lambda: [last_line(rest)],
            "whole": lambda: [rest],
        }[self.extract]()
        return found[-1:] if self.several == "last" else list(dict.fromkeys(found))[:8]


_SAMPLES = (
    ("How much is 1,234 + 5,678?", 6912, "6,912"),
    ("What is 3 divided by 8?", 0.375, r"\frac{3}{8}"),
    ("What is the temperature in degrees Celsius at -40 degrees Fahrenheit?", "-40", "-40.0"),
    ("How many metres does light travel in a second?", "299792458", r"2.99792458 \times 10^{8} m"),
    ("What share of 400 is 514?", r"128.5\%", "128.5%"),
)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Numeric]
