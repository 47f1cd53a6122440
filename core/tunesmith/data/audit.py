"""A source as a whole: how many rows, how long, which problems. Nothing is stored and nothing stops at a bad row."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.components import DataSpec, Method, Row
from tunesmith.data.balance import Balance
from tunesmith.data.detect import SAMPLE, Taker, choose_format, renamed
from tunesmith.data.quality.wording import texts_in
from tunesmith.data.report import Problems
from tunesmith.data.rows import Intake, Outcome, Overlong, content_key
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder
    from tunesmith.plugins import Registry


@dataclass(slots=True)
class Audit:
    """What is known about a source after reading it.

    Attributes:
        label: name of the source.
        unit: what lengths count.
        fault: why reading stopped, when it did.
        format: name of the format, and ``why`` it was chosen.
        files: files that rows came from.
        rows: rows read.
        usable: rows that can be trained on.
        skipped: rows that the format leaves out on purpose.
        dropped: rows that the method's setting for over-long rows leaves out.
        empty: rows with a required column that is blank.
        duplicates: usable rows whose content an earlier row has.
        overlong: rows longer than the limit, whatever becomes of them.
        trained: tokens that are trained on; 0 without a tokenizer.
        total: tokens (or characters) of all rows that could be measured.
        lengths: of every such row; of a prompt with several answers, with the longest of them.
        problems: bad rows by kind.
        balance: what is known about answers that are judged.
    """

    label: str
    unit: Literal["tokens", "characters"]
    fault: DataError | None = None
    format: str = ""
    why: str = ""
    files: set[str] = field(default_factory=set)
    rows: int = 0
    usable: int = 0
    skipped: int = 0
    dropped: int = 0
    empty: int = 0
    duplicates: int = 0
    overlong: int = 0
    trained: int = 0
    total: int = 0
    lengths: array[int] = field(default_factory=lambda: array("q"))
    problems: Problems = field(default_factory=Problems)
    balance: Balance = field(default_factory=Balance)

    @property
    def bad(self) -> bool:
        """True when a run would refuse this source, or learn from it what contradicts itself."""
        return self.fault is not None or bool(self.problems.kinds) or not self.usable or self.balance.wrong

    def quantiles(self) -> dict[str, int]:
        """Shortest, median, 95th percentile (nearest rank) and longest; nothing when no row could be measured."""
        ordered = sorted(self.lengths)
        if not ordered:
            return {}
        at = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
        return {name: ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for name, share in at.items()}

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        counts = ("rows", "usable", "skipped", "dropped", "empty", "duplicates", "overlong")
        return {
            "label": self.label,
            "format": self.format or None,
            "why": self.why or None,
            "fault": str(self.fault) if self.fault else None,
            "files": len(self.files),
            **{name: getattr(self, name) for name in counts},
            "bad": self.problems.count,
            "unit": self.unit,
            "lengths": self.quantiles(),
            "total": self.total,
            "trained": self.trained if self.unit == "tokens" else None,
            "answers": self.balance.as_dict(),
            "problems": [
                {
                    "reason": kind.reason,
                    "rows": kind.count,
                    "first": [{"file": row.file, "row": row.line} for row in kind.rows],
                }
                for kind in self.problems.kinds.values()
            ],
        }


def audit(
    spec: DataSpec,
    registry: Registry,
    *,
    taker: Taker,
    method: Method | None = None,
    encoder: Encoder | None = None,
    max_length: int | None = None,
    overlong: Overlong = "error",
    observer: Callable[[Outcome, int], None] | None = None,
) -> Audit:
    """Read every row of a source and judge it as a run would.

    ``observer`` is called with every usable row and a hash of its content.
    """
    found = Audit(spec.label or spec.source.label(), "tokens" if encoder else "characters")
    keys: set[int] = set()
    try:
        rows = iter(spec.source.rows()) if spec.limit is None else islice(spec.source.rows(), spec.limit)
        sample = list(islice(rows, SAMPLE))
        verdict = choose_format(spec, sample, registry, taker)
        found.format, found.why = verdict.format.name, verdict.why
        intake = Intake(
            verdict.format,
            columns=spec.map,
            taker=taker,
            encoder=encoder,
            method=method,
            max_length=max_length,
            overlong=overlong,
        )
        for outcome in intake.outcomes(chain(sample, rows)):
            _add(found, outcome, keys, observer)
            found.empty += _blank(renamed(outcome.row.data, spec.map), verdict.format.columns)
            found.overlong += max_length is not None and outcome.length > max_length
    except DataError as error:
        found.fault = error
    return found


def _add(
    found: Audit, outcome: Outcome, keys: set[int], observer: Callable[[Outcome, int], None] | None = None
) -> None:
    found.rows += 1
    found.files.add(outcome.row.file)
    found.skipped += outcome.status == "skipped"
    found.dropped += outcome.status == "dropped"
    found.balance.add(outcome)
    if outcome.length:
        found.lengths.append(outcome.length)
        found.total += outcome.tokens
    elif outcome.example is not None and found.unit == "characters":
        found.lengths.append(sum(map(len, texts_in(outcome.example))))
        found.total += found.lengths[-1]
    if outcome.status == "bad":
        found.problems.add(outcome.reason, outcome.row)
    if outcome.status == "used":
        found.usable += 1
        found.trained += sum(tree.num_scored for tree in outcome.trees)
        key = content_key(outcome)
        found.duplicates += key in keys
        keys.add(key)
        if observer is not None:
            observer(outcome, key)


def _blank(data: Mapping[str, Any], columns: Sequence[str]) -> bool:
    """True where a column that must be there says nothing; null is a wrong type rather than empty."""
    values = [data[column] for column in columns if column in data]
    return any(not value.strip() if isinstance(value, str) else value in ([], {}) for value in values)


def first_rows(spec: DataSpec, start: int, count: int) -> list[Row]:
    """Rows ``start`` (from 0) to ``start + count`` of a source, as many as there are."""
    return list(islice(spec.source.rows(), start, start + count))
