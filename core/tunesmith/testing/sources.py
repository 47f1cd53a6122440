"""Checks of a source: the same rows every time, known by their content, and only words claimed that are its own."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from tunesmith.components import Row, Source
from tunesmith.config import nested_context
from tunesmith.errors import TunesmithError
from tunesmith.plugins import Registry
from tunesmith.testing.declared import written
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite

MOST_ROWS = 50
"""Rows that are read of a source; settings for checks should give fewer, so that all of them are seen."""
Said = tuple[Any, str, int, str]


@dataclass(slots=True)
class Subject:
    """A source, its first rows, and how another one like it is made.

    Attributes:
        source: with its settings.
        first: its first rows, as `said`.
        remade: a source of other settings; called with those that differ.
        folder: for copies of its files.
    """

    source: Source
    first: list[Said]
    remade: Callable[..., Source]
    folder: Path


@contextmanager
def subject(source: Source, registry: Registry) -> Iterator[Subject]:
    """A source whose first rows were read."""

    def remade(**changed: Any) -> Source:
        return type(source).model_validate({**written(source), **changed}, context=nested_context(registry))

    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as folder:
        yield Subject(source, read(source), remade, Path(folder))


def read(source: Source) -> list[Said]:
    """The first rows, and where they stand."""
    return [said(row) for row in islice(source.rows(), MOST_ROWS)]


def said(row: Row) -> Said:
    """What is compared of a row: its columns in their order, and where it stands."""
    if not isinstance(row, Row):
        return (row, "", 0, "")
    data = list(row.data.items()) if isinstance(row.data, Mapping) else row.data
    return (data, row.file, row.line, row.problem)


# ---------------------------------------------------------------------------------------------- rows
def rows(subject: Subject) -> Finding:
    """There are rows, each with columns and the file and line that it came from."""
    number = 0
    for number, row in enumerate(islice(subject.source.rows(), MOST_ROWS), start=1):
        problem = _wrong_row(row)
        if problem:
            return failed(f"row {number}: {problem}")
    if not number:
        return failed("there are no rows; settings_for_checks() should give a few")
    return ok(f"{number}{' or more' if number == MOST_ROWS else ''}, the first from {subject.first[0][1]}")


def _wrong_row(row: Any) -> str:
    if not isinstance(row, Row):
        return f"a {type(row).__name__}, and not a tunesmith.Row"
    if not isinstance(row.data, Mapping) or not all(isinstance(name, str) for name in row.data):
        return f"data is no mapping of column names: {row.data!r:.60}"
    if not isinstance(row.file, str) or not row.file.strip():
        return f"file is {row.file!r}; messages could not say where the row is"
    if isinstance(row.line, bool) or not isinstance(row.line, int) or row.line < 1:
        return f"line is {row.line!r}; lines and rows are counted from 1"
    return ""


def same_order(subject: Subject) -> Finding:
    """The same rows in the same order, whenever and however often they are read."""
    ways: dict[str, Callable[[], list[Said]]] = {
        "read again": lambda: read(subject.source),
        "read by another object with the same settings": lambda: read(subject.remade()),
        "read twice at the same time": lambda: _in_turns(subject.source),
    }
    for how, again in ways.items():
        problem = different(subject.first, again())
        if problem:
            return failed(f"{how}: {problem}")
    return ok(f"{len(subject.first)} rows, read in {len(ways)} more ways")


def _in_turns(source: Source) -> list[Said]:
    """What one reader gets while another reads as well."""
    pairs = islice(zip(source.rows(), source.rows(), strict=False), MOST_ROWS)
    return [said(one) for one, _ in pairs]


def different(first: list[Said], second: list[Said]) -> str:
    """Where the rows differ, in words; empty where they do not."""
    for number, (one, other) in enumerate(zip(first, second, strict=False), start=1):
        if one != other:
            return f"row {number} is another: {one[0]!r:.60}, then {other[0]!r:.60}"
    return "" if len(first) == len(second) else f"{len(first)} rows, then {len(second)}"


def stops_early(subject: Subject) -> Finding:
    """A reader may stop after a row; the next one begins with the first."""
    reader = subject.source.rows()
    if not isinstance(reader, Iterator):
        return failed(f"rows() gives a {type(reader).__name__}, which cannot be read row by row; yield them")
    first = next(reader, None)
    del reader  # closes what it holds, as when a loop is left
    again = next(subject.source.rows(), None)
    if first is None or again is None or said(first) != said(again):
        return failed("after a reader stopped, the next one does not begin with the first row")
    return ok("a new reader begins with the first row")


def reopens(subject: Subject) -> Finding:
    """It survives the way into another process, before and after rows were read."""
    try:
        again = pickle.loads(pickle.dumps(subject.source))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return failed(f"it cannot be handed to another process: {error}")
    problem = different(subject.first, read(again))
    return failed(f"from a pickle: {problem}") if problem else ok(f"{len(subject.first)} rows from a pickle")


# ---------------------------------------------------------------------------------------------- fingerprint
def fingerprint(subject: Subject) -> Finding:
    """A hash that stays: asked twice, of another object, and of the same content elsewhere."""
    first = subject.source.fingerprint()
    if first is None:
        return skipped("it has none, so nothing made of its rows may be kept")
    if not isinstance(first, str) or not first:
        return failed(f"it is {first!r}, neither text nor None")
    for how, other in (("asked again", subject.source), ("of another object", subject.remade())):
        if other.fingerprint() != first:
            return failed(f"{how}: another one, though the rows are the same")
    moved = [(name, subject.remade(**{name: str(path)})) for name, path in _copies(subject, changed=False)]
    for name, source in moved:
        if source.fingerprint() != first:
            return failed(f"the same content under another {name}: another fingerprint; hash content and no paths")
    return ok("stays" + (f", also where {', '.join(name for name, _ in moved)} is a copy" if moved else ""))


def fingerprint_changes(subject: Subject) -> Finding:
    """Other rows have another fingerprint: what was made of the old ones must not be taken for them."""
    first = subject.source.fingerprint()
    if first is None:
        return skipped("it has no fingerprint")
    changed = []
    for what, source in _others(subject):
        try:
            found, print_of = read(source), source.fingerprint()
        except TunesmithError:
            continue
        if found != subject.first:
            changed.append(what)
            if print_of == first:
                return failed(f"{what}: other rows, and the same fingerprint")
    if not changed:
        return skipped("no other setting gives other rows")
    return ok(f"other rows and another fingerprint: {', '.join(changed)}")


def _others(subject: Subject) -> Iterator[tuple[str, Source]]:
    """Sources with one setting changed, or with more content in a file, and what was changed."""
    for name, path in _copies(subject, changed=True):
        yield f"more in {name}", subject.remade(**{name: str(path)})
    for name, info in type(subject.source).model_fields.items():
        value = getattr(subject.source, name)
        for other in _other_values(value, info.annotation):
            try:
                yield f"{name}: {other!r}", subject.remade(**{name: other})
            except ValidationError:
                continue


def _other_values(value: Any, annotation: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if choice != value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value / 2, value + 0.25]
    return []


def _copies(subject: Subject, *, changed: bool) -> Iterator[tuple[str, Path]]:
    """Settings that are existing files or folders, and a copy of each; ``changed``: files with all content twice."""
    for name in type(subject.source).model_fields:
        value = getattr(subject.source, name)
        if not isinstance(value, (str, Path)) or not str(value).strip():
            continue
        path = Path(value).expanduser()
        copy = subject.folder / ("changed" if changed else "copied") / path.name
        if path.is_file():
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes() * (2 if changed else 1))
            yield name, copy
        elif path.is_dir() and not changed:
            shutil.copytree(path, copy, dirs_exist_ok=True)
            yield name, copy


# ---------------------------------------------------------------------------------------------- words
WORDS = ("", " ", "a", "-", ".", "..", "/", "~", "~nobody-is-called-this/a", "*nothing*", "[", "{", "{a", "%s", "\\",
         "$HOME", "C:\\data\\rows", "\0", "a\0b", "\ud800", "\u202e", "a\nb", "x" * 5_000, "a/" * 2_000, "http://[",
         "file:///a b", "org/name", "no-such-file.jsonl", "no/such/folder/*.parquet", "{name: a}", "1e5", "null",
         "-1")  # fmt: skip


def claims(subject: Subject) -> Finding:
    """Whatever word it is asked about, it answers with settings of its own or None."""
    cls, claimed = type(subject.source), 0
    for word in WORDS:
        shown = repr(word) if len(word) < 50 else f"{word[:20]!r}... ({len(word):,} characters)"
        try:
            found = cls.claims(word)
        except Exception as error:  # every source is asked about every word, so none may stop the others
            return failed(f"{shown}: {type(error).__name__}: {error}; it is asked about every word that is typed")
        if found is None:
            continue
        claimed += 1
        unknown = [key for key in found if key not in cls.model_fields] if isinstance(found, Mapping) else [found]
        if unknown:
            return failed(f"{shown} stands for {unknown[0]!r}, which is no setting of it")
    return ok(f"{claimed} of {len(WORDS)} odd words are claimed")


def label(subject: Subject) -> Finding:
    """It has a short name for metrics, and says whether it is read while training."""
    name, streams = subject.source.label(), subject.source.streams
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        return failed(f"label() is {name!r}, no short name")
    if not isinstance(streams, bool):
        return failed(f"streams is {streams!r}, neither True nor False")
    return ok(f"{name}{', read while training' if streams else ''}")


SUITE = Suite(
    Source.kind,
    subject,
    {
        "rows": rows,
        "same order": same_order,
        "stops early": stops_early,
        "reopens": reopens,
        "fingerprint": fingerprint,
        "fingerprint changes": fingerprint_changes,
        "claims": claims,
        "label": label,
    },
)
