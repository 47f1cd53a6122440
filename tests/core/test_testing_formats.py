"""The checks of formats: a good one passes, and every fault is found by the check that is meant for it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from tunesmith import BadField, Completion, DataFormat, Text, plugins
from tunesmith.plugins import load
from tunesmith.testing import check

BUILT_IN = sorted(c.name for plugin, c in load().entries("format") if plugin.distribution == plugins.GROUP)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_format_keeps_its_promises(registry, name):
    report = check(registry.get("format", name))
    assert report.failed == []
    assert {finding.check for finding in report.skipped} <= {"round trip"}


class Sums(DataFormat):
    """A question with its answer, perhaps with a hint."""

    name: ClassVar[str] = "sums"
    produces: ClassVar[type[Completion]] = Completion
    columns: ClassVar[tuple[str, ...]] = ("ask", "say")
    optional_columns: ClassVar[tuple[str, ...]] = ("hint",)

    def samples(self) -> list[Mapping[str, Any]]:
        return [{"ask": "1 + 1?", "say": "2"}, {"ask": "2 + 2?", "say": "4", "hint": "count"}]

    def __call__(self, row: Mapping[str, Any]) -> Any:
        for column in ("ask", "say"):
            if not isinstance(row.get(column), str):
                raise BadField(column, "is no text")
        return self.make(row)

    def make(self, row: Mapping[str, Any]) -> Any:
        hint = row.get("hint")
        if not (hint is None or isinstance(hint, str)):
            raise BadField("hint", "is no text")
        return Completion(row["ask"] + (f"\n{hint}" if hint is not None else ""), row["say"])

    def to_row(self, example: Completion) -> Mapping[str, Any]:
        ask, newline, hint = example.prompt.partition("\n")
        return {"ask": ask, "say": example.completion, **({"hint": hint} if newline else {})}


def test_a_format_that_keeps_its_promises_passes_every_check():
    report = check(Sums)
    assert report.failed == [] and report.skipped == []
    assert report.findings[-1].seen == "2 rows, written and read back"


class NoRows(Sums):
    """Gives no rows."""

    def samples(self):
        return []


class RefusesItsOwn(Sums):
    """Refuses its own rows."""

    def samples(self):
        return [{"ask": "1 + 1?", "say": 2}]


class OtherExample(Sums):
    """Makes another kind of example."""

    def make(self, row):
        return Text(row["ask"])


class SkipsAll(Sums):
    """Skips every row."""

    def make(self, row):
        return None


class NeedsLess(Sums):
    """Declares a column that it does without."""

    columns: ClassVar[tuple[str, ...]] = ("ask", "say", "hint")
    optional_columns: ClassVar[tuple[str, ...]] = ()

    def samples(self):
        return list(super().samples())[1:]


class NamesNoField(Sums):
    """Says of no row which field is wrong."""

    def __call__(self, row):
        try:
            return super().__call__(row)
        except BadField as error:
            raise ValueError(error.problem) from None


class NamesAnother(Sums):
    """Names the wrong field."""

    def __call__(self, row):
        if "say" not in row or row["say"] is None:
            raise BadField("ask", "is odd")
        return super().__call__(row)


class TakesNull(Sums):
    """Takes a null for text."""

    def __call__(self, row):
        return super().__call__({**row, "say": "" if "say" in row and row["say"] is None else row.get("say")})


class ReadsInSecret(Sums):
    """Needs a column that it does not declare."""

    def samples(self):
        return [{**row, "unit": "m"} for row in super().samples()]

    def make(self, row):
        if "unit" not in row:
            raise BadField("unit", "is missing")
        return super().make(row)

    def to_row(self, example):
        return {**super().to_row(example), "unit": "m"}


class RefusesMore(Sums):
    """Refuses rows with columns that it does not know."""

    def make(self, row):
        for column in row:
            if column not in ("ask", "say", "hint"):
                raise BadField(column, "is unknown")
        return super().make(row)


class NeverMatches(Sums):
    """Does not know its own rows."""

    @classmethod
    def matches(cls, row):
        return "hint" in row


class AlwaysMatches(Sums):
    """Takes all rows for its own."""

    @classmethod
    def matches(cls, row):
        return True


class MatchRaises(Sums):
    """Cannot be asked about rows of others."""

    @classmethod
    def matches(cls, row):
        return super().matches(row) and not row["say"].isspace()


class Raises(Sums):
    """Falls over a number where it expects text."""

    def make(self, row):
        return Completion(row["ask"] + ("\n" + row["hint"] if "hint" in row else ""), row["say"])


class Recurses(Sums):
    """Falls over what is nested deeply."""

    def make(self, row):
        repr(row)
        return super().make(row)


class ChangesTheRow(Sums):
    """Takes a column out of the row."""

    def make(self, row):
        example = super().make(row)
        row.pop("hint", None)
        return example


class Counts(Sums):
    """Makes another example every time."""

    calls: ClassVar[list[int]] = []

    def make(self, row):
        super().make(row)
        self.calls.append(1)
        return Completion(f"{len(self.calls)}", "a")

    def to_row(self, example):
        raise NotImplementedError


class LosesTheHint(Sums):
    """Writes rows without the hint."""

    def to_row(self, example):
        return {"ask": example.prompt.partition("\n")[0], "say": example.completion}


class WritesOthers(Sums):
    """Writes rows of another format."""

    def to_row(self, example):
        return {"prompt": example.prompt, "completion": example.completion}


@pytest.mark.parametrize(
    ("fault", "name", "seen"),
    [
        (NoRows, "samples", "samples() gives no rows"),
        (RefusesItsOwn, "samples", "row 1 is refused: field 'say' is no text"),
        (OtherExample, "samples", "row 1: Text, and not Completion"),
        (SkipsAll, "samples", "every row is skipped"),
        (NeedsLess, "columns", "hint missing: the row is taken; then it is none of `columns`"),
        (NamesNoField, "columns", "ask missing: ValueError, which names no field"),
        (NamesAnother, "columns", "say missing: the field 'ask' is named instead"),
        (TakesNull, "columns", "say null: the row is taken"),
        (ReadsInSecret, "other columns", "row 1 with only the declared columns: field 'unit' is missing"),
        (RefusesMore, "other columns", "row 1 with a column more: "),
        (NeverMatches, "matches", "row 1 is taken, and `matches` says that it is not"),
        (AlwaysMatches, "matches", "row 1 without ask cannot be taken"),
        (MatchRaises, "matches", "row 1, say is null: AttributeError"),
        (Raises, "wrong values", "row 2, hint is null: TypeError"),
        (Recurses, "wrong values", "a list nested 5,000 deep: RecursionError"),
        (ChangesTheRow, "row unchanged", "row 2 is not what it was"),
        (Counts, "deterministic", "row 1, asked twice: another example"),
        (LosesTheHint, "round trip", "row 2: what to_row writes is read as another example"),
        (WritesOthers, "round trip", "row 1: what to_row writes is not of this format by `matches`"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_fault_is_found_by_its_check(failed_checks, fault, name, seen):
    found = failed_checks(fault)
    assert seen in found[name]
    beside = {OtherExample: {"wrong values", "round trip"}, Counts: {"round trip"}, NeverMatches: {"round trip"}}
    assert set(found) - {name} <= beside.get(fault, set())


def test_rows_can_be_given_and_are_not_changed(failed_checks):
    rows = [{"ask": "1?", "say": "1", "hint": "a"}]
    assert failed_checks(NoRows, rows=rows) == {} and rows == [{"ask": "1?", "say": "1", "hint": "a"}]
    assert "row 1 is refused" in failed_checks(Sums(), rows=[{"ask": 1, "say": "1"}])["samples"]
