"""Logic puzzles whose answers are assignments."""

from __future__ import annotations

import random
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from tunesmith_plugins.sources.generated import GeneratedTasks, Task

Kind = Literal["knights", "formula", "seats"]


class LogicPuzzles(GeneratedTasks):
    """Knights and knaves, formulas to satisfy, and seating puzzles; the reward `logic` checks the answers.

    Knights and seats have exactly one solution, and a formula may have several. Names do not make a puzzle another one:
    train and test share none that differ in names alone.
    """

    name: ClassVar[str] = "logic-puzzles"

    kinds: tuple[Kind, ...] = ("knights", "formula", "seats")
    """Which kinds of puzzles; each task is one of them."""
    people: int = Field(default=4, ge=3, le=8)
    """Knights and knaves."""
    variables: int = Field(default=6, ge=3, le=26)
    """Variables of a formula."""
    ratio: float = Field(default=3.5, ge=1, le=4.2)
    """Clauses of a formula per variable: around 4 few assignments satisfy it."""
    seats: int = Field(default=4, ge=3, le=7)
    """Seats in a row, and so people."""
    things: int = Field(default=1, ge=0, le=3)
    """Things that each person has one of (a drink, a pet, a colour), to be found out as well."""

    @field_validator("kinds")
    @classmethod
    def _some(cls, value: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("should name one or more of knights, formula, seats, each once")
        return value

    def draw(self, rng: random.Random) -> Task | None:
        """One puzzle of one of the kinds."""
        kind = rng.choice(self.kinds)
        if kind == "knights":
            from tunesmith_plugins.sources.puzzles.knights import knights_puzzle

            return knights_puzzle(rng, self.people)
        if kind == "formula":
            from tunesmith_plugins.sources.puzzles.clauses import formula_puzzle

            return formula_puzzle(rng, self.variables, round(self.ratio * self.variables))
        from tunesmith_plugins.sources.puzzles.seats import seats_puzzle

        return seats_puzzle(rng, self.seats, self.things)
