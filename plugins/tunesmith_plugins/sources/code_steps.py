"""The steps that small programs are made of: what is asked for in words, and a line of Python that does it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple


class Step(NamedTuple):
    """One step; it changes the variable ``x`` (the line is a statement) or returns something made of it."""

    words: str
    line: str


Make = Callable[[random.Random], Step]


def ordinal(number: int) -> str:
    """Second, third, 4th and so on; only for numbers below 20."""
    return {2: "second", 3: "third"}.get(number, f"{number}th")


# ---------------------------------------------------------------------------------------------- lists of numbers
def _divisible(rng: random.Random) -> Step:
    k = rng.randint(2, 5)
    if rng.random() < 0.5:
        return Step(f"Keep only the numbers that are divisible by {k}.", f"x = [n for n in x if n % {k} == 0]")
    return Step(f"Remove the numbers that are divisible by {k}.", f"x = [n for n in x if n % {k} != 0]")


def _compared(rng: random.Random) -> Step:
    k = rng.randint(-5, 15)
    word, sign = rng.choice([("greater", ">"), ("less", "<")])
    return Step(f"Keep only the numbers that are {word} than {k}.", f"x = [n for n in x if n {sign} {k}]")


def _scaled(rng: random.Random) -> Step:
    k = rng.choice([-3, -2, -1, 2, 3, 4, 5, 7])
    return Step(f"Multiply each number by {k}.", f"x = [n * {k} for n in x]")


def _moved(rng: random.Random) -> Step:
    k = rng.randint(1, 12)
    if rng.random() < 0.5:
        return Step(f"Add {k} to each number.", f"x = [n + {k} for n in x]")
    return Step(f"Subtract {k} from each number.", f"x = [n - {k} for n in x]")


def _remainders(rng: random.Random) -> Step:
    k = rng.randint(3, 11)
    words = f"Replace each number by its remainder when divided by {k}, from 0 to {k - 1} for negative numbers too."
    return Step(words, f"x = [n % {k} for n in x]")


def _every_number(rng: random.Random) -> Step:
    k = rng.randint(2, 3)
    return Step(f"Keep every {ordinal(k)} number, beginning with the first.", f"x = x[::{k}]")


def _dropped(rng: random.Random) -> Step:
    k = rng.randint(1, 3)
    what = "number" if k == 1 else f"{k} numbers"
    if rng.random() < 0.5:
        return Step(f"Remove the first {what} (all, where there are no more).", f"x = x[{k}:]")
    return Step(f"Keep only the last {what} (all, where there are no more).", f"x = x[-{k}:]")


def _turned_list(rng: random.Random) -> Step:
    k = rng.randint(1, 3)
    times = "" if k == 1 else f" {k} times"
    line = f"x = x[{k} % len(x):] + x[:{k} % len(x)] if x else x"
    return Step(f"Move the first number to the end{times}.", line)


def _plain_list(rng: random.Random) -> Step:
    return rng.choice(
        [
            Step("Reverse the list.", "x = x[::-1]"),
            Step("Sort the numbers, the smallest first.", "x = sorted(x)"),
            Step("Sort the numbers, the largest first.", "x = sorted(x, reverse=True)"),
            Step("Replace each number by its square.", "x = [n * n for n in x]"),
            Step("Replace each number by its absolute value.", "x = [abs(n) for n in x]"),
            Step("Remove repeated numbers; the first of each stays.", "x = list(dict.fromkeys(x))"),
            Step(
                "Replace the list by the differences between each number and the one before it (one fewer).",
                "x = [b - a for a, b in zip(x, x[1:])]",
            ),
            Step(
                "Replace each number by the sum of all numbers up to it.",
                "x = [sum(x[: i + 1]) for i in range(len(x))]",
            ),
            Step("Add to each number its position, counted from 0.", "x = [n + i for i, n in enumerate(x)]"),
        ]
    )


LIST_STEPS: tuple[Make, ...] = (
    _divisible, _compared, _scaled, _moved, _remainders, _every_number, _dropped, _turned_list, _plain_list, _plain_list
)  # fmt: skip


def list_end(rng: random.Random) -> Step:
    """What is returned at the end."""
    m = rng.choice([7, 11, 13, 97, 101])
    return rng.choice(
        [
            Step("Return the list.", "return x"),
            Step("Return the list.", "return x"),
            Step("Return the sum of the numbers.", "return sum(x)"),
            Step("Return how many numbers there are.", "return len(x)"),
            Step("Return how many different numbers there are.", "return len(set(x))"),
            Step("Return the largest number, or 0 where there is none.", "return max(x, default=0)"),
            Step("Return the smallest number, or 0 where there is none.", "return min(x, default=0)"),
            Step(
                "Return the first number minus the second plus the third and so on.",
                "return sum(x[::2]) - sum(x[1::2])",
            ),
            Step(f"Return the remainder of their sum when divided by {m}.", f"return sum(x) % {m}"),
        ]
    )


# ---------------------------------------------------------------------------------------------- text
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _shifted(rng: random.Random) -> Step:
    k = rng.randint(1, 12)
    way = rng.choice([k, -k])
    words = f"Replace each letter by the one {k} places {'later' if way > 0 else 'earlier'} in the alphabet"
    end = "; after z comes a." if way > 0 else "; before a comes z."
    return Step(words + end, f'x = "".join(chr((ord(c) - 97 + {way}) % 26 + 97) for c in x)')


def _replaced(rng: random.Random) -> Step:
    a, b = rng.sample("aeiounrst", 2)
    return Step(f"Replace every {a!r} by {b!r}.", f'x = x.replace("{a}", "{b}")')


def _every_letter(rng: random.Random) -> Step:
    k = rng.randint(2, 3)
    if rng.random() < 0.5:
        return Step(f"Keep every {ordinal(k)} letter, beginning with the first.", f"x = x[::{k}]")
    words = f"Remove every {ordinal(k)} letter."
    return Step(words, f'x = "".join(c for i, c in enumerate(x) if i % {k} != {k - 1})')


def _turned_text(rng: random.Random) -> Step:
    k = rng.randint(1, 4)
    times = "" if k == 1 else f" {k} times"
    line = f"x = x[{k} % len(x):] + x[:{k} % len(x)] if x else x"
    return Step(f"Move the first letter to the end{times}.", line)


def _repeated(rng: random.Random) -> Step:
    k, vowels = rng.randint(2, 3), rng.random() < 0.5
    times = {2: "twice", 3: "three times"}[k]
    test = "in" if vowels else "not in"
    kind = "vowel (a, e, i, o, u)" if vowels else "consonant"
    return Step(f"Write every {kind} {times}.", f'x = "".join(c * {k} if c {test} "aeiou" else c for c in x)')


def _plain_text(rng: random.Random) -> Step:
    return rng.choice(
        [
            Step("Reverse the text.", "x = x[::-1]"),
            Step("Sort the letters alphabetically.", 'x = "".join(sorted(x))'),
            Step("Remove the vowels (a, e, i, o, u).", 'x = "".join(c for c in x if c not in "aeiou")'),
            Step("Remove repeated letters; the first of each stays.", 'x = "".join(dict.fromkeys(x))'),
            Step(
                "Of equal letters in a row, keep one.",
                'x = "".join(c for i, c in enumerate(x) if i == 0 or x[i - 1] != c)',
            ),
            Step("Append the reverse of the text to it.", "x = x + x[::-1]"),
        ]
    )


TEXT_STEPS: tuple[Make, ...] = (_shifted, _replaced, _every_letter, _turned_text, _repeated, _plain_text, _plain_text)


def text_end(rng: random.Random) -> Step:
    """What is returned at the end."""
    letter = rng.choice("aeiounrst")
    return rng.choice(
        [
            Step("Return the text.", "return x"),
            Step("Return the text.", "return x"),
            Step("Return the text in capital letters.", "return x.upper()"),
            Step(f"Return how often {letter!r} stands in it.", f'return x.count("{letter}")'),
            Step("Return how many different letters it has.", "return len(set(x))"),
            Step("Return the list of its letters.", "return list(x)"),
        ]
    )
