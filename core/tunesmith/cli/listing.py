"""``tunesmith list`` and ``tunesmith plugins``: what there is, and from where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.components import KINDS, Component
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.plugins import Plugin, Registry


def kind_named(word: str) -> str | None:
    """The kind that a word such as ``methods``, ``data-format`` or ``Reward`` means."""
    wanted = word.lower().replace("_", "-").removeprefix("data-")
    return wanted if wanted in KINDS else wanted.removesuffix("s") if wanted.removesuffix("s") in KINDS else None


def check_kind(word: str) -> str:
    """As `kind_named`. Raises `ConfigError` for any other word."""
    kind = kind_named(word)
    if kind is None:
        raise ConfigError(
            f"there is no kind of component {word!r}{did_you_mean(word, KINDS)}", why=f"kinds: {', '.join(KINDS)}"
        )
    return kind


def describe(registry: Registry, plugin: Plugin, cls: type[Component]) -> dict[str, Any]:
    """What `list` says about a component."""
    instead = registry.replacement(plugin, cls)
    namesakes = [entry for entry in registry.current(cls.kind) if entry[1].name == cls.name]
    return {
        "kind": cls.kind,
        "name": cls.name,
        "summary": terminal.first_line(cls),
        "plugin": plugin.name,
        "package": plugin.distribution,
        "version": plugin.version,
        "selector": registry.selector(plugin, cls),
        "replaces": cls.replaces,
        "replaced_by": registry.exact(*instead) if instead else "",
        "clash": len(namesakes) > 1,
    }


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plugin_options
def list_(kind: str | None, as_json: bool) -> None:
    """List every registered component.

    KIND is one of method, objective, reward, format, source, scheduler, generator, tracker; the plural does as well.
    """
    kinds = list(KINDS) if kind is None else [check_kind(kind)]
    registry = load_registry()
    found = [describe(registry, plugin, cls) for k in kinds for plugin, cls in registry.entries(k)]
    if as_json:
        terminal.print_json({"schema": 1, "components": found})
    elif found:
        sections = {k: [row for row in found if row["kind"] == k] for k in kinds}
        click.echo("\n\n".join(_section(k, rows) for k, rows in sections.items() if rows))
    else:
        click.echo(f"no {kinds[0]} is installed", err=True)
    _mention_faults(registry)


def _section(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        cells.append((row["name"], row["summary"] + _standing(row), _package(row["package"], row["version"])))
    lines = terminal.table(cells, wrap=1, indent=2, styles={0: {"fg": "cyan"}, 2: {"dim": True}})
    return "\n".join([click.style(f"{kind}s", bold=True), *lines])


def _standing(row: dict[str, Any]) -> str:
    """What there is to know about components of the same name."""
    if row["clash"]:
        return f" [clash: write {row['selector']}]"
    if row["replaced_by"]:
        return f" [replaced by {row['replaced_by']}: write {row['selector']}]"
    return f" [replaces {row['replaces']}]" if row["replaces"] else ""


def _package(distribution: str, version: str) -> str:
    """A local file is shown by its name: its path is in `tunesmith plugins`."""
    return f"{distribution} {version}" if version else os.path.basename(distribution)


def _mention_faults(registry: Registry) -> None:
    names = [plugin.name for plugin in registry.plugins if plugin.status == "broken"]
    if names:
        failed = "1 plugin" if len(names) == 1 else f"{len(names)} plugins"
        click.echo(f"{failed} failed to load: {', '.join(names)}; see `tunesmith plugins`", err=True)


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plugin_options
def plugins(as_json: bool) -> None:
    """List every plugin, its package, and why it failed to load."""
    registry = load_registry()
    if as_json:
        terminal.print_json({"schema": 1, "plugins": [_plugin(plugin) for plugin in registry.plugins]})
        return
    rows = [
        (
            p.name,
            _package(p.distribution, p.version),
            f"{p.ms:.0f}",
            p.status,
            "; ".join(filter(None, (_provides(p), _replaces(p), p.cause))) or "-",
        )
        for p in registry.plugins
    ]
    header = ("PLUGIN", "PACKAGE", "MS", "STATUS", "PROVIDES, OR WHAT IS WRONG")
    lines = terminal.table(rows, header=header, wrap=4, styles={0: {"fg": "cyan"}, 1: {"dim": True}})
    click.echo("\n".join(lines))


def _plugin(plugin: Plugin) -> dict[str, Any]:
    return {
        "plugin": plugin.name,
        "package": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "ms": round(plugin.ms, 1),
        "status": plugin.status,
        "cause": plugin.cause,
        "components": [{"kind": cls.kind, "name": cls.name} for cls in plugin.components],
        "replaces": [{"kind": cls.kind, "name": cls.replaces} for cls in plugin.components if cls.replaces],
        "commands": sorted(plugin.commands),
    }


def _provides(plugin: Plugin) -> str:
    """``method sft; objective nll, dft; command demo``."""
    groups = {kind: [cls.name for cls in plugin.components if cls.kind == kind] for kind in KINDS}
    groups["command"] = sorted(plugin.commands)
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in groups.items() if names)


def _replaces(plugin: Plugin) -> str:
    """``replaces the objective tunesmith/dft``."""
    return "; ".join(f"replaces the {cls.kind} {cls.replaces}" for cls in plugin.components if cls.replaces)
