"""What examples say: their prompts, their answers, and all of it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from tunesmith.examples import Completion, Conversation, Example, Judged, Prompt

NO_WORD = re.compile(r"[\W_]+")
UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
"""Characters of scripts that put no blanks between words; each counts as a word."""


def texts_in(value: Any) -> Iterator[str]:
    """Every text inside an example, names of keys and roles left out."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for item in fields(value):
            yield from texts_in(getattr(value, item.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != "role":
                yield from texts_in(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from texts_in(item)


def written(passage: Any) -> str:
    """A passage as text: messages one after the other."""
    return passage if isinstance(passage, str) else "\n".join(text for turn in passage for text in _turn(turn))


def pieces(example: Example) -> list[str]:
    """The texts that a model would see of an example; what the system says and what is kept for rewards left out."""
    if isinstance(example, Conversation):
        return _said(example.messages)
    if isinstance(example, Prompt):
        return _said(example.prompt)
    if isinstance(example, Judged):
        return [*_said(example.prompt), *(text for answer in example.answers() for text in _said(answer.passage))]
    return list(texts_in(example))


def _said(passage: Any) -> list[str]:
    if isinstance(passage, str):
        return [passage]
    return [text for turn in passage if turn.get("role") != "system" for text in _turn(turn)]


def _turn(turn: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(turn.get("content"), str) and len(turn) == 2:
        yield turn["content"]
    else:
        yield from texts_in(turn)


def prompt_of(example: Example) -> str | None:
    """What is asked, with the system's turn; ``None`` where nothing is, as in a document."""
    if isinstance(example, Conversation):
        last = max((i for i, turn in enumerate(example.messages) if turn.get("role") == "assistant"), default=0)
        return written(example.messages[:last])
    if isinstance(example, Completion | Prompt | Judged):
        return written(example.prompt)
    return None


def normal(text: str) -> str:
    """A text without what copies differ in: case, width of characters, punctuation and blanks.

    >>> normal("What's  UP, doc?")
    'what s up doc'
    """
    if not text.isascii():
        text = UNSPACED.sub(r" \1 ", unicodedata.normalize("NFKC", text))
    return NO_WORD.sub(" ", text.casefold()).strip()


def key_of(text: str) -> int:
    """64 bits of a hash of a text; never 0."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
