"""Where rows come from, what they are, and how much of each: sources, formats, schedules."""

# annotations are evaluated here, once: as strings they would be anew for every component there is (PEP 563)

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from tunesmith.components.base import Component, Settings, named, written_as

if TYPE_CHECKING:
    from tunesmith.converters import Converter
    from tunesmith.examples import Example


@dataclass(frozen=True, slots=True)
class Row:
    """A record as the user wrote it, and where it stands.

    Attributes:
        data: column name to value.
        file: the file or data set it came from.
        line: 1-based line (or row) number in it.
        problem: why this record alone could not be read (a broken line); ``data`` is then empty, and the row is
            refused, or skipped and counted, like any other bad row.
    """

    data: Mapping[str, Any]
    file: str
    line: int
    problem: str = ""

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.file}, row {self.line:,}"


class Source(Component):
    """Yields rows: files, a hub, generated tasks."""

    kind: ClassVar[str] = "source"
    priority: ClassVar[int] = 0
    """Sources are asked in descending priority whether a plain ``--data`` word is theirs."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """The settings that a plain word such as a path stands for, or ``None`` when it is not for this source."""
        return None

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield rows, in the same order every time. Raises `DataError` for what cannot be read."""

    def fingerprint(self) -> str | None:
        """A hash of the content (never of a path or a date). ``None``: unknown, so nothing may be cached."""
        return None

    @property
    def streams(self) -> bool:
        """True when rows should be read while training instead of all of them before it."""
        return False

    def label(self) -> str:
        """A short name for messages and metrics."""
        return self.name


class DataFormat(Component):
    """Turns a row into an example."""

    kind: ClassVar[str] = "format"
    produces: "ClassVar[type[Example]]"
    columns: ClassVar[tuple[str, ...]]
    """Columns that a row must have."""
    optional_columns: ClassVar[tuple[str, ...]] = ()
    priority: ClassVar[int] = 0
    """Of formats that as many rows look like, the one with the higher wins; below 0: takes what others leave."""

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """True when the row looks like this format; the format with the most `columns` wins a tie."""
        return all(column in row for column in cls.columns)

    @abstractmethod
    def __call__(self, row: Mapping[str, Any]) -> "Example | None":
        """Return the example, or ``None`` to skip the row on purpose.

        Raises `BadField` (or any `ValueError`) for a row that is wrong.
        """

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A few rows of this format, which a check reads and breaks."""
        return ()

    converters: "ClassVar[Sequence[type[Converter]]]" = ()
    """What makes examples of this format out of others; the first that takes an example is used."""

    def to_row(self, example: Any) -> Mapping[str, Any]:
        """The row that stands for an example of `produces`; a format that has no such method is only read."""
        raise NotImplementedError(f"the format {self.name} is only read")

    def for_conversion(self) -> "DataFormat":
        """The format to read rows with that are to be converted; it may take what must not be trained on as it is."""
        return self


class BadField(ValueError):
    """A field of a row is missing or wrong; the caller adds file and line."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"field {column!r} {problem}")
        self.column, self.problem = column, problem


class Scheduler(Component):
    """A pure function of the step: learning rate, mixing weight, KL weight alike."""

    kind: ClassVar[str] = "scheduler"
    warmup: float = Field(default=0.0, ge=0)
    """Linear warm-up from 0: a share of the run when below 1, a number of steps otherwise."""

    def warmup_steps(self, total: int) -> int:
        """The whole number of warm-up steps in a run of ``total`` steps."""
        return min(total, round(self.warmup * total) if self.warmup < 1 else int(self.warmup))

    def __call__(self, step: int, total: int) -> float:
        """The multiplier for 0-based ``step`` of ``total`` steps."""
        warm = self.warmup_steps(total)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self.shape(step - warm, max(1, total - warm))

    def last_value(self) -> float | None:
        """The multiplier that the last steps of a long run come to; ``None`` where it depends on the run's length."""
        return None

    @abstractmethod
    def shape(self, step: int, total: int) -> float:
        """The multiplier after the warm-up; ``step`` and ``total`` count from its end."""


AnySource = Annotated[Source, named("source"), written_as("source")]
AnyFormat = Annotated[DataFormat, named("format"), written_as("format")]
AnyScheduler = Annotated[Scheduler, named("scheduler"), written_as("scheduler")]


class DataSpec(Settings):
    """One source of rows in a run file."""

    source: AnySource
    """Where rows come from: a path, a glob, ``-``, a data set name, or {name: SOURCE, ...settings}."""
    label: str | None = None
    """Name in metrics and messages; by default the file or data set name."""
    weight: float | AnyScheduler | None = None
    """Share of tokens relative to the other sources, or a schedule of it; by default its number of tokens."""
    format: AnyFormat | None = None
    """Row format; found by looking at the rows when not given."""
    map: dict[str, str] = Field(default_factory=dict)
    """Column that the format expects: column that the rows have."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many rows."""

    @field_validator("weight")
    @classmethod
    def _a_share(cls, value: Any) -> Any:
        if isinstance(value, float) and not 0 <= value < math.inf:
            raise ValueError("should be a finite number of at least 0, or a schedule")
        return value

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """``path``, ``{path: ..., ...}`` or ``{name: ..., ...}``: keys that are not ours are settings of the source."""
        if isinstance(value, str):
            return {"source": value}
        if not isinstance(value, Mapping) or "source" in value or not {"path", "name"} & set(value):
            return value
        own = {key: item for key, item in value.items() if key in cls.model_fields}
        return {**own, "source": {key: item for key, item in value.items() if key not in own}}
