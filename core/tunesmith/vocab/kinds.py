"""What kind of tokenizer it is, and how it cuts a text into words before it merges.

Two kinds can be expanded: byte-level BPE (every word is written in 256 signs, one for each byte) and BPE with byte
fallback (words are characters with a sign for the space in front, and a character without a piece becomes its bytes).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from tunesmith.errors import ConfigError
from tunesmith.vocab.merges import Word

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What stands for a space in pieces of characters."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_PARTS = re.compile(rf"\n+|{SPACE}*[^{SPACE}\n]+|{SPACE}+")
Kind = Literal["bytes", "characters"]
REASONS = {
    "Unigram": "its pieces have scores that were fitted together; the best cut of old text would change with every "
    "piece that is added, whatever its score",
    "WordPiece": "it always takes the longest piece, so every new piece changes how old words are cut",
    "WordLevel": "it has whole words only, and nothing to make pieces of",
}


def kind_of(tokenizer: Any) -> Kind:
    """How the pieces of a tokenizer are written.

    Raises:
        ConfigError: it is none that can be expanded, with the reason.
    """
    name = type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise ConfigError(
            f"the tokenizer ({name}) cannot be expanded: it is written in Python",
            fix="use a model whose tokenizer has a tokenizer.json",
        )
    import json

    return kind_of_state(json.loads(tokenizer.backend_tokenizer.to_str()), name)


def kind_of_state(state: Mapping[str, Any], name: str) -> Kind:
    """The same from the contents of a tokenizer.json; ``name``: for messages."""
    model = state["model"]
    family = model.get("type", "BPE")
    if family != "BPE":
        raise ConfigError(
            f"the tokenizer ({name}) is a {family} tokenizer, which cannot be expanded",
            why=REASONS.get(family),
            fix="byte-level BPE and BPE with byte fallback can be: choose another base model",
        )
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        mark = model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
        raise ConfigError(
            f"the tokenizer ({name}) is a BPE tokenizer that marks pieces with {mark!r}, which cannot be expanded",
            why="joined pieces would carry the mark inside",
        )
    if any(part == "ByteLevel" for part in _types(state.get("pre_tokenizer"), state.get("normalizer"))):
        return "bytes"
    if model.get("byte_fallback"):
        return "characters"
    raise ConfigError(
        f"the tokenizer ({name}) is a BPE tokenizer that knows neither bytes nor a fallback to them",
        why="a character without a piece is lost in it, so texts do not come back as they were",
        fix="byte-level BPE and BPE with byte fallback can be expanded: choose another base model",
    )


def _types(*parts: Any) -> Iterator[str]:
    """The types of normalizers and pre-tokenizers, also of those in a sequence."""
    for part in parts:
        if isinstance(part, Mapping):
            yield str(part.get("type"))
            for nested in ("pretokenizers", "normalizers"):
                yield from _types(*part.get(nested, ()))


@cache
def byte_signs() -> Mapping[str, int]:
    """The sign that byte-level pieces write for each byte: printable ones stand for themselves, the others follow."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def content(piece: str, kind: Kind) -> bytes:
    """The bytes that a piece stands for, as far as it can be said of one alone."""
    if kind == "bytes":
        signs = byte_signs()
        return bytes(signs[sign] for sign in piece) if all(sign in signs for sign in piece) else piece.encode()
    match = _BYTE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace(SPACE, " ").encode()


def is_fragment(piece: str, kind: Kind) -> bool:
    """True for a piece that is a byte of a character, or several, and not whole characters."""
    if kind == "characters":
        return _BYTE.fullmatch(piece) is not None
    try:
        content(piece, kind).decode()
    except UnicodeDecodeError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Rule:
    """Which texts may become pieces.

    Digits are never joined and neither are line breaks: numbers and layout belong to every language, and their tokens
    should stay as they are. Pieces of characters do not mix letters with anything else, as in SentencePiece; a
    byte-level tokenizer's own cut into words decides that for itself.
    """

    kind: Kind
    longest: int

    def __call__(self, piece: str) -> bool:
        """True where a piece may be learned."""
        raw = content(piece, self.kind)
        text = raw.decode(errors="ignore")
        if len(text) > self.longest or any(_closed(char) for char in text):
            return False
        if not text:
            return True  # bytes within a character
        if not any(char.isalpha() or not char.isascii() for char in text):
            return False
        if self.kind == "bytes":
            return True
        body = text.removeprefix(" ")
        letters = [unicodedata.category(char)[0] in "LM" for char in body]
        return all(letters) or len(body) == 1


def _closed(char: str) -> bool:
    return unicodedata.category(char) in ("Nd", "Nl", "No", "Cc", "Zl", "Zp")


@dataclass(slots=True)
class Cut:
    """Words cut into the pieces of a tokenizer.

    Attributes:
        words: the pieces of each word, and how often it occurs.
        missing: characters among them that have no piece, and the tokens that each takes.
    """

    words: Counter[Word] = field(default_factory=Counter)
    missing: dict[str, int] = field(default_factory=dict)


def cut_words(texts: Iterable[str], backend: Any, kind: Kind) -> Cut:
    """Cut texts as the tokenizer does: its normalisation, its words, its merges.

    Pieces of characters may come from a tokenizer that takes a whole text for one word. Words then begin at spaces
    and line breaks, as where such a tokenizer was trained.

    Args:
        backend: a ``tokenizers.Tokenizer``.
    """
    whole: Counter[str] = Counter()
    for text in texts:
        whole.update(_words(text, backend, kind))
    cut = Cut()
    for word, times in whole.items():
        pieces = [token.value for token in backend.model.tokenize(word)]
        if kind == "characters":
            pieces = _with_characters(pieces, cut.missing)
        cut.words[tuple(pieces)] += times
    return cut


def _words(text: str, backend: Any, kind: Kind) -> Iterator[str]:
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    words = [text] if backend.pre_tokenizer is None else [w for w, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    for word in words:
        if kind == "bytes":
            yield word
        else:
            yield from _PARTS.findall(word)


def _with_characters(pieces: Iterable[str], missing: dict[str, int]) -> list[str]:
    """Bytes that the fallback wrote put together to the characters they came from."""
    out: list[str] = []
    pending = bytearray()
    for piece in pieces:
        match = _BYTE.fullmatch(piece)
        if match is None:
            out.append(piece)
            continue
        pending.append(int(match[1], 16))
        try:
            char = pending.decode()
        except UnicodeDecodeError:
            continue
        missing[char] = len(pending)
        out.append(char)
        pending.clear()
    return out
