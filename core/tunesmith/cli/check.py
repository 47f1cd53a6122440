"""``tunesmith check``: whether a component keeps what its kind promises."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import check_kind
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tunesmith.components import Component, Reward
    from tunesmith.plugins import Registry
    from tunesmith.testing import Finding, Report

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

    Exit code 3 when a check fails, 2 when the component cannot be made as it is asked for.
    """
    kind = check_kind(kind)
    if kind not in CHECKS:
        raise ConfigError(f"nothing checks a {kind} yet", why=f"kinds that can be checked: {', '.join(CHECKS)}")
    registry = load_registry()
    component = _component(registry, kind, name, options["overrides"])
    report = CHECKS[kind](registry, component, options)
    if as_json:
        terminal.print_json(report.as_dict())
    else:
        click.echo("\n".join(_lines(report)))
    if report.failed:
        click.get_current_context().exit(DataError.exit_code)


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


def _reward(registry: Registry, reward: Component, options: Mapping[str, Any]) -> Report:
    from tunesmith.cli.score import data_spec
    from tunesmith.rollout.completions import candidates, samples_file
    from tunesmith.testing import check_reward

    rows = None
    if options["data"] is not None:
        spec = data_spec(registry, samples_file(options["data"]), options["columns"])
        found = [one.rollout for one in candidates(spec, registry)]
        rows = [{**one.columns, "prompt": one.prompt, "completion": one.completion} for one in found]
    return check_reward(cast("Reward", reward), rows)


CHECKS: dict[str, Callable[[Registry, Component, Mapping[str, Any]], Report]] = {"reward": _reward}


def _lines(report: Report) -> list[str]:
    from tunesmith.data.report import printable

    def row(finding: Finding) -> tuple[str, str, str]:
        return finding.state, finding.check, printable(finding.seen, 1000)

    lines = [f"{click.style(report.name, fg='cyan', bold=True)}  {report.kind}"]
    looks = {0: lambda state: LOOKS[state]}
    lines += terminal.table([row(finding) for finding in report.findings], wrap=2, indent=2, styles=looks)
    counts = {state: sum(finding.state == state for finding in report.findings) for state in LOOKS}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, click.style(f"  {told}", fg="red" if report.failed else "green")]
