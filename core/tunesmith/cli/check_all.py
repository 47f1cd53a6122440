"""``tunesmith check --all``: a table of components and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry
from tunesmith.components import KINDS
from tunesmith.errors import DataError, TunesmithError

if TYPE_CHECKING:
    from tunesmith.components import Component
    from tunesmith.plugins import Registry
    from tunesmith.testing.report import Finding, Report

MARKS = {"ok": "ok", "failed": "XX", "skipped": "-"}
LOOKS: Mapping[str, Mapping[str, Any]] = {
    "ok": {"fg": "green"},
    "failed": {"fg": "red", "bold": True},
    "skipped": {"fg": "yellow"},
}
UNMADE = "setup"
"""The finding of a component that cannot be made without settings."""


def check_all(kinds: Sequence[str], as_json: bool) -> int:
    """Check every registered component of the kinds, or of all kinds, and print a table; the exit code."""
    registry = load_registry()
    reports: list[Report] = []
    for kind in kinds or list(KINDS):
        found = [(registry.selector(plugin, cls), cls) for plugin, cls in registry.entries(kind)]
        if not found:
            continue
        if as_json:
            reports += [_report(registry, cls) for _, cls in found]
        else:
            reports += _section(registry, kind, found)
    if as_json:
        ok = not any(report.failed for report in reports)
        terminal.print_json({"schema": 1, "ok": ok, "components": [report.as_dict() for report in reports]})
    else:
        click.echo(_total(reports))
    return DataError.exit_code if any(report.failed for report in reports) else 0


def _report(registry: Registry, cls: type[Component]) -> Report:
    """All findings; one that says why, where the component cannot be made."""
    from tunesmith.testing.conform import made
    from tunesmith.testing.report import Finding, Report
    from tunesmith.testing.suite import Checking

    try:
        with Checking(cls, partial(made, cls, {}, registry), registry, {}) as checking:
            return Report(cls.kind, cls.name, list(checking.findings()))
    except TunesmithError as error:
        why = f"it cannot be checked with the settings that it has for checks: {' '.join(str(error).split())}"
        return Report(cls.kind, cls.name, [Finding(UNMADE, "skipped", why)])


def _section(registry: Registry, kind: str, found: Sequence[tuple[str, type[Component]]]) -> list[Report]:
    """Print the table of a kind, each row as soon as it is known."""
    from tunesmith.testing.declared import CHECKS
    from tunesmith.testing.suite import suite_of

    suite = suite_of(kind)
    names = [*CHECKS, *(suite.checks if suite else [])]
    size = max(len(selector) for selector, _ in found)
    click.echo(click.style(f"{kind}s", bold=True))
    legend = "  ".join(f"{number}\u00a0{name.replace(' ', chr(0xA0))}" for number, name in enumerate(names, start=1))
    click.echo(terminal.paragraph(legend, indent=2).replace("\u00a0", " "))
    numbers = " ".join(f"{number:>2}" for number in range(1, len(names) + 1))
    click.echo(click.style(f"  {'':<{size}}  {numbers}", dim=True))
    reports = []
    for selector, cls in found:
        report = _report(registry, cls)
        click.echo(f"  {click.style(f'{selector:<{size}}', fg='cyan')}  {_cells(names, cls, report.findings)}")
        reports.append(report)
    for line in _reasons(reports):
        click.echo(line)
    click.echo()
    return reports


def _cells(names: Sequence[str], cls: type[Component], findings: Sequence[Finding]) -> str:
    """A mark for every check; blank where there is no such check for the component."""
    from tunesmith.testing.suite import names_of

    states: dict[str, str] = dict.fromkeys(names_of(cls), "skipped")  # also where it could not even be made ready
    states |= {finding.check: finding.state for finding in findings}
    cells = [(states.get(name), f"{MARKS[states[name]] if name in states else '':>2}") for name in names]
    return " ".join(click.style(cell, **LOOKS[state]) if state else cell for state, cell in cells).rstrip()


def _reasons(reports: Sequence[Report]) -> list[str]:
    """What failed and what was skipped, each reason once with the components that it is said of."""
    from tunesmith.data.report import printable

    lines = []
    for state in ("failed", "skipped"):
        told: dict[tuple[str, str], list[str]] = {}
        for report in reports:
            for finding in report.findings:
                if finding.state == state:
                    told.setdefault((finding.check, finding.seen), []).append(report.name)
        for (check, seen), names in told.items():
            head = f"  {click.style(f'{state:<7}', **LOOKS[state])}  "
            text = f"{check}: {printable(seen, 1000)} ({', '.join(names)})"
            lines.append(terminal.paragraph(text, indent=11, first=head))
    return lines


def _total(reports: Sequence[Report]) -> str:
    counts = {state: sum(f.state == state for report in reports for f in report.findings) for state in MARKS}
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    bad = any(report.failed for report in reports)
    return click.style(f"{len(reports)} components: {told}", fg="red" if bad else "green")
