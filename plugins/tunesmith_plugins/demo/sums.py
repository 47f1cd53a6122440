"""The texts about sums that the demo trains on: worked problems, some of them wrong on purpose."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from tunesmith import Source

OPENINGS = ("", "Working: ", "From the right: ")
"""How a worked problem begins: several, so that what is learned does not hang on the place of a digit in the text."""
WRONG = 0.3
"""Share of the worked problems with a mistake: a digit that is off by one, and the answer that follows from it."""
TAG = "thinking"


def columns(a: int, sign: str, b: int) -> list[str]:
    """Column addition, or subtraction where ``a >= b``, from the right.

    >>> columns(47, "+", 38)
    ['7+8=15', '4+3+1=8']
    >>> columns(41, "-", 36)
    ['11-6=5', '4-3-1=0']
    """
    steps, carry = [], 0
    for x, y in zip_longest(map(int, reversed(str(a))), map(int, reversed(str(b))), fillvalue=0):
        top = x + 10 if sign == "-" and x - y - carry < 0 else x
        total = top + y + carry if sign == "+" else top - y - carry
        steps.append(f"{top}{sign}{y}{f'{sign}1' if carry else ''}={total}")
        carry = total // 10 if sign == "+" else int(top > 9)
    return steps


def mistaken(steps: Sequence[str], answer: int, chance: random.Random) -> tuple[list[str], int]:
    """The steps with one digit off by one, and the answer that follows from them."""
    changes = [
        (place, change)
        for place, step in enumerate(steps)
        for change in (-1, 1)
        if 0 <= int(step[-1]) + change <= 9 and answer + change * 10**place >= 0
    ]
    place, change = chance.choice(changes)
    left, _, total = steps[place].partition("=")
    wrong = f"{left}={int(total) + change}"
    return [*steps[:place], wrong, *steps[place + 1 :]], answer + change * 10**place


def problems(source: Source) -> Iterator[tuple[str, list[str], int]]:
    """Of every problem of the source ``arithmetic``: the prompt, the steps and the answer."""
    for row in source.rows():
        prompt = str(row.data["prompt"])
        *_, a, sign, b = prompt.rstrip("?\n").split()
        yield prompt, columns(int(a), sign, int(b)), int(str(row.data["answer"]))


def write_texts(path: Path, source: Source, seed: int, *, wrong: float = WRONG) -> None:
    """Worked problems as documents of plain text."""
    chance = random.Random(f"texts {seed}")
    with path.open("w", encoding="utf-8") as file:
        for prompt, right, result in problems(source):
            steps, answer = mistaken(right, result, chance) if chance.random() < wrong else (right, result)
            text = f"{prompt}{chance.choice(OPENINGS)}{','.join(steps)}\nAnswer: {answer}"
            file.write(json.dumps({"text": text}) + "\n")


def write_demonstrations(path: Path, source: Source, seed: int) -> None:
    """Worked problems as demonstrations, the steps between tags."""
    chance = random.Random(f"demonstrations {seed}")
    with path.open("w", encoding="utf-8") as file:
        for prompt, right, result in problems(source):
            steps, answer = mistaken(right, result, chance) if chance.random() < WRONG else (right, result)
            file.write(json.dumps({"prompt": prompt, "completion": answered(steps, answer)}) + "\n")


def write_pairs(path: Path, source: Source, seed: int) -> None:
    """Two answers to a problem: the right one is preferred to one with a mistake."""
    chance = random.Random(f"pairs {seed}")
    with path.open("w", encoding="utf-8") as file:
        for prompt, right, result in problems(source):
            wrong = mistaken(right, result, chance)
            pair = {"prompt": prompt, "chosen": answered(right, result), "rejected": answered(*wrong)}
            file.write(json.dumps(pair) + "\n")


def answered(steps: Sequence[str], answer: int) -> str:
    """An answer with its thinking.

    >>> answered(["7+8=15", "4+3+1=8"], 85)
    '<thinking>7+8=15,4+3+1=8</thinking>85'
    """
    return f"<{TAG}>{','.join(steps)}</{TAG}>{answer}"
