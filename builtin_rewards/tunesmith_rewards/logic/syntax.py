"""Formulas: text to a tree. Nothing is ever evaluated as Python."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_CHARACTERS = 4_000
MAX_DEPTH = 60
MAX_DIGITS = 12
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[^\W\d]\w*)|(?P<number>\d+)|(?P<sign><->|<=>|->|=>|&&|\|\||==|!=|<=|>=|[()!~&|^=<>+*,-]))"
)
_SAME = {
    "<=>": "<->", "iff": "<->", "=>": "->", "implies": "->", "&&": "&", "and": "&", "||": "|", "or": "|", "^": "xor",
    "==": "=", "!": "not", "~": "not",
}  # fmt: skip
_SYMBOLS = str.maketrans(
    {
        "\u00ac": " not ", "\u2227": "&", "\u2228": "|", "\u2192": "->", "\u21d2": "->", "\u2194": "<->",
        "\u21d4": "<->", "\u2295": " xor ", "\u2260": "!=", "\u2264": "<=", "\u2265": ">=", "\u2212": "-",
        "\u00d7": "*", "\u22c5": "*",
    }
)  # fmt: skip
BINARY = {"<->": 1, "->": 2, "xor": 3, "|": 4, "&": 5, "=": 7, "!=": 7, "<": 7, "<=": 7, ">": 7, ">=": 7, "+": 8}
BINARY |= {"-": 8, "*": 9}
"""How strongly an operation binds."""
NEGATION, COMPARISON, MINUS = 6, 7, 10
FUNCTIONS = {"abs": 1, "distinct": None}
"""Functions and how many arguments they have; ``None``: two or more."""
RESERVED = {"and", "or", "not", "xor", "iff", "implies", "true", "false", *FUNCTIONS}


class Node(NamedTuple):
    """A formula or a number: ``kind`` is ``name``, ``number``, ``truth`` or an operation.

    ``text`` is the name, the digits, or true and false.
    """

    kind: str
    parts: tuple[Node, ...] = ()
    text: str = ""
    depth: int = 0


def parse(text: str) -> Node:
    """The tree of a formula. Raises `ValueError`, which says where it breaks off."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a formula has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    parser = _Parser(_tokens(text.translate(_SYMBOLS)))
    node = parser.expression(0)
    if parser.ahead:
        raise ValueError(f"{parser.ahead!r} is not expected there, in {text[:60]!r}")
    return node


def names(node: Node) -> dict[str, None]:
    """The names in a formula, in order."""
    if node.kind == "name":
        return {node.text: None}
    return {name: None for part in node.parts for name in names(part)}


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{text[at:].lstrip()[:1]!r} has no meaning in a formula")
        if token["number"] and len(token["number"]) > MAX_DIGITS:
            raise ValueError(f"a number has more than {MAX_DIGITS} digits")
        word = token[0].strip()
        lowered = word.lower()
        found.append(_SAME.get(lowered, lowered if lowered in RESERVED else word))
        at = token.end()
    return found


@dataclass(slots=True)
class _Parser:
    tokens: list[str]
    at: int = 0
    depth: int = 0

    @property
    def ahead(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        found = self.ahead
        if not found or (wanted and found != wanted):
            place = f"before {found!r}" if found else "at the end"
            raise ValueError(f"{repr(wanted) if wanted else 'a name or number'} is expected {place}")
        self.at += 1
        return found

    def expression(self, strength: int) -> Node:
        """Everything from here on that binds at least that strongly."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"a formula is nested more than {MAX_DEPTH} deep")
        left = self._first()
        while BINARY.get(self.ahead, -1) >= strength:
            operation = self.take()
            binds = BINARY[operation]
            right = self.expression(binds if operation == "->" else binds + 1)
            if binds == COMPARISON and BINARY.get(self.ahead) == COMPARISON:
                raise ValueError(f"{operation!r} and {self.ahead!r} cannot follow each other; write 'a < b & b < c'")
            left = _joined(operation, left, right)
        self.depth -= 1
        return left

    def _first(self) -> Node:
        word = self.take()
        if word == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if word == "not":
            return _node("not", self.expression(NEGATION))
        if word == "-":
            return _node("minus", self.expression(MINUS))
        if word in FUNCTIONS:
            return self._function(word)
        if word in ("true", "false"):
            return Node("truth", text=word)
        if word.isdecimal():
            return Node("number", text=word)
        if word in BINARY or not (word[0].isalpha() or word[0] == "_"):
            raise ValueError(f"{word!r} is not expected there")
        return Node("name", text=word)

    def _function(self, word: str) -> Node:
        self.take("(")
        parts = [self.expression(0)]
        while self.ahead == ",":
            self.take()
            parts.append(self.expression(0))
        self.take(")")
        wanted = FUNCTIONS[word]
        if len(parts) != wanted if wanted else len(parts) < 2:
            raise ValueError(f"{word} has {wanted or 'two or more'} arguments, not {len(parts)}")
        return _node(word, *parts)


def _joined(operation: str, left: Node, right: Node) -> Node:
    """One node; what is joined by the same operation again and again stays flat, so that long lists are not deep."""
    if operation in ("&", "|", "+") and left.kind == operation:
        return _node(operation, *left.parts, right)
    return _node(operation, left, right)


def _node(kind: str, *parts: Node) -> Node:
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise ValueError(f"a formula is nested more than {MAX_DEPTH} deep")
    return Node(kind, parts, depth=depth)
