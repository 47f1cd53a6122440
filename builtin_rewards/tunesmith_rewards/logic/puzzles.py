"""What a row says of its puzzle, and what a completion says of the solution."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith_rewards.logic.syntax import MAX_DIGITS, RESERVED, Node, names, parse

MAX_VARIABLES = 200
MAX_CONSTRAINTS = 2_000
MAX_ANSWER = 10_000
"""Characters of an answer."""
MAX_NUMBER = 10**MAX_DIGITS
_NAME = re.compile(r"[^\W\d]\w*")
_SAID = re.compile(r"\s*[\"']?(?P<name>[^\W\d]\w*)[\"']?\s*(?:=|:|\bis\b)\s*(?:an?\s+)?[\"']?(?P<value>-?\w+)[\"']?\s*")
_TRUTHS = {"true": 1, "t": 1, "yes": 1, "1": 1, "false": 0, "f": 0, "no": 0, "0": 0}
NONE = ("unsatisfiable", "unsat", "no solution", "none")


@dataclass(frozen=True, slots=True)
class Domain:
    """What a variable may be: a truth value (neither), a number between two, or one of some words."""

    low: int = 0
    high: int = 1
    words: tuple[str, ...] = ()
    boolean: bool = False

    def value(self, text: str) -> int | None:
        """The number that stands for a value as it is written, or ``None`` where it is none of the possible ones."""
        text = text.strip().casefold()
        if self.boolean:
            return _TRUTHS.get(text)
        if self.words:
            known = [word.casefold() for word in self.words]
            return known.index(text) if text in known else None
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text):
            return None
        return int(text) if self.low <= int(text) <= self.high else None


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Variables with what they may be, and formulas that must all hold."""

    domains: Mapping[str, Domain]
    constraints: tuple[Node, ...]


def puzzle(value: Any) -> Puzzle:
    """The puzzle of a row. Raises `ValueError` with what is wrong with it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"text that begins like JSON and is none: {error}") from None
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Sequence):
        value = {"constraints": value}
    if not isinstance(value, Mapping) or not {"constraints"} <= set(value) <= {"constraints", "variables"}:
        raise ValueError("should be an object with constraints and perhaps variables, or a formula")
    constraints = _formulas(value["constraints"])
    used = {name: None for node in constraints for name in names(node)}
    declared = value.get("variables")
    domains = _domains(dict.fromkeys(used, "boolean") if declared is None else declared)
    known = {*domains, *(word for domain in domains.values() for word in domain.words)}
    for name in used:
        if name not in known:
            raise ValueError(f"a constraint names {name!r}, and variables does not")
    return Puzzle(domains, constraints)


def _formulas(value: Any) -> tuple[Node, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("constraints should be a list of formulas")
    if len(texts) > MAX_CONSTRAINTS:
        raise ValueError(f"there are {len(texts):,} constraints, more than {MAX_CONSTRAINTS:,}")
    return tuple(parse(text) for text in texts)


def _domains(value: Any) -> dict[str, Domain]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("variables should be an object of names and what they may be")
    # table formats give every row the names of all rows, and those that are not its own as null
    value = {name: domain for name, domain in value.items() if domain is not None}
    if len(value) > MAX_VARIABLES:
        raise ValueError(f"there are {len(value):,} variables, more than {MAX_VARIABLES:,}")
    found = {_checked_name(name): _domain(name, domain) for name, domain in value.items()}
    if len({name.casefold() for name in found}) < len(found):
        raise ValueError("two variables differ in upper and lower case only")
    places: dict[str, int] = {}
    for domain in found.values():
        for place, word in enumerate(domain.words):
            if word in found or places.setdefault(word, place) != place:
                raise ValueError(
                    f"the word {word!r} stands for two things; give each its own, or the same place in its list"
                )
    return found


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in RESERVED:
        raise ValueError(f"{name!r} is no name: letters, digits and _, and none of {', '.join(sorted(RESERVED))}")
    return name


def _domain(name: str, value: Any) -> Domain:
    if value == "boolean":
        return Domain(boolean=True)
    items = list(value) if isinstance(value, (list, tuple)) else []
    if len(items) >= 2 and all(isinstance(item, str) for item in items):
        words = tuple(_checked_name(item) for item in items)
        if len({word.casefold() for word in words}) < len(words):
            raise ValueError(f"a value of {name} stands there twice")
        return Domain(0, len(words) - 1, words)
    if len(items) == 2 and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        low, high = items
        if -MAX_NUMBER < low <= high < MAX_NUMBER:
            return Domain(low, high)
    raise ValueError(f"{name} should be 'boolean', [lowest, highest], or a list of words, not {value!r}")


# ---------------------------------------------------------------------------------------------- answers
def assignment(text: str, domains: Mapping[str, Domain]) -> dict[str, int] | None:
    """The value of every variable as an answer gives them, or ``None`` where it is no complete assignment.

    Read are ``a=1, b=true``, with ``:`` or ``is`` as well, on one line or several, and JSON objects.
    """
    pairs = _pairs(text.strip()) if len(text) <= MAX_ANSWER else None
    if pairs is None:
        return None
    by_name = {name.casefold(): name for name in domains}
    found: dict[str, int] = {}
    for said, value in pairs:
        name = by_name.get(said.casefold())
        number = None if name is None else domains[name].value(value)
        if name is None or number is None or found.setdefault(name, number) != number:
            return None
    return found if len(found) == len(domains) else None


def _pairs(text: str) -> list[tuple[str, str]] | None:
    if text.startswith("{"):
        return _json_pairs(text)
    pairs = []
    for part in re.split(r"[,;\n]|\band\b", text):
        if not part.strip():
            continue
        said = _SAID.fullmatch(part)
        if said is None:
            return None
        pairs.append((said["name"], said["value"]))
    return pairs


def _json_pairs(text: str) -> list[tuple[str, str]] | None:
    kept: list[list[tuple[str, Any]]] = []
    try:
        json.loads(text, object_pairs_hook=kept.append, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if len(kept) != 1 or not all(isinstance(value, (str, bool)) for _, value in kept[0]):
        return None
    return [(name, str(value)) for name, value in kept[0]]
