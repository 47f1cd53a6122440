"""Which format the rows of a source have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tunesmith.components import DataFormat, Row
from tunesmith.config import build
from tunesmith.data.convertible import convertible
from tunesmith.data.report import printable
from tunesmith.errors import ConfigError, DataError, did_you_mean, nearest
from tunesmith.examples import Example

if TYPE_CHECKING:
    from tunesmith.components import DataSpec, Method
    from tunesmith.plugins import Registry

SAMPLE = 100
"""Rows that are looked at."""


@dataclass(frozen=True, slots=True)
class Taker:
    """What rows are wanted for: a method, or anything at all."""

    consumes: type[Any] = Example
    method: str | None = None

    def takes(self, produces: type[Example]) -> bool:
        """True when a format that gives these examples will do."""
        return issubclass(produces, self.consumes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The format of a source and why it was chosen."""

    format: DataFormat
    why: str


def renamed(data: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """A row with its columns renamed: ``columns`` maps the expected name to the one that the row has."""
    if not columns:
        return data
    taken = set(columns.values())
    rest = {key: value for key, value in data.items() if key not in taken}
    return {**rest, **{ours: data[theirs] for ours, theirs in columns.items() if theirs in data}}


def choose_format(spec: DataSpec, sample: Sequence[Row], registry: Registry, taker: Taker) -> Verdict:
    """The format that the run file names, or else the one that most of the rows look like.

    Args:
        spec: the source.
        sample: its first rows.
        registry: where formats are known.
        taker: what the rows are for.

    Raises:
        ConfigError: the format does not fit the method, or a mapped column does not exist.
        DataError: there are no rows, or they look like no format that fits.
    """
    label = spec.label or spec.source.label()
    readable = [row for row in sample if not row.problem]
    if not sample:
        raise DataError(f"{printable(label)} has no rows", fix="check the path, and filters before it")
    if not readable and spec.format is None:
        raise DataError(
            f"not one of the first {len(sample)} rows of {printable(label)} can be read",
            where=sample[0].where,
            why=sample[0].problem,
        )
    check_map(spec, readable)
    if spec.format is not None:
        _check_given(spec.format, registry, taker)
        return Verdict(spec.format, "as given")
    rows = [renamed(row.data, spec.map) for row in readable]
    counts = _matches(registry, rows)
    fitting = {cls: count for cls, count in counts.items() if taker.takes(cls.produces)}
    if not fitting:
        raise _nothing_fits(label, sample[0].where, rows, counts, registry, taker)
    merits = {cls: (count, cls.priority, len(cls.columns)) for cls, count in fitting.items()}
    best = min(merits, key=lambda cls: ([-merit for merit in merits[cls]], cls.name))
    ties = sorted((cls for cls in merits if merits[cls] == merits[best]), key=lambda cls: cls.name)
    if len(ties) > 1:
        raise ConfigError(
            f"the rows of {printable(label)} fit {len(ties)} formats equally well: "
            + ", ".join(registry.owner(cls).label(cls.name) for cls in ties),
            fix=f"name one: format: {best.name}",
        )
    columns = ", ".join(best.columns)
    why = f"found: {fitting[best]} of the first {len(sample)} rows look like it (columns {columns})"
    return Verdict(cast(DataFormat, build(registry, DataFormat.kind, best.name)), why)


def _formats(registry: Registry) -> list[type[DataFormat]]:
    return [cast(type[DataFormat], cls) for _, cls in registry.current(DataFormat.kind)]


def _matches(registry: Registry, rows: Sequence[Mapping[str, Any]]) -> dict[type[DataFormat], int]:
    counts = {cls: sum(cls.matches(row) for row in rows) for cls in _formats(registry)}
    return {cls: count for cls, count in counts.items() if count}


def methods_for(registry: Registry, produces: type[Example]) -> list[str]:
    """Names of the methods that take such examples."""
    methods = [cast("type[Method]", cls) for _, cls in registry.entries("method")]
    return sorted({cls.name for cls in methods if issubclass(produces, cls.consumes)})


def check_map(spec: DataSpec, rows: Sequence[Row]) -> None:
    """Raises `ConfigError` for a column that is to be renamed and that no row has."""
    known = dict.fromkeys(column for row in rows for column in row.data)
    for ours, theirs in spec.map.items():
        if rows and theirs not in known:
            raise ConfigError(
                f"map: there is no column {theirs!r} to use as {ours!r}{did_you_mean(theirs, known)}",
                where=rows[0].where,
                why=f"columns: {printable(', '.join(known), 300)}",
                fix="write map as {name that the format expects: name that the rows have}",
            )


def _check_given(found: DataFormat, registry: Registry, taker: Taker) -> None:
    if taker.takes(found.produces):
        return
    fits = sorted({cls.name for cls in _formats(registry) if taker.takes(cls.produces)})
    raise ConfigError(
        f"the format {found.name!r} does not fit the method {taker.method!r}",
        why=f"it produces {found.produces.__name__}, and {taker.method} takes {taker.consumes.__name__}; "
        f"methods that take it: {', '.join(methods_for(registry, found.produces)) or 'none is installed'}",
        fix=f"formats that fit: {', '.join(fits) or 'none is installed'}",
    )


def _nothing_fits(
    label: str,
    where: str,
    rows: Sequence[Mapping[str, Any]],
    counts: Mapping[type[DataFormat], int],
    registry: Registry,
    taker: Taker,
) -> DataError:
    name = printable(label)
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    if counts:
        seen = max(counts, key=lambda cls: (counts[cls], cls.priority, len(cls.columns), cls.name))
        methods = ", ".join(methods_for(registry, seen.produces)) or "none is installed"
        becomes = [cls.name for cls in _formats(registry) if _can_become(seen, cls, registry, taker)]
        command = f"; or `tunesmith data convert ... --to {becomes[0]}`" if becomes else ""
        return DataError(
            f"the rows of {name} are in the format {seen.name!r}, which {taker.method} does not take",
            where=where,
            why=f"it gives {seen.produces.__name__}, and {taker.method} takes {taker.consumes.__name__}",
            fix=f"methods that take it: {methods}{command}",
        )
    wanted = [cls for cls in _formats(registry) if taker.takes(cls.produces)]
    needs = "; ".join(f"{cls.name} needs {', '.join(cls.columns)}" for cls in wanted)
    return DataError(
        f"the rows of {name} fit no format" + (f" that {taker.method} takes" if taker.method else ""),
        where=where,
        why=printable(f"columns: {', '.join(columns) or 'none'}. {needs or 'no format is installed'}", 600),
        fix=f"rename columns with map, such as {{{_rename_hint(columns, wanted)}}}, or name a format",
    )


def _can_become(seen: type[DataFormat], target: type[DataFormat], registry: Registry, taker: Taker) -> bool:
    writes = target.to_row is not DataFormat.to_row
    return writes and taker.takes(target.produces) and seen in convertible(registry, target)


def _rename_hint(columns: Sequence[str], formats: Sequence[type[DataFormat]]) -> str:
    """A mapping to paste: the closest spelling, or the columns in their order."""
    for wanted in (column for cls in formats for column in cls.columns):
        match = nearest(wanted, columns)
        if match:
            return f"{wanted}: {printable(match)}"
    same = [cls for cls in formats if len(cls.columns) == len(columns)] or list(formats)
    expected = same[0].columns if same else ("EXPECTED",)
    return ", ".join(
        f"{ours}: {printable(theirs)}" for ours, theirs in zip(expected, [*columns, "YOURS"], strict=False)
    )
