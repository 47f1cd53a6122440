"""The documents of a source, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.components import DataSpec
from tunesmith.data.detect import SAMPLE, Taker, choose_format
from tunesmith.data.loading import held_out_keys
from tunesmith.data.report import Problems
from tunesmith.data.rows import Intake
from tunesmith.errors import DataError
from tunesmith.examples import Text

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def read_texts(spec: DataSpec, registry: Registry) -> list[str]:
    """The texts of a source.

    Raises:
        DataError: rows that hold no text, or no rows.
    """
    rows = islice(iter(spec.source.rows()), spec.limit)
    sample = list(islice(rows, SAMPLE))
    taker = Taker(Text)
    verdict = choose_format(spec, sample, registry, taker)
    texts: list[str] = []
    problems, count = Problems(), 0
    for outcome in Intake(verdict.format, columns=spec.map, taker=taker).outcomes(chain(sample, rows)):
        count += 1
        if outcome.status == "bad":
            problems.add(outcome.reason, outcome.row)
        elif isinstance(outcome.example, Text):
            texts.append(outcome.example.text)
    if problems.kinds:
        raise problems.error(label_of(spec), count, "be read")
    if not texts:
        raise DataError(f"{label_of(spec)} has no texts")
    return texts


def label_of(spec: DataSpec) -> str:
    """What a source is called in messages."""
    return spec.label or spec.source.label()


def held_out(texts: Sequence[str], share: float, label: str) -> tuple[list[str], list[str]]:
    """Texts to learn from, and texts to measure on; chosen by content, so that a repeated text is on one side.

    Raises:
        DataError: there are not two different texts.
    """
    keys = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
    chosen = set(held_out_keys(np.unique(np.array(keys, dtype=np.uint64)), share).tolist())
    if not chosen:
        raise DataError(
            f"{label} has one text only, so none can be held out to measure on",
            fix="give documents as separate rows (JSON lines with a column text, or text files with blank lines)",
        )
    kept = [text for text, key in zip(texts, keys, strict=True) if key not in chosen]
    return kept, [text for text, key in zip(texts, keys, strict=True) if key in chosen]
