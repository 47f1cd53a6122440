"""What became of every row: counts that add up, kinds of problems, and the log of refused rows."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.components import Row
from tunesmith.errors import DataError

SHOWN = 3
"""Places that are named for each kind of problem."""
JOINERS = "\u200c\u200d"
"""Invisible, but part of emoji and of Persian and Indic words."""


def printable(text: str, limit: int | None = None) -> str:
    """Text that a terminal may get: control, direction and unassigned characters written as escapes, then clipped."""
    safe = text if text.isascii() and text.isprintable() else "".join(map(_shown, text))
    return safe if limit is None or len(safe) <= limit else safe[: limit - 3] + "..."


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if char in JOINERS or (category[0] != "C" and category not in ("Zl", "Zp")):
        return char
    return char.encode("unicode_escape").decode("ascii")


# ---------------------------------------------------------------------------------------------- problems
@dataclass(slots=True)
class Kind:
    """Problems that differ in numbers only: the first reason, how many rows have it, and the first few of them."""

    reason: str
    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def places(self, main: str) -> str:
        """The first few rows in words; the file is left out where it is ``main``."""
        shown = [f"row {row.line:,}" if row.file == main else printable(row.where) for row in self.rows]
        return ", ".join(shown) + (", ..." if self.count > len(self.rows) else "")


class Problems:
    """Bad rows by kind, in the order in which the kinds were met."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}

    def add(self, reason: str, row: Row) -> None:
        """Count one bad row."""
        reason = printable(reason, 200)
        kind = self.kinds.setdefault(re.sub(r"\d[\d,.]*", "0", reason), Kind(reason))
        kind.count += 1
        if len(kind.rows) < SHOWN:
            kind.rows.append(row)

    @property
    def count(self) -> int:
        """Bad rows in all."""
        return sum(kind.count for kind in self.kinds.values())

    def error(self, label: str, rows: int, cannot: str = "be trained on") -> DataError:
        """The error for a source of which some rows are bad; ``cannot``: what they are not good for."""
        first = next(iter(self.kinds.values())).rows[0]
        kinds = sorted(self.kinds.values(), key=lambda kind: -kind.count)
        shown = [f"{kind.reason}{_times(kind, first.file)}" for kind in kinds[:SHOWN]]
        more = f"; and {len(kinds) - SHOWN} more kinds" if len(kinds) > SHOWN else ""
        return DataError(
            f"{self.count:,} of {rows:,} rows of {printable(label)} cannot {cannot}",
            where=printable(first.where),
            why="; ".join(shown) + more,
            fix="correct them (`tunesmith data check` lists them all), or add --on-bad-row skip",
        )


def _times(kind: Kind, main: str) -> str:
    return f" ({kind.places(main)})" if kind.count == 1 else f" ({kind.count:,} times: {kind.places(main)})"


class RejectLog:
    """Writes refused rows to ``rejected.jsonl``, each once, also when a run is resumed or a stream read again."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder / "rejected.jsonl" if folder else None
        self._known: set[tuple[str, int, str]] | None = None

    def add(self, row: Row, reason: str) -> None:
        """Append a row with its file, line and reason."""
        if self.path is None:
            return
        if self._known is None:
            self._known = set(self._written(self.path))
        entry = (row.file, row.line, reason)
        if entry in self._known:
            return
        self._known.add(entry)
        record = {"file": row.file, "line": row.line, "reason": reason, "row": dict(row.data)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, default=str) + "\n")

    @staticmethod
    def _written(path: Path) -> Iterable[tuple[str, int, str]]:
        if not path.exists():
            return
        with open(path, "rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):  # a line that a crash cut short does not count
                    record = json.loads(line)
                    yield record["file"], record["line"], record["reason"]


# ---------------------------------------------------------------------------------------------- counts
@dataclass(slots=True)
class SourceReport:
    """What became of the rows and tokens of one source.

    ``rows == used + skipped + rejected + dropped + held_out``, and
    ``tokens_in == tokens + tokens_held_out + tokens_dropped + tokens_truncated``.

    Attributes:
        label: name of the source.
        group: data group it belongs to; ``eval`` for evaluation rows.
        files: files that rows came from.
        format: name of the format, and ``why`` it was chosen.
        rows: rows read.
        used: rows that are trained on (or evaluated).
        skipped: rows that the format leaves out on purpose.
        rejected: bad rows, listed in rejected.jsonl.
        dropped: over-long rows that were left out.
        held_out: rows moved to an evaluation set.
        duplicates: rows whose content an earlier row of the source has.
        truncated: used or held-out rows whose end was cut off.
        split: used or held-out rows that became several pieces.
        tokens_in: tokens of all rows that could be encoded.
        tokens: tokens of the used rows; one that a split repeats is counted once.
        trained: tokens of the used rows that are trained on.
        longest: tokens of the longest text (a prompt and one answer) before it was cut, split or dropped.
        cached: True when the tokens were found in the cache.
        note: anything else to say.
    """

    label: str
    group: str
    format: str = ""
    why: str = ""
    files: int = 0
    rows: int = 0
    used: int = 0
    skipped: int = 0
    rejected: int = 0
    dropped: int = 0
    held_out: int = 0
    duplicates: int = 0
    truncated: int = 0
    split: int = 0
    tokens_in: int = 0
    tokens: int = 0
    tokens_held_out: int = 0
    tokens_dropped: int = 0
    tokens_truncated: int = 0
    trained: int = 0
    longest: int = 0
    cached: bool = False
    note: str = ""

    def line(self) -> str:
        """The counts in one line, zeros left out."""
        parts = [f"{self.used:,} of {self.rows:,} rows used" if self.used != self.rows else f"{self.rows:,} rows"]
        lost = ("skipped", "rejected", "dropped", "held_out", "truncated", "split", "duplicates")
        parts += [f"{getattr(self, name):,} {name.replace('_', ' ')}" for name in lost if getattr(self, name)]
        if self.tokens:
            trained = f", {self.trained:,} trained" if self.trained else ""  # of prompts nothing is
            parts.append(f"{self.tokens:,} tokens{trained}, longest {self.longest:,}")
        if self.tokens_dropped or self.tokens_truncated:
            parts.append(f"{self.tokens_dropped + self.tokens_truncated:,} tokens lost")
        parts += [note for note in ("tokens from the cache" if self.cached else "", self.note) if note]
        return printable(f"{self.label} [{self.group}] {self.format} ({self.why}): {'; '.join(parts)}")


@dataclass(slots=True)
class DataReport:
    """What became of all rows of a run."""

    sources: list[SourceReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: a line per source, then warnings."""
        return [*(source.line() for source in self.sources), *(f"warning: {text}" for text in self.warnings)]

    def as_dict(self) -> Mapping[str, Any]:
        """For ``data_report.json``."""
        return {"schema": 1, "sources": [asdict(source) for source in self.sources], "warnings": list(self.warnings)}
