"""``tunesmith data check``: which rows are wrong, and what is suspicious about all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.data_settings import data_options, encoder_of, prepared
from tunesmith.errors import DataError, ResourceError

if TYPE_CHECKING:
    from tunesmith.components import DataSpec, Method
    from tunesmith.data.audit import Audit
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.quality.findings import Finding
    from tunesmith.data.quality.survey import Checked, Survey
    from tunesmith.data.rows import Outcome
    from tunesmith.plugins import Registry
    from tunesmith.report.markup import Markup
    from tunesmith.settings import RunSettings

LOOKS: Mapping[str, Mapping[str, Any]] = {"stop": {"fg": "red"}, "warn": {"fg": "yellow"}, "fine": {"dim": True}}
MASKS = 3
"""Rows of every source that are decoded."""
BAR = 30
"""Characters of the longest bar."""


@click.command()
@click.argument("words", metavar="DATA...", nargs=-1, required=True)
@click.option("--model", metavar="M", help="Count tokens with the tokenizer of this model; characters without.")
@click.option("--against", metavar="EVAL", multiple=True, help="Evaluation rows that must not be among them; repeat.")
@click.option("--verbose", is_flag=True, help="Also what is fine, lengths, typical volumes, first rows decoded.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page with pictures as well.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@data_options
@plugin_options
def check(
    words: Sequence[str], against: Sequence[str], verbose: bool, html: Path | None, as_json: bool, **options: Any
) -> None:
    """Read all rows and say which are wrong, and what is suspicious: copies, lengths, labels, leaks, templates.

    Exit code 3 when a run would refuse them or would train wrongly.
    """
    from tunesmith.cli.sources import data_spec
    from tunesmith.data.quality.survey import survey

    registry = load_registry()
    settings, method = prepared(registry, words, options)
    encoder = encoder_of(settings, method) if options["model"] or options["tokenizer"] else None
    limited = method is not None or options["max_length"] is not None
    found = survey(
        settings.data,
        registry,
        method=method,
        encoder=encoder,
        limit=settings.max_length if limited else None,
        overlong=settings.overlong,
        against=[data_spec(registry, word) for word in against],
    )
    if html is not None:
        _write(html, found, registry, settings, method, encoder)
    if as_json:
        terminal.print_json(found.as_dict())
    else:
        click.echo("\n".join(_lines(found, verbose)))
        if verbose and encoder is not None:
            for spec, one in zip(settings.data, found.sources, strict=True):
                if one.audit.usable:
                    click.echo("\n".join(_masks(spec, registry, settings, method, encoder)))
    if html is not None:
        click.echo(f"wrote {html}", err=True)
    if found.level == "stop":
        click.get_current_context().exit(DataError.exit_code)


def _write(
    path: Path,
    found: Survey,
    registry: Registry,
    settings: RunSettings,
    method: Method | None,
    encoder: Encoder | None,
) -> None:
    from tunesmith.cli.data_page import masked, page

    masks: list[list[Markup]] = [[] for _ in found.sources]
    for i, one in enumerate(found.sources):
        if encoder is not None and one.audit.usable:
            outcomes = decoded(settings.data[i], registry, method, encoder)
            masks[i] = [masked(outcome, encoder, found.limit) for outcome in outcomes]
    try:
        page(found, masks).write(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}", why=str(error), fix="name another --html FILE") from None


def decoded(spec: DataSpec, registry: Registry, method: Method | None, encoder: Encoder) -> list[Outcome]:
    """The outcomes of the first few rows, encoded."""
    from tunesmith.cli.data_settings import taker_of
    from tunesmith.data.audit import first_rows
    from tunesmith.data.detect import SAMPLE, choose_format
    from tunesmith.data.rows import Intake

    sample = first_rows(spec, 0, SAMPLE)
    verdict = choose_format(spec, sample, registry, taker_of(method))
    intake = Intake(verdict.format, columns=spec.map, taker=taker_of(method), encoder=encoder)
    return [outcome for outcome in intake.outcomes(sample) if outcome.trees][:MASKS]


def _masks(
    spec: DataSpec, registry: Registry, settings: RunSettings, method: Method | None, encoder: Encoder
) -> Iterator[str]:
    from tunesmith.cli.data_rows import row_lines

    for outcome in decoded(spec, registry, method, encoder):
        yield ""
        yield from row_lines(outcome, encoder, method, settings)[0]


# ---------------------------------------------------------------------------------------------- the whole
def _lines(found: Survey, verbose: bool) -> Iterator[str]:
    for one in found.sources:
        yield from _source(one, found.limit, verbose)
    mixed = [finding for finding in found.findings if verbose or finding.level != "fine" or "contam" in finding.check]
    several = len(found.sources) > 1
    if several or mixed or (verbose and found.amounts):
        yield click.style("all of it" if several else "for a run", bold=True)
    if several:
        total = sum(one.audit.total for one in found.sources)
        rows = [
            (_printable(one.audit.label), f"{one.audit.usable:,}", f"{one.audit.total / max(1, total):.0%}")
            for one in found.sources
        ]
        unit = "tokens" if all(one.audit.unit == "tokens" for one in found.sources) else "characters"
        yield from terminal.table(rows, header=("source", "usable rows", f"share of {unit}"), wrap=0, indent=2)
    yield from findings_table(mixed, verbose)
    if verbose and found.amounts:
        body = [
            (amount.method, str(amount.volume), "" if amount.enough else "less", amount.volume.use_case)
            for amount in found.amounts
        ]
        yield from terminal.table(body, header=("method", "typical", "here", "for"), wrap=3, indent=2)


def findings_table(findings: Sequence[Finding], verbose: bool) -> list[str]:
    """Findings, the worst first; with what to do and why where ``verbose``."""
    from tunesmith.data.quality.findings import LEVELS
    from tunesmith.data.report import printable

    lines = []
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        body: list[tuple[str, str]] = [(finding.level, printable(finding.text))]
        if finding.level != "fine" or verbose:
            where = ", ".join(f"{file}, row {row:,}" for file, row in finding.places)
            first = printable(f"first: {where}") if where else ""
            why = f"beyond {finding.threshold.value:.3g}: {finding.threshold.why}" if finding.threshold else ""
            more = (finding.fix, first, why if verbose else "") if verbose else (finding.fix,)
            body += [("", text) for text in more if text]
        looks = {0: lambda cell: LOOKS.get(cell, {})}
        lines += terminal.table([(f"{level:4}", text) for level, text in body], wrap=1, indent=2, styles=looks)
    return lines


def _printable(text: str) -> str:
    from tunesmith.data.report import printable

    return printable(text)


# ---------------------------------------------------------------------------------------------- one source
def _source(checked: Checked, limit: int | None, verbose: bool) -> Iterator[str]:
    one = checked.audit
    yield click.style(_printable(one.label), bold=True)
    yield from _facts(one, limit)
    if verbose:
        yield from _histogram(checked, limit)
    if one.problems.kinds:
        kinds = sorted(one.problems.kinds.values(), key=lambda kind: -kind.count)
        main = next(iter(one.files)) if len(one.files) == 1 else ""
        body = [(f"{kind.count:,}", kind.reason, kind.places(main)) for kind in kinds]
        yield from terminal.table(
            body, header=("rows", "problem", "first"), wrap=1, indent=2, styles={0: {"fg": "red"}}
        )
    shown = [finding for finding in checked.findings if verbose or finding.level != "fine"]
    yield from findings_table(shown, verbose)
    for line in _faults(one):
        yield click.style(f"  {line}", fg="red")
    yield from _verdict(checked)


def _facts(one: Audit, limit: int | None) -> list[str]:
    rows = [("format", f"{one.format} ({one.why})")] if one.format else []
    names = ("usable", "skipped", "dropped", "empty", "duplicates")
    counts = [f"{one.rows:,}", *(f"{name} {getattr(one, name):,}" for name in names if getattr(one, name))]
    if limit is not None and one.unit == "tokens":
        counts.append(f"longer than {limit:,}: {one.overlong:,}")
    rows.append(("rows", "   ".join(counts)))
    sizes = one.quantiles()
    if sizes:
        total = f"   total {one.total:,}" + (
            f"   trained {one.trained:,}" if one.unit == "tokens" and one.trained else ""
        )
        rows.append((one.unit, "   ".join(f"{name} {size:,}" for name, size in sizes.items()) + total))
    known = list(one.balance.lines())
    faults = [label for label, _, fault in known if fault]
    rows += [(label, text) for label, text, _ in known]
    looks = {0: lambda cell: {"fg": "red"} if cell in faults else {}}
    return terminal.table(rows, wrap=1, indent=2, styles=looks)


def _histogram(checked: Checked, limit: int | None) -> Iterator[str]:
    """Lengths as lying bars, a line where rows are cut."""
    found = checked.histogram()
    if found is None or len(checked.audit.lengths) < 2:
        return
    edges, counts, marked = found["edges"], found["counts"], checked.audit.unit != "tokens" or limit is None
    places = max(len(f"{edge:,.0f}") for edge in edges)
    for i, count in enumerate(counts):
        if not marked and limit is not None and edges[i] >= limit:
            yield click.style(f"  {'-' * places} cut at {limit:,}", fg="red")
            marked = True
        bar = "#" * -(-BAR * count // max(counts))
        yield f"  {edges[i]:>{places},.0f} {bar}{' ' if bar else ''}{count:,}"


PART = 8
"""Columns of ``  where `` in front of a part of an error."""


def _verdict(checked: Checked) -> Iterator[str]:
    one = checked.audit
    bad = one.problems.count
    if bad:
        yield click.style(f"  {bad:,} of {one.rows:,} rows are bad", fg="red")
    elif not one.bad:
        clean = all(finding.level == "fine" for finding in checked.findings)
        yield click.style("  no problems" if clean else "  no row is bad", fg="green")
    elif one.fault is None and not one.usable:
        yield click.style("  no row can be trained on", fg="red")


def _faults(one: Audit) -> list[str]:
    if one.fault is None:
        return []
    read = f"reading stopped after {one.rows:,} rows: " if one.rows else ""
    what, *parts = (read + str(one.fault)).splitlines()
    return [what, *(terminal.paragraph(part[PART:], indent=2 + PART, first=part[:PART]) for part in parts)]
