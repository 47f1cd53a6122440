"""Solutions of logic puzzles, checked by a solver."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tunesmith
from tunesmith import Fault, Reward, Rollout

if TYPE_CHECKING:
    from tunesmith_rewards.logic.solver import Solver

_TEX = (
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:land|wedge)\b"), " & "),
    (re.compile(r"\\(?:lor|vee)\b"), " | "),
    (re.compile(r"\\(?:lnot|neg)\b"), " not "),
    (re.compile(r"\\(?:leftrightarrow|Leftrightarrow|iff)\b"), " <-> "),
    (re.compile(r"\\(?:rightarrow|Rightarrow|to|implies)\b"), " -> "),
    (re.compile(r"\\oplus\b"), " xor "),
    (re.compile(r"\\(?:q?quad\b|[,;!: ])|~"), " "),
)


class Logic(Reward):
    """1 for an assignment that solves the puzzle of the row, or for a formula that says the same, otherwise 0.

    The puzzle is an object with ``variables`` (name: "boolean", [lowest, highest] or a list of words) and
    ``constraints``, a list of formulas of not ! & | xor -> <-> = != < <= > >= + - * abs() distinct() and parentheses;
    or formulas alone, whose variables are then truth values. The answer is what stands in the last box or behind the
    last "Answer:": a=true, b=3, c=red, or a JSON object, for every variable.
    """

    name: ClassVar[str] = "logic"
    needs: ClassVar[tuple[str, ...]] = ("z3",)
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    column: str = "puzzle"
    """Column of the puzzle: an object of variables (name: boolean, [lowest, highest] or a list of words) and
    constraints, or formulas alone. Formulas have not and or xor -> <-> = != < <= > >= + - * abs() distinct() ( )."""
    mode: Literal["solution", "equivalence"] = "solution"
    """solution: the answer is an assignment, or "unsatisfiable". equivalence: a formula that means the same."""
    unique: bool = False
    """Refuse puzzles that have several solutions."""

    def columns(self) -> Iterable[str]:
        """The puzzle."""
        return (self.column,)

    def warm(self) -> None:
        """Load the solver."""
        import z3

        z3.main_ctx()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A puzzle of each kind of variable, or pairs of equivalent formulas."""
        if self.mode == "equivalence":
            for formula, same in (("p -> q", "not p or q"), ("!(r & s)", "~r | ~s"), ("u xor v", "u <-> not v")):
                yield {"prompt": "Say it differently.", self.column: formula, "completion": f"Answer: {same}"}
            return
        puzzles: list[tuple[dict[str, Any], list[str], str]] = [
            ({"rain": "boolean", "wet": "boolean"}, ["rain", "rain -> wet"], "rain=true, wet=true"),
            ({"x": [0, 50], "y": [0, 50]}, ["x + y = 31", "x - y = 7"], "x=19, y=12"),
            ({"hat": ["red", "blue"], "bag": ["red", "blue"]}, ["hat != bag", "bag = red"], "hat=blue, bag=red"),
        ]
        for variables, constraints, answer in puzzles:
            prompt = f"Find {' and '.join(variables)}: {'; '.join(constraints)}"
            puzzle = {"variables": variables, "constraints": constraints}
            yield {"prompt": prompt, self.column: puzzle, "completion": f"Answer: {answer}"}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Judge every answer; ``None`` where one says that there is no solution and the solver cannot tell."""
        return [self._judged(rollout) for rollout in rollouts]

    def _judged(self, rollout: Rollout) -> float | Fault | None:
        try:
            solver = _solver(json.dumps(rollout.columns.get(self.column)))
        except (TypeError, ValueError, RecursionError) as error:
            return Fault("error", f"column {self.column!r}: {error}")
        if self.unique:
            several = self._several(solver)
            if several is not None:
                return several
        said = _answer(rollout.text)
        if said is None:
            return 0.0
        return self._equivalent(solver, said) if self.mode == "equivalence" else self._solved(solver, said)

    def _solved(self, solver: Solver, said: str) -> float | None:
        from tunesmith_rewards.logic.puzzles import NONE, assignment

        if said.strip(" .").casefold() in NONE:
            return {"no": 1.0, "yes": 0.0}.get(solver.satisfiable())
        found = assignment(said, solver.puzzle.domains)
        return float(found is not None and solver.satisfied(found))

    def _equivalent(self, solver: Solver, said: str) -> float:
        from tunesmith_rewards.logic.syntax import parse

        try:
            return float(solver.equivalent(parse(said)) == "yes")
        except ValueError:  # what the model wrote is no formula, or one of other names
            return 0.0

    def _several(self, solver: Solver) -> Fault | None:
        state = solver.several()
        if state == "no":
            return None
        trouble = "has several solutions" if state == "yes" else "is too hard to be known to have one solution only"
        return Fault("error", f"column {self.column!r}: the puzzle {trouble}")


def _answer(text: str) -> str | None:
    """What the completion says the answer is, without TeX."""
    from tunesmith.passages import after_thinking, boxed, final_answers

    text = after_thinking(text) or ""
    found = boxed(text) or final_answers(text)
    if not found:
        return None
    answer = found[-1]
    if "\\" in answer:
        for pattern, plain in _TEX:
            answer = pattern.sub(plain, answer)
    return answer


@lru_cache(maxsize=256)
def _solver(puzzle: str) -> Solver:
    """The puzzle that a column holds, as JSON. Raises `ValueError` with what is wrong with it."""
    from tunesmith_rewards.logic.puzzles import puzzle as read
    from tunesmith_rewards.logic.solver import Solver

    return Solver(read(json.loads(puzzle)))


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Logic]
