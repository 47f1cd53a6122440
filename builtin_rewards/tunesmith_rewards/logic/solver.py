"""Puzzles as the solver has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, Literal

import z3

from tunesmith_rewards.logic.puzzles import Puzzle
from tunesmith_rewards.logic.syntax import Node

LIMIT = 4_000_000
"""Steps of the solver (its ``rlimit``) for one question: the same on every machine, unlike seconds."""
State = Literal["yes", "no", "unknown"]
COMPARISONS = ("<", "<=", ">", ">=")


class Solver:
    """One puzzle, ready for questions. Raises `ValueError` where a constraint mixes up truth values and numbers."""

    def __init__(self, puzzle: Puzzle) -> None:
        self.puzzle = puzzle
        self._satisfiable: State | None = None
        self._several: State | None = None
        self.variables = {
            name: z3.Bool(name) if domain.boolean else z3.Int(name) for name, domain in puzzle.domains.items()
        }
        words = {word: place for domain in puzzle.domains.values() for place, word in enumerate(domain.words)}
        self._names = {**{word: z3.IntVal(place) for word, place in words.items()}, **self.variables}
        ranges = [
            z3.And(self.variables[name] >= domain.low, self.variables[name] <= domain.high)
            for name, domain in puzzle.domains.items()
            if not domain.boolean
        ]
        self.ranges = z3.And(ranges)
        self.formula = z3.And([self.translated(node) for node in puzzle.constraints])

    def translated(self, node: Node) -> Any:
        """A formula. Raises `ValueError` where it is none, or where a name is unknown."""
        return _truth(self._expression(node), node.kind)

    def _expression(self, node: Node) -> Any:
        if node.kind == "name":
            if node.text not in self._names:
                raise ValueError(f"there is no variable {node.text!r}")
            return self._names[node.text]
        if node.kind == "number":
            return z3.IntVal(int(node.text))
        if node.kind == "truth":
            return z3.BoolVal(node.text == "true")
        return _applied(node.kind, [self._expression(part) for part in node.parts])

    # ------------------------------------------------------------------------------------------ questions
    def satisfied(self, assignment: Mapping[str, int]) -> bool:
        """Do all constraints hold? Every variable has a value."""
        values = [(self.variables[name], self._value(name, number)) for name, number in assignment.items()]
        return bool(z3.is_true(z3.simplify(z3.substitute(z3.And(self.ranges, self.formula), *values))))

    def satisfiable(self) -> State:
        """Is there a solution?"""
        if self._satisfiable is None:
            self._satisfiable = _state(self._asked(self.formula).check())
        return self._satisfiable

    def several(self) -> State:
        """Is there more than one solution?"""
        if self._several is None:
            solver = self._asked(self.formula)
            found = solver.check()
            if found == z3.sat:
                model = solver.model()
                values = [(one, model.eval(one, model_completion=True)) for one in self.variables.values()]
                solver.add(z3.Or([one != value for one, value in values]))
                found = solver.check()
            self._several = _state(found)
        return self._several

    def equivalent(self, node: Node) -> State:
        """Is a formula true for the same assignments as the constraints together? Raises `ValueError` as above."""
        differs = self._asked(z3.Xor(self.formula, self.translated(node))).check()
        return "yes" if differs == z3.unsat else "no" if differs == z3.sat else "unknown"

    def _asked(self, formula: Any) -> Any:
        solver = z3.Solver()
        solver.set("rlimit", LIMIT)
        solver.add(self.ranges, formula)
        return solver

    def _value(self, name: str, number: int) -> Any:
        return z3.BoolVal(bool(number)) if self.puzzle.domains[name].boolean else z3.IntVal(number)


def _state(found: Any) -> State:
    return "yes" if found == z3.sat else "no" if found == z3.unsat else "unknown"


# ---------------------------------------------------------------------------------------------- operations
def _applied(kind: str, parts: list[Any]) -> Any:
    if kind in ("=", "!="):
        if z3.is_bool(parts[0]) != z3.is_bool(parts[1]):
            raise ValueError(f"{kind!r} compares a truth value with a number")
        return parts[0] == parts[1] if kind == "=" else parts[0] != parts[1]
    if kind in ("not", "&", "|", "xor", "->", "<->"):
        return _logical(kind, [_truth(part, kind) for part in parts])
    return _numeric(kind, [_number(part, kind) for part in parts])


def _logical(kind: str, parts: list[Any]) -> Any:
    if kind == "not":
        return z3.Not(parts[0])
    if kind in ("&", "|"):
        return z3.And(parts) if kind == "&" else z3.Or(parts)
    left, right = parts
    return {"xor": z3.Xor, "->": z3.Implies, "<->": lambda a, b: a == b}[kind](left, right)


def _numeric(kind: str, parts: list[Any]) -> Any:
    if kind in COMPARISONS:
        left, right = parts
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[kind]
    if kind == "distinct":
        return z3.Distinct(parts)
    if kind in ("minus", "abs"):
        return -parts[0] if kind == "minus" else z3.If(parts[0] >= 0, parts[0], -parts[0])
    if kind == "+":
        return z3.Sum(parts)
    return parts[0] - parts[1] if kind == "-" else reduce(lambda a, b: a * b, parts)


def _truth(value: Any, kind: str) -> Any:
    if not z3.is_bool(value):
        raise ValueError(f"a number stands where a truth value is expected ({kind!r})")
    return value


def _number(value: Any, kind: str) -> Any:
    if z3.is_bool(value):
        raise ValueError(f"a truth value stands where a number is expected ({kind!r})")
    return value
