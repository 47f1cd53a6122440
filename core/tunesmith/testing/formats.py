"""Checks of a data format: it takes the rows that it says it takes, and refuses others by the name of the field."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tunesmith.components import BadField, DataFormat
from tunesmith.plugins import Registry
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite, Unchecked

MOST_ROWS = 10
"""Rows that are used at most: every field of each is broken in some thirty ways."""
Data = Mapping[str, Any]
SURPLUS = "a column that nobody knows"


@dataclass(slots=True)
class Subject:
    """A format, the rows to check it with, and those of them that it takes."""

    format: DataFormat
    given: Sequence[Data]
    rows: Sequence[Data] = ()

    def read(self, row: Data) -> Any:
        """The example of a copy of the row: what one check does to a row must not be seen by another."""
        return self.format(copy.deepcopy(row))

    def refused(self, row: Data) -> str:
        """Why the row is refused; empty where it is not."""
        try:
            self.read(row)
        except ValueError as error:
            return str(error) or type(error).__name__
        return ""


@contextmanager
def subject(format: DataFormat, registry: Registry, *, rows: Sequence[Data] | None = None) -> Iterator[Subject]:
    """A format with its own rows, or those given."""
    found = [dict(row) for row in islice(format.samples() if rows is None else rows, MOST_ROWS)]
    if not found:
        raise Unchecked(Finding("samples", "failed", "samples() gives no rows, and without any nothing can be checked"))
    made = Subject(format, found)
    made.rows = [row for row in found if not made.refused(row)]
    yield made


# ---------------------------------------------------------------------------------------------- what it takes
def samples(subject: Subject) -> Finding:
    """Its own rows become the examples that it says it produces."""
    wanted, made = subject.format.produces, 0
    for number, row in enumerate(subject.given, start=1):
        refused = subject.refused(row)
        if refused:
            return failed(f"row {number} is refused: {refused}")
        example = subject.read(row)
        if example is not None and not isinstance(example, wanted):
            return failed(f"row {number}: {_type(example)}, and not {wanted.__name__}, which it produces")
        made += example is not None
    if not made:
        return failed("every row is skipped, so nothing is seen")
    return ok(f"{made} of {len(subject.given)} rows: {wanted.__name__}")


def columns(subject: Subject) -> Finding:
    """Each of its columns is needed: a row where it is missing or null is refused by its name."""
    declared = subject.format.columns
    for name in declared:
        for row in subject.rows:
            rest = {key: value for key, value in row.items() if key != name}
            for how, broken in (("missing", rest), ("null", {**rest, name: None})):
                problem = _refused(subject, name, broken)
                if problem:
                    return failed(f"{name} {how}: {problem}")
    return ok(f"no row without {', '.join(declared)}" if declared else "it needs none")


def _refused(subject: Subject, name: str, row: Data) -> str:
    try:
        example = subject.read(row)
    except BadField as error:
        column = error.column.split(".")[0].split("[")[0]
        return "" if column == name else f"the field {error.column!r} is named instead: {error}"
    except ValueError as error:
        return f"{type(error).__name__}, which names no field ({error}); raise BadField({name!r}, ...)"
    return f"the row is {'taken' if example is not None else 'skipped'}; then it is none of `columns`"


def other_columns(subject: Subject) -> Finding:
    """What it reads is declared, and what it does not know does not disturb it."""
    declared = {*subject.format.columns, *subject.format.optional_columns}
    for number, row in enumerate(subject.rows, start=1):
        for what, changed in (
            ("with only the declared columns", {key: value for key, value in row.items() if key in declared}),
            ("with a column more", {**row, SURPLUS: 1}),
        ):
            refused = subject.refused(changed)
            if refused:
                return failed(f"row {number} {what}: {refused}")
    return ok(f"reads {', '.join([*subject.format.columns, *subject.format.optional_columns])}")


def matches(subject: Subject) -> Finding:
    """`matches` says yes to rows that it takes, no to rows without a column, and never raises."""
    asked = type(subject.format).matches
    for number, row in enumerate(subject.rows, start=1):
        if not asked(row):
            return failed(f"row {number} is taken, and `matches` says that it is not of this format")
        for name in subject.format.columns:
            if asked({key: value for key, value in row.items() if key != name}):
                return failed(f"row {number} without {name} cannot be taken, and `matches` says it is of this format")
    tried = 0
    for where, row in broken_rows(subject.rows):
        tried += 1
        try:
            asked(row)
        except Exception as error:  # a stranger's code may raise anything; a row of somebody else's must not stop a run
            return failed(f"{where}: {type(error).__name__}: {error}; it is asked about every row there is")
    return ok(f"yes to {len(subject.rows)} rows, and an answer to {tried:,} broken ones")


# ---------------------------------------------------------------------------------------------- whatever comes
def wrong_values(subject: Subject) -> Finding:
    """A value of any type in any place is taken or refused with `BadField` or another `ValueError`."""
    tried = refused = 0
    for where, row in broken_rows(subject.rows):
        tried += 1
        try:
            example = subject.format(row)
        except ValueError:
            refused += 1
        except Exception as error:  # this is what the check is for
            return failed(f"{where}: {type(error).__name__}: {error}; raise BadField")
        else:
            if example is not None and not isinstance(example, subject.format.produces):
                return failed(f"{where}: {_type(example)}, and not {subject.format.produces.__name__}")
    return ok(f"{tried:,} broken rows, of which {refused:,} are refused")


def broken_rows(rows: Sequence[Data]) -> Iterator[tuple[str, Data]]:
    """Rows with one odd value in place of a column or of anything inside of it, and where it stands."""
    for number, row in enumerate(rows, start=1):
        for place in places(row):
            for what, value in odd_values():
                shown = "".join(f"[{part}]" if i and isinstance(part, int) else f".{part}" for i, part in
                                enumerate(place)).lstrip(".")  # fmt: skip
                yield f"row {number}, {shown} is {what}", _replaced(row, place, value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything inside of a row."""
    inner: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, (list, tuple)):
        inner = list(enumerate(value))
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    made = dict(value) if isinstance(value, Mapping) else list(value)
    made[path[0]] = _replaced(made[path[0]], path[1:], new)
    return made


def odd_values() -> Iterator[tuple[str, Any]]:
    """Values that no field expects, made anew, and what they are."""
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    yield from {
        "null": None,
        "true": True,
        "0": 0,
        "-1": -1,
        "10 to the 400": 10**400,
        "1.5": 1.5,
        "NaN": math.nan,
        "infinity": math.inf,
        "empty text": "",
        "blank": " \n\t",
        "text": "a",
        "half a surrogate pair": "\ud800",
        "NUL": "\0",
        "JSON as text": '{"a": [1]}',
        "broken JSON": "{'a':",
        "JSON nested 100,000 deep": "[" * 100_000,
        "a huge number as JSON": "9" * 5_000,
        "bytes": b"\xff",
        "an empty list": [],
        "a list of null": [None],
        "a list of lists": [[], [[]]],
        "a list of numbers": [1, 2],
        "a list of texts": ["a", "b"],
        "a list nested 5,000 deep": deep,
        "an empty object": {},
        "a list of empty objects": [{}],
        "an object with odd keys": {None: 1, 2: "b"},
        "a message of nobody": [{"role": "nobody", "content": 1}],
        "a message that says nothing": [{"role": "user", "content": None}],
        "a list as role": [{"role": ["user"], "content": "a"}],
        "a date": datetime.date(2024, 1, 1),
        "a set": {1, 2},
        "an object of Python": object(),
    }.items()


# ---------------------------------------------------------------------------------------------- always the same
def unchanged(subject: Subject) -> Finding:
    """Reading a row leaves it as it was: it may be read again, or written elsewhere."""
    for number, row in enumerate(subject.rows, start=1):
        given = copy.deepcopy(row)
        subject.format(given)
        if given != row:
            return failed(f"row {number} is not what it was after it was read; copy what you change")
    return ok(f"{len(subject.rows)} rows are as they were")


def deterministic(subject: Subject) -> Finding:
    """A row always becomes the same example."""
    again = type(subject.format).model_validate(dict(subject.format))
    for number, row in enumerate(subject.rows, start=1):
        first = content(subject.read(row))
        for how, made in (("twice", subject.format), ("of another object with the same settings", again)):
            if content(made(copy.deepcopy(row))) != first:
                return failed(f"row {number}, asked {how}: another example")
    return ok(f"{len(subject.rows)} rows, read three times")


def content(example: Any) -> Any:
    """What an example holds, so that examples without an equality of their own can be compared."""
    if dataclasses.is_dataclass(example) and not isinstance(example, type):
        return {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}
    if example is None:
        return None
    own = any("__eq__" in vars(base) for base in type(example).__mro__[:-1])
    return example if own else vars(example)


def round_trip(subject: Subject) -> Finding:
    """The row that `to_row` writes is read as the same example."""
    if type(subject.format).to_row is DataFormat.to_row:
        return skipped("it is only read: it has no to_row")
    for number, row in enumerate(subject.rows, start=1):
        example = subject.read(row)
        if example is None:
            continue
        again = dict(subject.format.to_row(example))
        if not type(subject.format).matches(again):
            return failed(f"row {number}: what to_row writes is not of this format by `matches`")
        if content(subject.read(again)) != content(example):
            return failed(f"row {number}: what to_row writes is read as another example")
    return ok(f"{len(subject.rows)} rows, written and read back")


def _type(value: Any) -> str:
    return type(value).__name__


SUITE = Suite(
    DataFormat.kind,
    subject,
    {
        "samples": samples,
        "columns": columns,
        "other columns": other_columns,
        "matches": matches,
        "wrong values": wrong_values,
        "row unchanged": unchanged,
        "deterministic": deterministic,
        "round trip": round_trip,
    },
)
