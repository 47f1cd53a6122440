"""What an answer is made of: values, lists of them in brackets, relations, text; with percent signs and units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from tunesmith_rewards.math.guards import MAX_ITEMS, MAX_LENGTH, MAX_NESTING
from tunesmith_rewards.math.spelling import latex, plain, words

Kind = Literal["value", "list", "relation", "text"]
_OPENING, _CLOSING = "([{", ")]}"
_SEPARATOR = re.compile(r"\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|;)\s*")
_GROUP_LEFT, _GROUP_RIGHT = re.compile(r"^[-+]?\D{0,6}\d{1,3}(?:,\d{3})*$"), re.compile(r"^\d{3}(?!\d)")
_RELATION = re.compile(r"\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|\\in(?![A-Za-z])|<=|>=|!=|<|>|=")
_OPERATORS = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne"}
NAME = re.compile(r"\\?[A-Za-z]+(?:_\{?[A-Za-z0-9]+\}?)?'*(?:\(\\?[A-Za-z]+(?:,\s*\\?[A-Za-z]+)*\))?")
_PERCENT = re.compile(r"\s*(?:\\?%|\s(?:percent|per cent|pct)|\\text\s*\{\s*(?:percent|per cent|%|\\%)\s*\})\s*$")
_CURRENCY = re.compile(r"^([-+]?)\s*(?:\\?\$|\\text\s*\{\s*\\?\$\s*\})\s*")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?\s*(?:[CF]|\\text\s*\{\s*[CF]\s*\}|\\mathrm\s*\{\s*[CF]\s*\})?\s*$")
_QUOTED_UNIT = re.compile(r"(?<=[\s\d})])\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*((?:\^\s*\{?\s*-?\d\s*\}?)?)\s*$")
_BARE_UNIT = re.compile(
    r"^([-+]?[\d.,/ ]*\d|[-+]?\\frac\{\d+\}\{\d+\})\s*([A-Za-z]{1,12}(?:[ /.^{}\d]*[A-Za-z]+){0,4}(?:\^\{?\d\}?)?)$"
)
_IN_BASE = re.compile(r"([-+]?[0-9][0-9A-F.]*)\s*_\s*\{?\s*(\d+)\s*\}?")
_UNITS = {
    **dict.fromkeys(("degree", "degrees", "deg"), "deg"),
    **dict.fromkeys(("dollar", "dollars", "usd"), "dollar"),
    **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("kilometer", "kilometre"), "km"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("inche", "inch"), "in"),
    **dict.fromkeys(("foot", "feet"), "ft"),
    **dict.fromkeys(("second", "sec"), "s"),
    **dict.fromkeys(("minute", "mins"), "min"),
    **dict.fromkeys(("hour", "hr"), "h"),
    **dict.fromkeys(("gram", "kilogram"), "g"),
    "kilogram": "kg",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, or a part of one.

    Attributes:
        kind: what it is.
        text: a value as LaTeX, text in lower case; empty for a list or a relation.
        number: the exact value of a plain number.
        percent, unit: what was written behind (or before) the value.
        brackets: of a list, ``""`` for one without; ``u`` for parts joined by a union sign.
        items: of a list its items, of a relation its sides.
        operators: of a relation, between the sides.
    """

    kind: Kind
    text: str = ""
    number: Fraction | None = None
    percent: bool = False
    unit: str = ""
    brackets: str = ""
    items: tuple[Answer, ...] = ()
    operators: tuple[str, ...] = ()


@lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> Answer | None:
    """The answer that a text is, or ``None`` where it is too long, too deep or empty."""
    if len(text) > MAX_LENGTH:
        return None
    spelled = plain(text)
    if not spelled:
        return None
    answer = _value(spelled, thousands)
    return answer if answer and answer.number is not None else _part(spelled, thousands, 0)


def _part(text: str, thousands: bool, depth: int) -> Answer | None:
    """A list, a relation, text or a value."""
    text = text.strip()
    if not text or depth > MAX_NESTING:
        return None
    said = words(text)
    if said is not None:
        return Answer("text", said)
    if "\\pm" in text and text.count("\\pm") == 1 and "\\mp" not in text:
        return _items([text.replace("\\pm", sign) for sign in "+-"], "", thousands, depth)
    pieces = _pieces(text, thousands and depth == 0)
    if len(pieces) > 1:
        return _items(pieces, "", thousands, depth)
    parts = _split(text, re.compile(r"\\cup(?![A-Za-z])"))
    if len(parts) > 1:
        return _items(parts, "u", thousands, depth)
    sides, operators = _relation(text)
    if operators:
        return _related(sides, operators, thousands, depth)
    return _bracketed(text, thousands, depth) or _value(text, thousands and depth == 0)


def _bracketed(text: str, thousands: bool, depth: int) -> Answer | None:
    r"""``(a, b)``, ``[a, b)``, ``\{a, b\}``; brackets around a single value only group it."""
    for left, right in (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\langle", "\\rangle")):
        if not (text.startswith(left) and text.endswith(right)):
            continue
        inner = text[len(left) : -len(right)]
        if not _balanced(inner):
            continue
        pieces = _pieces(inner, False)
        kind = "{}" if left == "\\{" else "()" if left == "\\langle" else left + right
        if len(pieces) > 1 or kind == "{}":
            return _items(pieces, kind, thousands, depth + 1)
        if kind == "()":
            return _part(inner, False, depth + 1)
    return None


def _items(pieces: list[str], brackets: str, thousands: bool, depth: int) -> Answer | None:
    if len(pieces) > MAX_ITEMS:
        return None
    items = [_part(piece, thousands, depth + 1) for piece in pieces]
    found = tuple(item for item in items if item is not None)
    return Answer("list", brackets=brackets, items=found) if len(found) == len(items) else None


def _related(sides: list[str], operators: list[str], thousands: bool, depth: int) -> Answer | None:
    items = [_part(side, thousands, depth + 1) for side in sides]
    found = tuple(item for item in items if item is not None)
    return Answer("relation", items=found, operators=tuple(operators)) if len(found) == len(items) else None


def _value(text: str, thousands: bool) -> Answer | None:
    from tunesmith.numerals import numeral

    number = numeral(text, thousands=thousands)
    if number is not None:
        return Answer("value", text, number)
    if found := _IN_BASE.fullmatch(text):
        return Answer("text", f"{found[1]}_{found[2]}".casefold())
    body, percent = _PERCENT.sub("", text), bool(_PERCENT.search(text))
    body, unit = _without_unit(body)
    number = numeral(body, thousands=thousands) if body != text else None
    return Answer("value", latex(body), number, percent, unit) if body.strip() else None


def _without_unit(text: str) -> tuple[str, str]:
    if found := _CURRENCY.match(text):
        return found[1] + text[found.end() :].replace("\\text{ dollars}", ""), "dollar"
    if found := _DEGREES.search(text):
        return text[: found.start()], "deg"
    if found := _QUOTED_UNIT.search(text):
        return text[: found.start()], _unit(found[1] + found[2])
    found = _BARE_UNIT.match(text)
    if found and not _is_mathematics(found[2], text):
        return found[1].strip(), _unit(found[2])
    return text, ""


def _is_mathematics(unit: str, text: str) -> bool:
    """``5x`` and ``2 pi`` are no quantities; ``5 m`` is taken for 5 times m, so that ``5m`` is the same."""
    from tunesmith_rewards.math.guards import FUNCTIONS

    first = re.match(r"[A-Za-z]+", unit)
    return first is None or len(first[0]) == 1 or any(word in FUNCTIONS for word in re.findall(r"[A-Za-z]+", unit))


def _unit(text: str) -> str:
    text = re.sub(r"[\s{}\\.]+", " ", text).strip().casefold().replace("^ ", "^").replace("square ", "")
    text = text.replace(" ^", "^")
    singular = text[:-1] if len(text) > 3 and text.endswith("s") else text
    return _UNITS.get(text, _UNITS.get(singular, singular))


# ------------------------------------------------------------------------------------------------ at the top level
def _balanced(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"\\.|[()\[\]{}]", text):
        depth += (mark in _OPENING) - (mark in _CLOSING)
        if depth < 0:
            return False
    return depth == 0


def _depths(text: str) -> list[int]:
    """How many brackets are open at every character."""
    depths, depth, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in ("{", "}"):
            depth += 1 if text[at + 1] == "{" else -1
            depths += [depth, depth]
            at += 2
            continue
        depth += (text[at] in _OPENING) - (text[at] in _CLOSING)
        depths.append(depth)
        at += 1
    return depths


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    depths = _depths(text)
    parts, start = [], 0
    for found in separator.finditer(text):
        if depths[found.start()] <= 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def _pieces(text: str, thousands: bool) -> list[str]:
    """The items of a list without its brackets; a comma between thousands is none."""
    pieces: list[str] = []
    for part in _split(text, _SEPARATOR):
        fields = _split(part, re.compile(","))
        for i, field in enumerate(fields):
            joins = i > 0 and thousands and _GROUP_LEFT.match(pieces[-1].strip()) and _GROUP_RIGHT.match(field)
            if joins:
                pieces[-1] += "," + field
            elif field.strip() or i == 0:
                pieces.append(field)
    return [piece.strip() for piece in pieces if piece.strip()] if len(pieces) > 1 else pieces


def _relation(text: str) -> tuple[list[str], list[str]]:
    depths = _depths(text)
    sides: list[str] = []
    operators: list[str] = []
    start = 0
    for found in _RELATION.finditer(text):
        if depths[found.start()] <= 0:
            sides.append(text[start : found.start()].strip())
            operators.append(_OPERATORS.get(found[0], found[0]))
            start = found.end()
    return [*sides, text[start:].strip()], operators
