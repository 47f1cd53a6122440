"""``tunesmith check``: whether a component keeps what its kind promises."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import check_kind, kind_named
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.components import Reward
from tunesmith.errors import ConfigError, DataError, ResourceError

if TYPE_CHECKING:
    from tunesmith.components import Component
    from tunesmith.plugins import Registry
    from tunesmith.testing.report import Finding, Report
    from tunesmith.testing.suite import Checking

NAME_WIDTH = 38
"""Columns for the name of a check; they are printed one by one, so the longest is not known beforehand."""
LOOKS: dict[str, dict[str, Any]] = {"ok": {"fg": "green"}, "failed": {"fg": "red"}, "skipped": {"fg": "yellow"}}


@click.command()
@click.argument("words", nargs=-1, metavar="[KIND] [NAME]")
@click.option("--all", "everything", is_flag=True, help="Check every component, or all of KIND, and print a table.")
@click.option("--data", metavar="DATA", help="Rows to check with: of a reward, prompts with the right completion.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A setting of the component.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@unsandboxed_option
@plugin_options
def check(words: tuple[str, ...], everything: bool, as_json: bool, **options: Any) -> None:
    """Check that a component keeps what its kind promises.

    NAME is a component of any kind; KIND is needed where several have it (KIND/NAME does as well). Every component can
    be listed, shown, written into a run file and read back; what else is checked depends on its kind. A reward gives
    right answers its best score and answers that know nothing about zero; a format takes the rows that it says it takes
    and refuses others by the name of the field; a source gives the same rows every time; and so on. What cannot be
    checked is listed with the reason.

    Exit code 3 when a check fails, 4 when what it needs is not there and nothing could be checked, 2 when the component
    cannot be made as it is asked for.
    """
    if everything:
        from tunesmith.cli.check_all import check_all

        _refuse_with_all(words, options)
        code = check_all([check_kind(word) for word in words], as_json)
    else:
        code = _one(words, as_json, options)
    click.get_current_context().exit(code)


def _refuse_with_all(words: Sequence[str], options: Mapping[str, Any]) -> None:
    given = [flag for flag, key in (("--data", "data"), ("--map", "columns"), ("--set", "overrides")) if options[key]]
    if given:
        raise ConfigError(f"{given[0]} belongs to one component, and --all checks many", fix=f"leave {given[0]} out")
    if len(words) > 1:
        raise ConfigError(f"--all takes a kind or nothing, not {' '.join(words)}", fix="tunesmith check --all KIND")


def _one(words: Sequence[str], as_json: bool, options: Mapping[str, Any]) -> int:
    """Check one component and print what was found; the exit code."""
    from tunesmith.testing.report import Report

    registry = load_registry()
    kind, word = _asked_for(registry, words)
    with _checking(registry, kind, word, options) as checking:
        if as_json:
            report = Report(kind, checking.cls.name, list(checking.findings()))
            terminal.print_json(report.as_dict())
        else:
            report = _printed(kind, checking.cls.name, checking.findings())
    if report.failed:
        return DataError.exit_code
    if any(finding.check in UNJUDGED for finding in report.skipped):
        click.echo(f"{report.name} was not checked: it could {UNJUDGED_WORDS.get(kind, 'do')} nothing", err=True)
        return ResourceError.exit_code
    return 0


def _asked_for(registry: Registry, words: Sequence[str]) -> tuple[str, str]:
    """The kind and the name, path or function that the words mean."""
    from tunesmith.reward_files import points_to_code
    from tunesmith.testing.conform import find

    if len(words) > 2:
        raise ConfigError(f"one component at a time, not {' '.join(words)}", fix="tunesmith check [KIND] NAME")
    if not words or (len(words) == 1 and kind_named(words[0])):
        kind = f" {kind_named(words[0])}" if words else ""
        raise ConfigError(
            "the argument NAME is missing", fix=f"tunesmith check{kind} NAME, or tunesmith check --all{kind}"
        )
    if len(words) == 2:
        return check_kind(words[0]), words[1]
    if points_to_code(words[0]):
        return Reward.kind, words[0]
    kind = find(registry, words[0]).kind
    return kind, words[0].removeprefix(f"{kind}/")


def _checking(registry: Registry, kind: str, word: str, options: Mapping[str, Any]) -> Checking:
    """The component with its settings, ready to be checked."""
    from tunesmith.config import build
    from tunesmith.fieldtypes import plain
    from tunesmith.reward_files import points_to_code
    from tunesmith.testing.conform import made
    from tunesmith.testing.suite import Checking

    overrides = options["overrides"]
    if os.path.exists(word) or points_to_code(word):
        component = build(registry, kind, word)
        if overrides:  # beside the settings that a path stands for
            cls = type(component)
            known = {key: plain(getattr(component, key)) for key in component.model_fields_set}
            name = component.selector if os.path.exists(word) else word
            component = build(registry, kind, {"name": name, **known, **_settings(cls, overrides)})
        return Checking(type(component), lambda folder: component, registry, _data(registry, kind, options))
    cls = registry.get(kind, word)
    make = partial(made, cls, _settings(cls, overrides), registry)
    return Checking(cls, make, registry, _data(registry, kind, options))


def _data(registry: Registry, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--data`` holds. Raises `ConfigError` for a kind that is checked without rows."""
    if options["data"] is None:
        return {}
    if kind not in ROWS:
        raise ConfigError(f"--data: a {kind} is checked without rows", fix="leave --data out")
    return {"rows": ROWS[kind](registry, options)}


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


def _rows(registry: Registry, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first rows of ``--data`` as a format sees them. Raises `DataError` for what cannot be read."""
    from itertools import islice

    from tunesmith.cli.sources import data_spec
    from tunesmith.data.detect import renamed
    from tunesmith.testing.formats import MOST_ROWS

    spec = data_spec(registry, options["data"], options["columns"])
    found = list(islice(spec.source.rows(), MOST_ROWS))
    wrong = next((row for row in found if row.problem), None)
    if wrong is not None:
        raise DataError("a row to check with cannot be read", where=wrong.where, why=wrong.problem)
    return [dict(renamed(row.data, spec.map)) for row in found]


UNJUDGED = ("loading", "judging")
"""Checks that are skipped where a component could not do its work at all."""
UNJUDGED_WORDS = {"reward": "judge"}
ROWS: Mapping[str, Callable[[Registry, Mapping[str, Any]], list[dict[str, Any]]]] = {
    "reward": _answers,
    "format": _rows,
}
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
