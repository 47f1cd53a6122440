"""All checks of all sources of a run, in one pass over the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tunesmith.components import DataFormat, DataSpec, Method, Row, Volume
from tunesmith.components.cards import short
from tunesmith.data.audit import Audit, audit
from tunesmith.data.detect import SAMPLE, Taker, choose_format
from tunesmith.data.quality.answers import Answers
from tunesmith.data.quality.copies import Copies, Ledger
from tunesmith.data.quality.findings import CUT, Finding, Level, percent, shared, worst
from tunesmith.data.quality.leaks import Leaks, asked_of, nothing_to_compare
from tunesmith.data.quality.templates import Templates
from tunesmith.data.rows import Intake, Overlong
from tunesmith.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.rows import Outcome
    from tunesmith.plugins import Registry

BINS = 20
CHARACTERS_PER_TOKEN = 4.0
"""Of English; where no tokenizer is named. Ours, not verified."""


@dataclass(slots=True)
class Checked:
    """A source and what its checks found; bad rows are in ``audit``."""

    audit: Audit
    ledger: Ledger
    answers: Answers
    templates: Templates | None = None
    findings: list[Finding] = field(default_factory=list)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The worst that is known, bad rows included."""
        return "stop" if self.audit.bad else worst(self.findings)

    def histogram(self) -> Mapping[str, Any] | None:
        """Edges ``[n + 1]`` and counts ``[n]`` of the lengths; ``None`` where there are none."""
        import numpy as np

        if not self.audit.lengths:
            return None
        counts, edges = np.histogram(np.array(self.audit.lengths), bins=BINS)
        return {"edges": edges.tolist(), "counts": counts.tolist()}

    def as_dict(self, limit: int | None) -> Mapping[str, Any]:
        """For programs."""
        return {
            **self.audit.as_dict(),
            "level": self.level,
            "findings": [finding.as_dict() for finding in self.findings],
            "limit": limit if self.audit.unit == "tokens" else None,
            "histogram": self.histogram(),
            "copies": self.numbers,
            "wording": self.answers.as_dict(),
            "tokens": self.templates.as_dict() if self.templates else None,
        }


@dataclass(frozen=True, slots=True)
class Amount:
    """A typical volume of a method and how much there is."""

    method: str
    volume: Volume
    have: int
    estimated: bool = False

    @property
    def enough(self) -> bool:
        """True from the least that is typical on."""
        return self.have >= self.volume.low

    @property
    def more(self) -> bool:
        """True where there is more than is typical."""
        return self.have > self.volume.high and not self.volume.open_ended

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        names = ("use_case", "unit", "low", "high", "open_ended", "source", "note")
        return {
            "method": self.method,
            **{name: getattr(self.volume, name) for name in names},
            "have": self.have,
            "estimated": self.estimated,
            "enough": self.enough,
        }


@dataclass(slots=True)
class Survey:
    """What is known about all sources.

    Attributes:
        sources: each by itself.
        findings: about the mix.
        amounts: there is, against what methods typically take.
        leaks: evaluation data that was compared.
        limit: tokens of a row at most.
    """

    sources: list[Checked]
    limit: int | None = None
    findings: list[Finding] = field(default_factory=list)
    amounts: list[Amount] = field(default_factory=list)
    leaks: list[Leaks] = field(default_factory=list)

    @property
    def level(self) -> Level:
        """The worst of all."""
        levels: list[Level] = [one.level for one in self.sources]
        return "stop" if "stop" in levels else worst([*self.findings, *(f for s in self.sources for f in s.findings)])

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        total = sum(one.audit.total for one in self.sources)
        return {
            "schema": 1,
            "ok": self.level != "stop",
            "level": self.level,
            "sources": [one.as_dict(self.limit) for one in self.sources],
            "mix": {
                "rows": sum(one.audit.rows for one in self.sources),
                "usable": sum(one.audit.usable for one in self.sources),
                "shares": {one.audit.label: one.audit.total / total if total else 0.0 for one in self.sources},
                "findings": [finding.as_dict() for finding in self.findings],
            },
            "volumes": [amount.as_dict() for amount in self.amounts],
            "against": [leaks.as_dict() for leaks in self.leaks],
        }


def survey(
    specs: Sequence[DataSpec],
    registry: Registry,
    *,
    method: Method | None = None,
    encoder: Encoder | None = None,
    limit: int | None = None,
    overlong: Overlong = "error",
    against: Sequence[DataSpec] = (),
) -> Survey:
    """Read every row of some sources and judge them, alone and together.

    Args:
        specs: the sources.
        registry: where formats and methods are known.
        method: what the rows are for; without one, every installed method that takes them is asked.
        encoder: of the model; without one characters are counted.
        limit: tokens of a row at most.
        overlong: what becomes of longer ones.
        against: evaluation data that must not be among the rows.

    Raises:
        DataError: evaluation data cannot be read; a fault of a source is part of its result.
    """
    leaks = [read_leaks(spec, registry) for spec in against]
    copies, found = Copies(), Survey([], limit, leaks=leaks)
    taker = Taker() if method is None else Taker(method.consumes, method.name)
    produces: set[type[Any]] = set()
    for spec in specs:
        label = spec.label or spec.source.label()
        templates = Templates(encoder) if encoder is not None else None
        one = Checked(Audit(label, "characters"), copies.ledger(label), Answers(), templates)
        observer = _observer(one, copies, leaks, produces)
        one.audit = audit(
            spec, registry, taker=taker, method=method, encoder=encoder, max_length=limit, overlong=overlong,
            observer=observer,
        )  # fmt: skip
        found.sources.append(one)
    asked = [method] if method else methods_of(registry, produces)
    for one in found.sources:
        one.numbers = copies.numbers(one.ledger)
        one.findings = [*_lengths(one.audit, limit, overlong), *copies.findings(one.ledger)]
        one.findings += one.answers.findings(one.audit.balance, asked)
        one.findings += one.templates.findings() if one.templates else ()
    found.amounts = list(amounts(found.sources, asked))
    found.findings = [*_volumes(found.amounts, method), *copies.across()]
    found.findings += [finding for one in leaks for finding in one.findings()]
    return found


def _observer(one: Checked, copies: Copies, leaks: Sequence[Leaks], produces: set[type[Any]]) -> Any:
    def seen(outcome: Outcome, key: int) -> None:
        example = outcome.example
        assert example is not None
        produces.add(type(example))
        one.ledger.add(outcome.row, example, key, copies.sketches)
        one.answers.add(outcome.row, example)
        if one.templates is not None and outcome.trees:
            one.templates.add(outcome)
        for leak in leaks:
            leak.add(one.ledger.label, outcome.row, example)

    return seen


def methods_of(registry: Registry, produces: set[type[Any]]) -> list[Method]:
    """The installed methods that take all of some examples, with the settings that they have by themselves."""
    from typing import cast

    found = [cast(type[Method], cls) for _, cls in registry.current(Method.kind)]
    fitting = [cls for cls in found if produces and all(issubclass(p, cls.consumes) for p in produces)]
    return [cls.model_construct(**{}) for cls in fitting]


# ---------------------------------------------------------------------------------------------- volume and length
def amounts(sources: Sequence[Checked], methods: Sequence[Method]) -> Iterator[Amount]:
    """How much there is of what the cards of methods speak of."""
    tokens = all(one.audit.unit == "tokens" for one in sources)
    total = sum(one.audit.total for one in sources)
    have = {"tokens": total if tokens else round(total / CHARACTERS_PER_TOKEN)}
    rows = sum(one.audit.usable for one in sources)
    for method in methods:
        for volume in method.card.volumes:
            guessed = volume.unit == "tokens" and not tokens
            yield Amount(method.name, volume, have.get(volume.unit, rows), guessed)


def _volumes(found: Sequence[Amount], method: Method | None) -> Iterator[Finding]:
    """Only a method that was named makes a finding: of the others some will always take more."""
    if method is None or not found:
        return
    volumes = [amount for amount in found if amount.enough]
    least = min(found, key=lambda amount: amount.volume.low / max(1, amount.have))
    about = "about " if least.estimated else ""
    have = f"{about}{short(least.have)} {least.volume.unit}"
    fitting = [amount for amount in volumes if not amount.more]
    if not volumes:
        text = f"{have}, and {method.name} typically takes {least.volume} ({least.volume.use_case})"
        yield Finding("volume", "warn", text, "see `tunesmith advise` for what so few rows are good for", least.have)
    elif fitting:
        uses = ", ".join(f"{amount.volume.use_case} ({amount.volume})" for amount in fitting)
        yield Finding("volume", "fine", f"{have}: as {method.name} takes for {uses}", count=least.have)
    else:
        yield Finding("volume", "fine", f"{have}: more than {method.name} typically takes", count=least.have)


def _lengths(found: Audit, limit: int | None, overlong: Overlong) -> Iterator[Finding]:
    if limit is None or not found.lengths:
        return
    rows = len(found.lengths)
    if found.unit == "characters":
        long = sum(size > limit * CHARACTERS_PER_TOKEN for size in found.lengths)
        if long / rows > CUT.value:
            text = f"longer than {limit:,} tokens: about {percent(long, rows)} of the rows, at 4 characters a token"
            yield Finding("length", "warn", text, "add --model to count tokens", long, rows, threshold=CUT)
        return
    if not found.overlong:
        return
    fate = {"error": "refused", "drop": "dropped", "truncate": "cut", "split": "split"}[overlong]
    text = f"longer than {limit:,} tokens, and {fate}: {shared(found.overlong, rows)}"
    level: Level = "warn" if overlong != "split" and found.overlong / rows > CUT.value else "fine"
    yield Finding("length", level, text, "raise --max-length", found.overlong, rows, threshold=CUT)


# ---------------------------------------------------------------------------------------------- evaluation data
def read_leaks(spec: DataSpec, registry: Registry) -> Leaks:
    """Read evaluation data. Raises `DataError` where it has no rows, or none with a text."""
    rows = iter(spec.source.rows()) if spec.limit is None else islice(spec.source.rows(), spec.limit)
    sample = list(islice(rows, SAMPLE))
    label = spec.label or spec.source.label()
    format_ = _format_of(spec, sample, registry)
    asked = [one for row, example in _examples(format_, spec, chain(sample, rows)) if (one := asked_of(row, example))]
    if not asked:
        raise nothing_to_compare(label)
    return Leaks(label, asked)


def _format_of(spec: DataSpec, sample: list[Row], registry: Registry) -> DataFormat | None:
    """The format of evaluation rows; ``None`` where they fit none, and their longest text is compared."""
    if not sample:
        raise nothing_to_compare(spec.label or spec.source.label())
    try:
        return choose_format(spec, sample, registry, Taker()).format
    except (ConfigError, DataError):
        if spec.format is not None or spec.map:
            raise
        return None


def _examples(format_: DataFormat | None, spec: DataSpec, rows: Any) -> Iterator[tuple[Row, Any]]:
    if format_ is None:
        yield from ((row, None) for row in rows if not row.problem)
        return
    for outcome in Intake(format_, columns=spec.map, taker=Taker()).outcomes(rows):
        if not outcome.row.problem:
            yield outcome.row, outcome.example
