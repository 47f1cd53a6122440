"""The checks of sources: good ones pass, and every fault is found by the check that is meant for it."""

import hashlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tunesmith import Row, Source, plugins
from tunesmith.plugins import load
from tunesmith.testing import check

BUILT_IN = sorted(c.name for plugin, c in load().entries("source") if plugin.distribution == plugins.GROUP)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_source_keeps_its_promises(registry, name):
    report = check(registry.get("source", name))
    assert report.failed == []
    # of a saved data set, no other setting gives other rows
    assert {finding.check for finding in report.skipped} <= {"fingerprint changes"}


class Lines(Source):
    """Lines of a file, each so many times."""

    name: ClassVar[str] = "lines"
    path: Path
    """File."""
    times: int = 1
    """How often each line comes."""
    tag: str = ""
    """Nothing follows from it."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("one\ntwo\n")
        return {"path": folder / "a.txt"}

    @classmethod
    def claims(cls, word: str) -> dict[str, Any] | None:
        return {"path": word} if word.endswith(".jsonl") else None

    def rows(self) -> Iterator[Row]:
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            for _ in range(self.times):
                yield Row(self.made(line), str(self.path), number)

    def made(self, line: str) -> Any:
        return {"text": line}

    def fingerprint(self) -> str | None:
        return hashlib.sha256(self.path.read_bytes() + str(self.times).encode()).hexdigest()


def test_a_source_that_keeps_its_promises_passes_every_check():
    report = check(Lines)
    assert report.failed == [] and report.skipped == []
    seen = {finding.check: finding.seen for finding in report.findings}
    assert seen["fingerprint"] == "stays, also where path is a copy"
    assert seen["fingerprint changes"] == "other rows and another fingerprint: more in path, times: 2, times: 0"


class Empty(Lines):
    """Has no rows."""

    def rows(self):
        yield from ()


class NoRow(Lines):
    """Yields what is no row."""

    def rows(self):
        yield from (row.data for row in super().rows())


class NoColumns(Lines):
    """Rows without columns."""

    def made(self, line):
        return line


class Nowhere(Lines):
    """Rows from nowhere."""

    def rows(self):
        yield from (Row(row.data, "", row.line) for row in super().rows())


class FromZero(Lines):
    """Counts lines from 0."""

    def rows(self):
        yield from (Row(row.data, row.file, row.line - 1) for row in super().rows())


class Shuffled(Lines):
    """Another order every time."""

    calls: ClassVar[Any] = count()

    def rows(self):
        found = list(super().rows())
        yield from (found[::-1] if next(self.calls) % 2 else found)


class Shared(Lines):
    """All readers read from one place."""

    places: ClassVar[dict[str, int]] = {}

    def rows(self):
        found = list(super().rows())
        self.places[self.tag] = 0
        while self.places[self.tag] < len(found):
            self.places[self.tag] += 1
            yield found[self.places[self.tag] - 1]


class AList(Lines):
    """Reads everything before the first row."""

    def rows(self):
        return list(super().rows())


class GoesOn(Lines):
    """Goes on where the last reader stopped."""

    readers: ClassVar[dict[str, Any]] = {}

    def rows(self):
        found = self.readers.get("open")
        self.readers["open"] = None
        if found is None:
            found = iter(list(super().rows()))
        try:
            yield from found
        except GeneratorExit:
            self.readers["open"] = found
            raise


class NoPickle(Lines):
    """Cannot be handed to another process."""

    def __getstate__(self):
        raise TypeError("cannot pickle an open file")


class ForgetsInThePickle(Lines):
    """Comes out of a pickle as another."""

    def __reduce__(self):
        return (type(self).model_construct, (), {"__dict__": {**self.__dict__, "times": 2}})


class ByPath(Lines):
    """Its fingerprint is of the path."""

    def fingerprint(self):
        return hashlib.sha256(str(self.path).encode() + super().fingerprint().encode()).hexdigest()


class ByObject(Lines):
    """Its fingerprint is of the object."""

    def fingerprint(self):
        return str(id(self))


class NoText(Lines):
    """Its fingerprint is no text."""

    def fingerprint(self):
        return 7


class ForgetsASetting(Lines):
    """Its fingerprint leaves out what rows follow from."""

    def fingerprint(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


class ForgetsTheContent(Lines):
    """Its fingerprint leaves out the file."""

    def fingerprint(self):
        return str(self.times)


class ClaimRaises(Lines):
    """Cannot be asked about some words."""

    @classmethod
    def claims(cls, word):
        word.encode()


class ClaimsStrangely(Lines):
    """Claims words with a setting that it does not have."""

    @classmethod
    def claims(cls, word):
        return {"file": word} if word.endswith(".jsonl") else None


class NoLabel(Lines):
    """Has no name for metrics."""

    def label(self):
        return ""


class MayStream(Lines):
    """Does not say whether it streams."""

    @property
    def streams(self):
        return None


@pytest.mark.parametrize(
    ("fault", "name", "seen"),
    [
        (Empty, "rows", "there are no rows"),
        (NoRow, "rows", "row 1: a dict, and not a tunesmith.Row"),
        (NoColumns, "rows", "row 1: data is no mapping of column names: 'one'"),
        (Nowhere, "rows", "row 1: file is ''"),
        (FromZero, "rows", "row 1: line is 0"),
        (Shuffled, "same order", "row 1 is another: "),
        (Shared, "same order", "read twice at the same time: "),
        (AList, "stops early", "rows() gives a list"),
        (GoesOn, "stops early", "the next one does not begin with the first row"),
        (NoPickle, "reopens", "cannot be handed to another process: cannot pickle an open file"),
        (ForgetsInThePickle, "reopens", "from a pickle: row 2 is another"),
        (ByPath, "fingerprint", "the same content under another path"),
        (ByObject, "fingerprint", "of another object: another one, though the rows are the same"),
        (NoText, "fingerprint", "it is 7, neither text nor None"),
        (ForgetsASetting, "fingerprint changes", "times: 2: other rows, and the same fingerprint"),
        (ForgetsTheContent, "fingerprint changes", "more in path: other rows, and the same fingerprint"),
        (ClaimRaises, "claims", "'\\ud800': UnicodeEncodeError"),
        (ClaimsStrangely, "claims", "'no-such-file.jsonl' stands for 'file', which is no setting of it"),
        (NoLabel, "label", "label() is ''"),
        (MayStream, "label", "streams is None"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_fault_is_found_by_its_check(failed_checks, fault, name, seen):
    found = failed_checks(fault)
    assert seen in found[name]
    readers = {"same order", "stops early", "reopens", "fingerprint changes"}
    beside = {
        Empty: {"stops early"},
        NoText: {"fingerprint changes"},
        NoRow: {"setup"},
        Shuffled: readers,
        AList: readers,
        GoesOn: readers,
    }
    assert set(found) - {name} <= beside.get(fault, set())


class Unknown(Lines):
    """Does not know its content."""

    def fingerprint(self):
        return None


def test_a_source_may_have_no_fingerprint():
    report = check(Unknown)
    assert report.failed == []
    assert {finding.check for finding in report.skipped} == {"fingerprint", "fingerprint changes"}
