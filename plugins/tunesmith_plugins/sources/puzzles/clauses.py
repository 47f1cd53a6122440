"""Formulas to satisfy."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

from tunesmith_plugins.sources.generated import Task

Clause = tuple[tuple[int, bool], ...]
"""Numbers of variables, each with True where it is not negated."""
WIDTH = 3
"""Literals of a clause."""


def formula_puzzle(rng: random.Random, variables: int, clauses: int) -> Task:
    """A conjunction of clauses of three literals that at least one assignment satisfies; there may be more."""
    solution = [rng.random() < 0.5 for _ in range(variables)]
    chosen: set[Clause] = set()
    left = 20 * clauses  # where few variables have few clauses, fewer of them make the formula
    while len(chosen) < clauses and left:
        left -= 1
        clause = tuple((i, rng.random() < 0.5) for i in sorted(rng.sample(range(variables), WIDTH)))
        if any(solution[i] == positive for i, positive in clause):
            chosen.add(clause)
    names = rng.sample(ascii_lowercase, variables)
    order = sorted(chosen)
    rng.shuffle(order)
    texts = [" or ".join(names[i] if positive else f"not {names[i]}" for i, positive in clause) for clause in order]
    formula = " and\n".join(f"({text})" for text in texts)
    shown = sorted(names)
    prompt = (
        f"Find truth values for {', '.join(shown)} that make this formula true:\n{formula}\n"
        f"End with one line of the form 'Answer: {shown[0]}=..., {shown[1]}=...' that says true or false for every "
        "variable.\n"
    )
    puzzle = {"variables": dict.fromkeys(shown, "boolean"), "constraints": texts}
    values = dict(zip(names, solution, strict=True))
    answer = ", ".join(f"{name}={str(values[name]).lower()}" for name in shown)
    return Task(["formula", _nameless(order, variables)], prompt, answer, columns={"puzzle": puzzle})


def _nameless(clauses: Sequence[Clause], variables: int) -> list[int]:
    """The same for all formulas that differ in names alone, and for few others.

    A variable is known by the clauses that it stands in, these by their variables, and so on, three times over.
    """
    known = [0] * variables
    for _ in range(3):
        seen: list[list[Any]] = [[own] for own in known]
        for clause in clauses:
            literals = sorted([sign, known[i]] for i, sign in clause)
            for i, sign in clause:
                seen[i].append([sign, literals])
        known = [zlib.crc32(repr([own, sorted(places)]).encode()) for own, *places in seen]
    return sorted(known)
