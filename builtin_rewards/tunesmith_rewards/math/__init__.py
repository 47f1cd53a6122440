"""Answers to mathematical questions: equal to the gold answer or not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import Fault, Reward, Rollout

if TYPE_CHECKING:
    from tunesmith_rewards.math.answers import Answer
    from tunesmith_rewards.math.compare import Rules

MAX_FINAL = 8
"""Different final answers that are looked at; a completion with more is wrong."""


class Math(Reward):
    """1 where the final answer is mathematically the gold one, else 0 (math-verify, with limits on what it may see)."""

    name: ClassVar[str] = "math"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("math_verify",)

    answer: str = "answer"
    """Column of the gold answer, or of a list of right ones; a whole solution with a box or ``####`` will do."""
    extract: Literal["auto", "boxed", "final", "whole"] = "auto"
    """Where the answer stands after the thinking: in a box, behind a phrase ("the answer is", ``####``, answer tags);
    auto: in a box, else behind a phrase, else it is everything; whole: everything."""
    several: Literal["wrong", "last"] = "wrong"
    """Different final answers in one completion: wrong unless all of them are right, or the last one counts."""
    thinking: tuple[str, ...] = ("think", "thinking")
    """Tags of the thinking block, whose content is no answer."""
    percent: Literal["match", "ignore", "value"] = "match"
    """Percent signs: both have one or none; ignore them; or 50% is 0.5."""
    units: Literal["if-both", "match", "ignore"] = "if-both"
    """Units, degrees and currencies: the same where both have one; always the same; or ignore them."""
    order: Literal["brackets", "always", "never"] = "brackets"
    """Order of the items of a list: matters in ( ) and [ ], not in { } or without brackets; always; or never."""
    brackets: Literal["match", "ignore"] = "match"
    """Brackets around a list: the same kind ({1,2} is the same as 1,2), or any."""
    intervals: Literal["match", "inequalities"] = "match"
    """Intervals: written as in the gold answer, or also as an inequality of one variable."""
    thousands: bool = True
    """Read 1,000 and 1 000 as one number; else a comma separates two."""
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    """Allowed difference of numbers, as a share of the gold one; at 0, 0.333333 is not 1/3."""
    symmetric: bool = True
    """What is left to math-verify must hold in both directions."""

    def columns(self) -> Iterable[str]:
        """The column of the gold answer."""
        return (self.answer,)

    def warm(self) -> None:
        """Import math-verify and let it read what answers are made of: its parser learns, and is slow at first."""
        from tunesmith_rewards.math.expressions import parse

        for latex in _WARMING:
            parse(latex)

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Questions with answers of different kinds, outside what guesses of small numbers hit."""
        for prompt, gold, completion in _SAMPLES:
            yield {"prompt": prompt, self.answer: gold, "completion": completion}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for a right answer, 0.0 for any other; a gold answer that cannot be read is an error."""
        rules = self._rules()
        return [self._judge(rollout, rules) for rollout in rollouts]

    def _judge(self, rollout: Rollout, rules: Rules) -> float | Fault:
        from tunesmith_rewards.math.answers import read
        from tunesmith_rewards.math.compare import right

        try:
            golds = [_gold(gold, self.thousands) for gold in _listed(rollout.columns.get(self.answer))]
        except ValueError as error:
            return Fault("error", f"column {self.answer!r}: {error}")
        found = [read(text, self.thousands) for text in self.answers(rollout.text)]
        fine = bool(found) and all(a is not None and any(right(g, a, rules) for g in golds) for a in found)
        return float(fine)

    def answers(self, text: str) -> list[str]:
        """The final answers of a completion that differ in spelling; none where there are none or too many."""
        from tunesmith.passages import after_thinking, boxed, final_answers

        rest = after_thinking(text, self.thinking)
        if rest is None:
            return []
        found = boxed(rest) if self.extract in ("auto", "boxed") else []
        if self.extract in ("auto", "final"):
            found = found or final_answers(rest)
        if self.extract == "whole" or (self.extract == "auto" and not found):
            found = [rest.strip()]
        distinct = list(dict.fromkeys(found[-1:] if self.several == "last" else found))
        return distinct if len(distinct) <= MAX_FINAL else []

    def _rules(self) -> Rules:
        from fractions import Fraction

        from tunesmith_rewards.math.compare import Rules

        return Rules(
            percent=self.percent,
            units=self.units,
            order=self.order,
            brackets=self.brackets,
            intervals=self.intervals,
            tolerance=Fraction(str(self.tolerance)),
            symmetric=self.symmetric,
        )


def _listed(gold: Any) -> Sequence[Any]:
    if isinstance(gold, list | tuple):
        if not gold:
            raise ValueError("the list of gold answers is empty")
        return gold
    return (gold,)


def _gold(gold: Any, thousands: bool) -> Answer:
    """The gold answer. Raises `ValueError` with the reason where it cannot be read."""
    if isinstance(gold, bool) or not isinstance(gold, str | int | float):
        raise ValueError(f"a gold answer is text or a number, not {gold!r}")
    if isinstance(gold, float) and not math.isfinite(gold):
        raise ValueError(f"a gold answer is a finite number, not {gold!r}")
    return _read_gold(str(gold), thousands)


@lru_cache(maxsize=8192)
def _read_gold(gold: str, thousands: bool) -> Answer:
    from tunesmith.passages import boxed, final_answers
    from tunesmith_rewards.math.answers import read
    from tunesmith_rewards.math.compare import readable

    stated = boxed(gold) or (final_answers(gold) if "####" in gold else [])
    text = stated[-1] if stated else gold
    answer = read(text, thousands)
    if answer is None or not readable(answer):
        raise ValueError(f"the gold answer {text[:80]!r} cannot be read as mathematics")
    return answer


_WARMING = (
    r"\frac{\sqrt{3}}{2}+1",
    r"2x^{2}-3xy+\frac{1}{4}",
    r"\left(x+1\right)^{n-1}\cdot 5!",
    r"-\sin(2\pi x)+\cos\frac{\pi}{3}",
    r"e^{-(x+1)^{2}}\ln(x)",
    r"\log_{2}(8)+|x_{1}|",
    r"\begin{pmatrix}1&x\\-\frac{1}{2}&0\end{pmatrix}",
    r"n(n+(1-(a+b)))",
    r"\binom{5}{2}-\lfloor x\rfloor+\sqrt[3]{2}i",
)
_SAMPLES = (
    ("What is 1/3 of 1,234?", "1234/3", r"One third of it is \boxed{\frac{1234}{3}}."),
    ("Expand (x + 2)^2.", "x^2+4x+4", r"<think>Square it.</think>It is $\boxed{(x+2)^2}$."),
    ("What is the length of the diagonal of a square of side 12?", r"12\sqrt{2}", r"\boxed{\sqrt{288}}"),
    ("Solve x^2 = 400.", r"-20, 20", r"The solutions are \boxed{\{20,-20\}}."),
    ("What share is 3 of 8, as a percentage?", r"37.5\%", r"The answer is $\frac{75}{2}\%$."),
    ("Where is the vertex of y = (x - 200)^2 - 7?", "(200,-7)", r"\boxed{\left(200, -7\right)}"),
    ("For which x is 2x - 1 < 300?", r"x<\frac{301}{2}", r"\boxed{150.5 > x}"),
    ("What is 25 * 17?", 425, "25 * 17 = 425\n#### 425"),
)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Math]
