"""Reading what a program reported: plain data only, within bounds, and nothing that runs code."""

from __future__ import annotations

import json
from typing import Any, NoReturn

DEPTH = 64
"""Levels of lists and mappings in one another at most."""
DIGITS = 4000
"""Digits of a whole number at most: reading takes quadratic time."""


class Unordered(list[Any]):
    """The members of a set, as a list: they are plain data, and data of any kind need not be hashable."""


class Pairs(list[tuple[Any, Any]]):
    """The entries of a mapping, whose keys may be of any kind."""


def read_plain(text: bytes) -> Any:
    """The value that a report holds: ``None``, bool, int, float, str, list, `Unordered` or `Pairs`.

    Raises:
        ValueError: not JSON of the kind that reports are written in; too deep; NaN or infinite; a long number; a
            name twice; bytes after its end.
    """
    decoded = text.decode("ascii")
    if _depth(decoded) > DEPTH:
        raise ValueError(f"deeper than {DEPTH} levels")
    return json.loads(
        decoded,
        object_pairs_hook=_tagged,
        parse_constant=_no_constant,
        parse_int=_integer,
        parse_float=_finite,
    )


def _depth(text: str) -> int:
    """Levels of brackets, those in strings left out."""
    depth = deepest = 0
    quoted = escaped = False
    for sign in text:
        if quoted:
            quoted, escaped = escaped or sign != '"', sign == "\\" and not escaped
        elif sign == '"':
            quoted = True
        elif sign in "[{":
            depth += 1
            deepest = max(depth, deepest)
        elif sign in "]}":
            depth -= 1
    return deepest


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no plain number")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of more than {DIGITS} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number that is not finite")
    return number


def _tagged(entries: list[tuple[str, Any]]) -> Any:
    """A set is written ``{"set": [...]}`` and a mapping ``{"dict": [[key, value], ...]}``; no other object is."""
    if len(entries) == 1 and isinstance(entries[0][1], list):
        tag, members = entries[0]
        if tag == "set":
            return Unordered(members)
        if tag == "dict" and all(type(pair) is list and len(pair) == 2 for pair in members):
            return Pairs((key, value) for key, value in members)
    raise ValueError("an object that is neither a set nor a mapping")
