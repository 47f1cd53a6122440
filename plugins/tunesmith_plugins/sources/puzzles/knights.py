"""Knights, who tell the truth, and knaves, who lie."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

from tunesmith_plugins.sources.generated import Task, listed
from tunesmith_plugins.sources.puzzles.words import PEOPLE

Truth = Sequence[bool]
"""By person: True for a knight."""


class Saying(NamedTuple):
    """What a person says.

    ``key`` says it without names, ``words`` and ``formula`` with the names of the people in the order of their numbers.
    """

    key: tuple[Any, ...]
    words: Callable[[Sequence[str]], str]
    formula: Callable[[Sequence[str]], str]
    holds: Callable[[Truth], bool]


def knights_puzzle(rng: random.Random, people: int) -> Task | None:
    """A puzzle with exactly one solution, or ``None`` where what people happened to say has none or several."""
    sayings = [_saying(rng, speaker, people) for speaker in range(people)]
    fitting = [
        truth
        for truth in product([False, True], repeat=people)
        if all(saying.holds(truth) == tells for saying, tells in zip(sayings, truth, strict=True))
    ]
    if len(fitting) != 1:
        return None
    names = rng.sample(PEOPLE, people)
    said = [f'{name} says: "{saying.words(names)}"' for name, saying in zip(names, sayings, strict=True)]
    puzzle = {
        "variables": {name: ["knave", "knight"] for name in names},
        "constraints": [
            f"{name} = knight <-> ({saying.formula(names)})" for name, saying in zip(names, sayings, strict=True)
        ],
    }
    kinds = {name: "knight" if tells else "knave" for name, tells in zip(names, fitting[0], strict=True)}
    prompt = (
        "Knights always tell the truth and knaves always lie; everybody is one of the two.\n"
        + "\n".join(said)
        + f"\nWhat are {listed(names)}? End with one line of the form 'Answer: {names[0]}=..., {names[1]}=...' that "
        "says knight or knave for everybody.\n"
    )
    answer = ", ".join(f"{name}={kind}" for name, kind in kinds.items())
    return Task(["knights", [saying.key for saying in sayings]], prompt, answer, columns={"puzzle": puzzle})


def _saying(rng: random.Random, speaker: int, people: int) -> Saying:
    others = [person for person in range(people) if person != speaker]
    return rng.choice([_one, _same, _either, _if_then, _count])(rng, others, people)


def _one(rng: random.Random, others: list[int], people: int) -> Saying:
    who, kind = rng.choice(others), rng.random() < 0.5
    return Saying(
        ("one", who, kind),
        lambda names: f"{names[who]} is a {_word(kind)}.",
        lambda names: f"{names[who]} = {_word(kind)}",
        lambda truth: truth[who] == kind,
    )


def _same(rng: random.Random, others: list[int], people: int) -> Saying:
    a, b = sorted(rng.sample(others, 2))
    equal = rng.random() < 0.5
    return Saying(
        ("same", a, b, equal),
        lambda names: f"{names[a]} and {names[b]} are {'both the same' if equal else 'not the same'}.",
        lambda names: f"{names[a]} {'=' if equal else '!='} {names[b]}",
        lambda truth: (truth[a] == truth[b]) == equal,
    )


def _either(rng: random.Random, others: list[int], people: int) -> Saying:
    a, b = rng.sample(others, 2)
    x, y = rng.random() < 0.5, rng.random() < 0.5
    return Saying(
        ("either", a, x, b, y),
        lambda names: f"{names[a]} is a {_word(x)} or {names[b]} is a {_word(y)}, or both.",
        lambda names: f"{names[a]} = {_word(x)} | {names[b]} = {_word(y)}",
        lambda truth: truth[a] == x or truth[b] == y,
    )


def _if_then(rng: random.Random, others: list[int], people: int) -> Saying:
    a, b = rng.sample(others, 2)
    x, y = rng.random() < 0.5, rng.random() < 0.5
    return Saying(
        ("if", a, x, b, y),
        lambda names: f"If {names[a]} is a {_word(x)}, then {names[b]} is a {_word(y)}.",
        lambda names: f"{names[a]} = {_word(x)} -> {names[b]} = {_word(y)}",
        lambda truth: truth[a] != x or truth[b] == y,
    )


def _count(rng: random.Random, others: list[int], people: int) -> Saying:
    number, kind = rng.randint(0, people), rng.random() < 0.5
    number = min(number, people - 1) if kind else max(number, 1)  # nobody can say that all are knaves, and so on
    wanted = number if kind else people - number
    return Saying(
        ("count", wanted),
        lambda names: f"Among the {people} of us there {_are(number, kind)}.",
        lambda names: f"{' + '.join(names)} = {wanted}",
        lambda truth: sum(truth) == wanted,
    )


def _word(kind: bool) -> str:
    return "knight" if kind else "knave"


def _are(number: int, kind: bool) -> str:
    return f"is exactly 1 {_word(kind)}" if number == 1 else f"are exactly {number} {_word(kind)}s"
