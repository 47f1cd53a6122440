"""Whether what a program printed or returned is what was expected. Both sides are plain data here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.sandbox import Pairs, Unordered

REAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


def same_text(printed: bytes, expected: str, tolerance: float) -> bool:
    """The whole output, line by line. Spaces at the ends of lines and blank lines at the end do not count."""
    try:
        lines = _lines(printed.decode("utf-8"))
    except UnicodeDecodeError:
        return False
    wanted = _lines(expected)
    if lines == wanted:
        return True
    if tolerance == 0 or len(lines) != len(wanted):
        return False
    return all(_same_line(one, other, tolerance) for one, other in zip(lines, wanted, strict=True))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_line(line: str, wanted: str, tolerance: float) -> bool:
    """Words are the same, but for numbers that are expected with a point or an exponent."""
    if line == wanted:
        return True
    words, others = line.split(" "), wanted.split(" ")
    return len(words) == len(others) and all(
        word == other or _near_words(word, other, tolerance) for word, other in zip(words, others, strict=True)
    )


def _near_words(word: str, wanted: str, tolerance: float) -> bool:
    if not REAL.fullmatch(wanted) or not (REAL.fullmatch(word) or re.fullmatch(r"[+-]?\d{1,300}", word)):
        return False
    return _near(float(word), float(wanted), tolerance)


def _near(number: float, wanted: float, tolerance: float) -> bool:
    return math.isfinite(number) and abs(number - wanted) <= tolerance * max(1.0, abs(wanted))


def same_value(got: Any, expected: Any, tolerance: float) -> bool:
    """The same plain data. Lists and tuples are alike; True is not 1; a set is not a list."""
    if isinstance(expected, set | frozenset):
        return isinstance(got, Unordered) and _same_members(got, list(expected), tolerance)
    if isinstance(expected, Mapping):
        return isinstance(got, Pairs) and _same_entries(got, expected, tolerance)
    if isinstance(expected, list | tuple):
        return type(got) is list and _same_items(got, expected, tolerance)
    if isinstance(expected, bool) or isinstance(got, bool):
        return got is expected
    if isinstance(expected, float) and isinstance(got, int | float):
        try:
            return got == expected or _near(float(got), expected, tolerance)
        except OverflowError:
            return False
    if isinstance(expected, int) and isinstance(got, int | float):
        return bool(got == expected)
    return type(got) is type(expected) and bool(got == expected)


def _same_items(got: Sequence[Any], expected: Sequence[Any], tolerance: float) -> bool:
    return len(got) == len(expected) and all(
        same_value(one, other, tolerance) for one, other in zip(got, expected, strict=True)
    )


def _same_members(got: Sequence[Any], expected: list[Any], tolerance: float) -> bool:
    if len(got) != len(expected):
        return False
    left = list(expected)
    for member in got:
        match = next((i for i, other in enumerate(left) if same_value(member, other, tolerance)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _same_entries(got: Pairs, expected: Mapping[Any, Any], tolerance: float) -> bool:
    """By key. JSON has text as keys only, so a number that a function returns may be expected as text."""
    if len(got) != len(expected):
        return False
    seen = set()
    for key, value in got:
        name = key if isinstance(key, str | int | float) else tuple(key) if type(key) is list else None
        try:
            known = name if name in expected else str(name)
        except TypeError:  # a list in a key
            return False
        if known in seen or known not in expected or not same_value(value, expected[known], tolerance):
            return False
        seen.add(known)
    return True
