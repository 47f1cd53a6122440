"""Reach a number by calculating with others."""

from __future__ import annotations

import random
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator

from tunesmith_plugins.sources.generated import GeneratedTasks, Task

Operation = Literal["+", "-", "*", "/"]
STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2}


class Term(NamedTuple):
    """A value with the expression that gives it; ``strength`` is that of its outermost operation."""

    value: int
    text: str
    strength: int


class Countdown(GeneratedTasks):
    """Reach a target from a few numbers, each used at most once; the reward `countdown` takes every solution."""

    name: ClassVar[str] = "countdown"

    numbers: int = Field(default=4, ge=2, le=8)
    """How many numbers there are; the known solution uses all of them."""
    max_number: int = Field(default=25, ge=2, le=999)
    """The largest number."""
    max_target: int = Field(default=100, ge=2, le=100_000)
    """The largest target."""
    operations: tuple[Operation, ...] = ("+", "-", "*", "/")
    """What may be used."""

    @field_validator("operations")
    @classmethod
    def _some(cls, value: tuple[Operation, ...]) -> tuple[Operation, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("should name one or more of + - * /, each once")
        return value

    def draw(self, rng: random.Random) -> Task | None:
        """Numbers combined at random until one is left, where every intermediate value is a whole number above 0."""
        given = [rng.randint(1, self.max_number) for _ in range(self.numbers)]
        terms, steps = [Term(number, str(number), 3) for number in given], []
        while len(terms) > 1:
            a, b = (terms.pop(rng.randrange(len(terms))) for _ in range(2))
            possible = [(op, made) for op in self.operations if (made := _combined(a, op, b)) is not None]
            if not possible:
                return None
            operation, combined = rng.choice(possible)
            steps.append(f"{a.value} {operation} {b.value} = {combined.value}")
            terms.append(combined)
        target = terms[0]
        if not 2 <= target.value <= self.max_target or target.value in given:
            return None
        prompt = (
            f"Write an expression that equals {target.value}. Use the numbers {', '.join(map(str, given))}, each at "
            f"most once, parentheses, and the operations {' '.join(self.operations)}. Intermediate values may be "
            "fractions. End with a line that starts with 'Answer:' followed by the expression alone.\n"
        )
        columns = {"numbers": given, "target": target.value}
        return Task([sorted(given), target.value], prompt, target.text, work="\n".join(steps), columns=columns)


def _combined(a: Term, operation: Operation, b: Term) -> Term | None:
    """Both terms as one, or ``None`` where that is no whole number above 0, or nothing but ``a`` again."""
    x, y = a.value, b.value
    values = {"+": x + y, "-": x - y, "*": x * y, "/": x // y if x % y == 0 else 0}
    value = values[operation]
    if value <= 0 or (operation in "*/" and y == 1):
        return None
    mine = STRENGTH[operation]
    left = f"({a.text})" if a.strength < mine else a.text
    weak = b.strength < mine or (b.strength == mine and operation in "-/")
    return Term(value, f"{left} {operation} {f'({b.text})' if weak else b.text}", mine)
