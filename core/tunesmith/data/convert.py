"""Rows of one format as rows of another, with an account of every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from tunesmith.components import DataFormat, DataSpec, Row
from tunesmith.config import build
from tunesmith.converters import Conversion, Converter
from tunesmith.data.convertible import convertible, written_by
from tunesmith.data.detect import SAMPLE, Taker, choose_format, renamed
from tunesmith.data.report import Problems, printable
from tunesmith.data.rows import FORMAT_FAULTS, Intake, check_example
from tunesmith.errors import ConfigError, DataError
from tunesmith.examples import Prompt
from tunesmith.explain import explain

if TYPE_CHECKING:
    from tunesmith.examples import Example
    from tunesmith.plugins import Registry


@dataclass(slots=True)
class Account:
    """What became of every row: ``rows == converted + left_over + skipped + bad``.

    Attributes:
        label: name of the source.
        source: format of the rows that were read, and ``target`` of those that were written.
        rows: rows read.
        converted: rows that are in one or more of the written ones.
        left_over: rows of which nothing could be made.
        skipped: rows that the format leaves out on purpose.
        problems: bad rows by kind.
        written: rows written.
        notes: what is lost, and how much of it.
        columns: names of columns that are not carried over, and in how many rows they stood.
    """

    label: str
    source: str
    target: str
    rows: int = 0
    converted: int = 0
    left_over: int = 0
    skipped: int = 0
    problems: Problems = field(default_factory=Problems)
    written: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people."""
        parts = [f"{self.converted:,} converted"]
        counts = (("left over", self.left_over), ("skipped", self.skipped), ("bad", self.problems.count))
        parts += [f"{count:,} {name}" for name, count in counts if count]
        head = f"{printable(self.label)}: {self.rows:,} rows of {self.source} ({', '.join(parts)})"
        lines = [f"{head} -> {self.written:,} rows of {self.target}"]
        lines += [f"  {count:,} {printable(note)}" for note, count in self.notes.items()]
        kinds = self.problems.kinds.values()
        lines += [f"  {kind.count:,} bad: {kind.reason} ({kind.places(kind.rows[0].file)})" for kind in kinds]
        if self.columns:
            lines.append(f"  columns that are not carried over: {printable(', '.join(self.columns), 300)}")
        return lines


@dataclass(slots=True)
class Plan:
    """How rows are converted: read by ``source``, changed by ``converter`` (or not at all), written by ``target``."""

    spec: DataSpec
    given: Iterator[Row]
    source: DataFormat
    target: DataFormat
    converter: Converter | None

    def account(self) -> Account:
        """An account of no rows yet."""
        return Account(self.spec.label or self.spec.source.label(), self.source.name, self.target.name)

    def rows(self, account: Account, *, skip_bad: bool) -> Iterator[str]:
        """The written rows as lines of JSON; the account is complete when they have all been taken.

        Raises:
            DataError: bad rows, unless they are to be skipped; after the last row.
        """
        waiting: set[int] = set()
        used: set[int] = set()
        examples = self._examples(account, waiting)
        for conversion in self.converter(examples) if self.converter else _unchanged(examples):
            waiting.difference_update(conversion.rows)
            lines = list(self._written(conversion, account))
            if lines:
                used.update(conversion.rows)
            account.written += len(lines)
            yield from lines
        if waiting:
            raise RuntimeError(f"{type(self.converter).__name__} did not say what became of row {min(waiting) + 1}")
        account.converted = len(used)
        account.left_over = account.rows - account.skipped - account.problems.count - len(used)
        if account.problems.kinds and not skip_bad:
            raise account.problems.error(account.label, account.rows, "be converted")
        if not account.written:
            raise DataError(f"nothing of {printable(account.label)} could be converted", why=_why(account))

    def _examples(self, account: Account, waiting: set[int]) -> Iterator[tuple[int, Any]]:
        intake = Intake(self.source, columns=self.spec.map, taker=Taker())
        known = (*self.source.columns, *self.source.optional_columns)
        for outcome in intake.outcomes(self.given):
            account.rows += 1
            account.skipped += outcome.status == "skipped"
            if outcome.status == "bad":
                account.problems.add(outcome.reason, outcome.row)
            elif outcome.example is not None:
                kept = (*known, *_carried(outcome.example))
                account.columns.update(str(c) for c in renamed(outcome.row.data, self.spec.map) if c not in kept)
                waiting.add(outcome.index)
                yield outcome.index, outcome.example

    def _written(self, conversion: Conversion, account: Account) -> Iterator[str]:
        if conversion.note:
            account.notes[conversion.note] += conversion.lost
        for example in conversion.examples:
            try:
                row = self.target.to_row(example)
                self.target(row)
                check_example(example)
                yield _line(row)
            except FORMAT_FAULTS as error:
                account.notes[f"would not be rows of {self.target.name}: {error}"] += 1


def _carried(example: Example) -> Iterable[str]:
    """Columns that the example holds itself."""
    return example.columns if isinstance(example, Prompt) else ()


def _unchanged(examples: Iterable[tuple[int, Example]]) -> Iterator[Conversion]:
    for number, example in examples:
        yield Conversion((number,), (example,))


def _line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if text.isascii() or _encodes(text) else json.dumps(row)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _why(account: Account) -> str:
    return "; ".join(line.strip() for line in account.lines())


# ---------------------------------------------------------------------------------------------- how
def plan(spec: DataSpec, to: str, registry: Registry, settings: Mapping[str, Any]) -> Plan:
    """Find out how the rows of a source become rows of another format.

    Args:
        spec: the source; its format is found by looking at the rows where it names none.
        to: name of the format to write.
        registry: where formats are known.
        settings: of the formats and the converter, by name.

    Raises:
        ConfigError: the rows cannot become such rows, or a setting has no effect.
        DataError: there are no rows, or they look like no format.
    """
    target = written_by(registry, to)
    rows = iter(spec.source.rows())
    sample = list(islice(rows, SAMPLE if spec.limit is None else min(SAMPLE, spec.limit)))
    verdict = choose_format(spec, sample, registry, Taker())
    found, fits = type(verdict.format), convertible(registry, target)
    if found not in fits:
        raise ConfigError(
            f"rows of the format {found.name!r} cannot become rows of {target.name!r}",
            where=sample[0].where,
            why=f"the format was {verdict.why}",
            fix=f"formats that can: {', '.join(sorted(cls.name for cls in fits))}; --format names the one that it is",
        )
    direct = issubclass(found.produces, target.produces)
    converter = None if direct else next(c for c in target.converters if issubclass(found.produces, c.takes))
    for name in settings:
        if all(name not in cls.model_fields for cls in (found, converter) if cls is not None):
            raise ConfigError(
                f"--{name.replace('_', '-')} has no effect here",
                why=f"making {target.name} rows of {found.name} rows does not need it",
                fix="leave it out, or name another format with --format",
            )
    own = {name: value for name, value in settings.items() if name in found.model_fields}
    source = cast(DataFormat, build(registry, DataFormat.kind, {"name": verdict.format.selector, **own}))
    written = cast(DataFormat, build(registry, DataFormat.kind, to))
    given = chain(sample, rows if spec.limit is None else islice(rows, max(0, spec.limit - len(sample))))
    return Plan(spec, given, source.for_conversion(), written, _converter(converter, settings))


def _converter(cls: type[Converter] | None, settings: Mapping[str, Any]) -> Converter | None:
    if cls is None:
        return None
    try:
        return cls(**{name: value for name, value in settings.items() if name in cls.model_fields})
    except ValidationError as error:
        raise explain(error, cls, "data convert") from None
