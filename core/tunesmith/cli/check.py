"""``tunesmith check``: whether a component keeps what its kind promises."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import check_kind
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.errors import ConfigError, DataError, ResourceError

if TYPE_CHECKING:
    from tunesmith.components import Component
    from tunesmith.plugins import Registry
    from tunesmith.testing.report import Finding, Report

NAME_WIDTH = 38
"""Columns for the name of a check; they are printed one by one, so the longest is not known beforehand."""
LOOKS: dict[str, dict[str, Any]] = {"ok": {"fg": "green"}, "failed": {"fg": "red"}, "skipped": {"fg": "yellow"}}


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--data", metavar="DATA", help="Rows with a prompt, the right completion, and what is compared.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A setting of the component.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@unsandboxed_option
@plugin_options
def check(kind: str, name: str, as_json: bool, **options: Any) -> None:
    """Check that a component keeps what its kind promises.

    KIND is reward. A reward gives right answers its best score (those of its own samples, or of --data) and answers
    that know nothing about zero; it always says the same, whatever else it is asked; and no answer makes it hang, die
    or fail. What cannot be checked is listed with the reason.

    Exit code 3 when a check fails, 4 when what it needs is not there and nothing could be checked, 2 when the component
    cannot be made as it is asked for.
    """
    from tunesmith.testing.report import Report
    from tunesmith.testing.suite import Checking

    kind = check_kind(kind)
    registry = load_registry()
    component = _component(registry, kind, name, options["overrides"])
    data = {"rows": ROWS[kind](registry, options)} if options["data"] is not None else {}
    with Checking(type(component), lambda folder: component, registry, data) as checking:
        found = checking.findings()
        if as_json:
            report = Report(kind, component.name, list(found))
            terminal.print_json(report.as_dict())
        else:
            report = _printed(kind, component.name, found)
    if report.failed:
        click.get_current_context().exit(DataError.exit_code)
    if any(finding.check in UNJUDGED for finding in report.skipped):
        click.echo(f"{component.name} was not checked: it could judge nothing", err=True)
        click.get_current_context().exit(ResourceError.exit_code)


def _component(registry: Registry, kind: str, word: str, overrides: Sequence[str]) -> Component:
    """The component with its settings. Raises `ConfigError` that says which flag is missing."""
    from tunesmith.config import build
    from tunesmith.fieldtypes import plain
    from tunesmith.reward_files import points_to_code

    if os.path.exists(word) and overrides:  # the settings that a path stands for, and those that are given
        found = build(registry, kind, word)
        known = {key: plain(getattr(found, key)) for key in found.model_fields_set}
        return build(registry, kind, {"name": found.selector, **known, **_settings(type(found), overrides)})
    if os.path.exists(word) or points_to_code(word):
        return build(registry, kind, {"name": word, **_settings(None, overrides)} if overrides else word)
    cls = registry.get(kind, word)
    given = _settings(cls, overrides)
    missing = [key for key, info in cls.model_fields.items() if info.is_required() and key not in given]
    if missing:
        raise ConfigError(
            f"the {kind} {cls.name!r} cannot be checked without {', '.join(missing)}",
            fix=f"add {' '.join(f'--set {key}=...' for key in missing)}; see `tunesmith show {kind}/{cls.name}`",
        )
    return build(registry, kind, {"name": word, **given})


def _settings(cls: type[Component] | None, overrides: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, read as the type of the setting."""
    from tunesmith.fieldtypes import field_type, from_text
    from tunesmith.runfile import parse_value

    found: dict[str, Any] = {}
    for text in overrides:
        key, equals, raw = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ConfigError(f"--set {text!r}: write KEY=VALUE")
        info = cls.model_fields.get(key) if cls else None
        found[key] = from_text(field_type(info.annotation), raw) if info else parse_value(raw)
    return found


def _answers(registry: Registry, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``--data`` with a prompt and the completion that is right."""
    from tunesmith.cli.sources import data_spec
    from tunesmith.rollout.completions import candidates, samples_file

    spec = data_spec(registry, samples_file(options["data"]), options["columns"])
    found = [one.rollout for one in candidates(spec, registry)]
    return [{**one.columns, "prompt": one.prompt, "completion": one.completion} for one in found]


UNJUDGED = ("loading", "judging")
"""Checks that are skipped where a component could not do its work at all."""
ROWS: Mapping[str, Callable[[Registry, Mapping[str, Any]], list[dict[str, Any]]]] = {"reward": _answers}
"""Kinds that can be checked with rows of the user's, and how these are read."""


def _printed(kind: str, name: str, found: Iterator[Finding]) -> Report:
    """Print every finding as soon as it is known: some checks take a while."""
    from tunesmith.data.report import printable
    from tunesmith.testing.report import Report

    findings: list[Finding] = []
    for finding in found:
        if not findings:  # not before: what cannot be checked at all is an error
            click.echo(f"{click.style(name, fg='cyan', bold=True)}  {kind}")
        findings.append(finding)
        head = f"  {click.style(f'{finding.state:<7}', **LOOKS[finding.state])}  {finding.check:<{NAME_WIDTH}}  "
        text = printable(finding.seen, 1000)
        click.echo(terminal.paragraph(text, indent=NAME_WIDTH + 13, first=head))
    report = Report(kind, name, findings)
    counts = {state: sum(finding.state == state for finding in findings) for state in LOOKS}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    click.echo(click.style(f"  {told}", fg="red" if report.failed else "green"))
    return report
