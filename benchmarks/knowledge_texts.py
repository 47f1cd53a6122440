"""The texts of `knowledge.py`, all made of what every CPython carries: English, source code, and a second script."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE = 2_000
"""Characters of a held-out text: many documents count, not a few long ones."""
LATIN = "abcdefghijklmnopqrstuvwxyz"
GREEK = "".join(map(chr, [*range(0x3B1, 0x3CA), 0x3D1]))
"""Alpha to omega, sigma in both of its forms, and another theta."""
SECOND = 0.35
"""Share of the English documents that only the second script is made of."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Characters of the texts: English to pre-train on, of each domain to train on, of each set to measure on."""

    general: int
    domain: int
    held_out: int


def build(folder: Path, amounts: Amounts, seed: int) -> None:
    """Write ``english``, ``code`` and ``script``, and ``held-out-...`` of each, as ``.jsonl``.

    No module of the standard library is on both sides of the split between training and measuring, in any of the three.
    The English that the second script stands for is never seen as English.
    """
    train, test = (list(_texts("python-docs", part)) for part in ("train", "test"))
    code, code_test = (list(_texts("python-source", part)) for part in ("train", "test"))
    english = [text for text in train if not _second(text)]
    sets = {"english": english, "code": code, "script": [in_greek(text) for text in train if _second(text)]}
    for name, texts in sets.items():
        wanted = amounts.general if name == "english" else amounts.domain
        _write(folder / f"{name}.jsonl", _some(texts, wanted, seed))
    held_out = {"english": test, "code": code_test, "script": [in_greek(text) for text in test]}
    for name, texts in held_out.items():  # the same for all seeds
        # from the middle: files of source code begin with prose
        pieces = [text[len(text) // 2 :][:PIECE] for text in texts]
        _write(folder / f"held-out-{name}.jsonl", _some(pieces, amounts.held_out, 0))


def in_greek(text: str) -> str:
    """English with every letter replaced by a Greek one: another script and vocabulary, with a real grammar."""
    table = str.maketrans(LATIN + LATIN.upper(), GREEK + GREEK.upper())
    return text.translate(table)


def _second(text: str) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < SECOND * 2**32


def _texts(name: str, part: str) -> Iterable[str]:
    from tunesmith_plugins.sources.python_docs import PythonDocs
    from tunesmith_plugins.sources.python_source import PythonSource

    kinds: dict[str, Any] = {"python-docs": PythonDocs, "python-source": PythonSource}
    for row in kinds[name](part=part).rows():
        text = str(row.data["text"])
        if re.search(r"\w", text):
            yield text


def _some(texts: Sequence[str], characters: int, seed: int) -> list[str]:
    """Texts in an order of the seed until there are so many characters; the last one is cut."""
    order = list(texts)
    random.Random(seed).shuffle(order)
    chosen, left = [], characters
    for text in order:
        if left <= 0:
            break
        chosen.append(text[:left])
        left -= len(text)
    return chosen


def _write(path: Path, texts: Iterable[str]) -> None:
    rows = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
