"""``tunesmith new``: a plugin package that works as it is written."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import check_kind
from tunesmith.components import KINDS, Method
from tunesmith.errors import ConfigError
from tunesmith.inputs import TokenLogps
from tunesmith.online import OnlineMethod
from tunesmith.plugin_rules import KEBAB
from tunesmith.plugins import article

if TYPE_CHECKING:
    from tunesmith.cli.scaffold import Scaffold
    from tunesmith.plugins import Registry

LONGEST = 40
"""Characters of a name: more of them would not fit the lines of the files."""
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.]+[A-Za-z0-9]+)*")


@click.command()
@click.argument("kind", metavar=f"{{{','.join(KINDS)}}}")
@click.argument("name")
@click.option("--output", metavar="DIR", help="Folder of the package, which is made.  [default: its name]")
@click.option("--package", metavar="NAME", help="Name to install it by.  [default: tunesmith-NAME]")
@plugin_options
def new(kind: str, name: str, output: str | None, package: str | None) -> None:
    """Write a plugin package: a component of a kind, tests, a README, CI.

    NAME is what run files will say. The package installs, lints, type-checks and passes its tests as it is written;
    the component does something plain, and what to change in it is marked EDIT.
    """
    from tunesmith.cli.scaffold import write

    kind = check_kind(kind)
    _check_name(kind, name)
    package = package or f"tunesmith-{name}"
    folder = Path(output or package).expanduser()
    registry = load_registry()
    _check_free(registry, kind, name)
    scaffold = _scaffold(registry, kind, name, package)
    _check_package(package, scaffold.module)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already", fix="give another folder with --output")
    files = scaffold.render()
    write(files, folder)
    _tell(scaffold, folder, list(files))


def _check_name(kind: str, name: str) -> None:
    if KEBAB.fullmatch(name) and len(name) <= LONGEST:
        return
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    close = re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")[:LONGEST].strip("-")
    raise ConfigError(
        f"{name!r} cannot be the name of a {kind}",
        why=f"names are words of a-z and 0-9 with single hyphens between them, {LONGEST} characters at most",
        fix=f"tunesmith new {kind} {close or f'my-{kind}'}",
    )


def _check_free(registry: Registry, kind: str, name: str) -> None:
    owners = [plugin for plugin, cls in registry.entries(kind) if cls.name == name]
    if owners:
        owner = owners[0]
        raise ConfigError(
            f"there is {article(kind)} {name!r} already, and the two would clash",
            where=owner.label(name),
            why="a name that two plugins share is an error on use, unless one says that it replaces the other",
            fix=f"choose another name; to replace it, add --no-plugin {owner.name} to this command, and to the "
            f'component replaces = "{owner.distribution}/{name}"',
        )


def _check_package(package: str, module: str) -> None:
    if not _PACKAGE.fullmatch(package):
        raise ConfigError(
            f"{package!r} cannot be the name of a package",
            why="it is made of letters and digits with hyphens between them, and begins with a letter",
            fix="--package my-package",
        )
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise ConfigError(
            f"there is a module {module!r} already, which the package {package} would hide",
            fix="choose another name with --package",
        )


def _scaffold(registry: Registry, kind: str, name: str, package: str) -> Scaffold:
    from tunesmith.cli.scaffold import Scaffold

    taken = any(plugin.answers_to(name) for plugin in registry.plugins)
    return Scaffold(kind, name, package, package if taken else name, trial(registry, kind, name))


# ---------------------------------------------------------------------------------------------- what to type
def trial(registry: Registry, kind: str, name: str) -> str:
    """A command that shows a component of a kind at work, with the simplest method that can use it."""
    model = "--model MODEL"
    if kind == "method":
        return f"tunesmith run {name} {model} --data rows.jsonl"
    if kind == "reward":
        return f"tunesmith score {name} --data answers.jsonl"
    if kind == "format":
        return f"tunesmith data check rows.jsonl --format {name}"
    if kind == "source":
        return f"tunesmith data check {name}"
    method = _simplest(registry, kind)
    flags = {"objective": "--objective", "scheduler": "--schedule", "tracker": "--trackers", "generator": "--generator"}
    reward = " --reward REWARD" if kind == "generator" else ""
    return f"tunesmith run {method} {model} --data rows.jsonl{reward} {flags[kind]} {name}"


def _simplest(registry: Registry, kind: str) -> str:
    """The method with the fewest settings of those that a component as it is written can be used with."""
    methods = [cast(type[Method], cls) for _, cls in registry.current(Method.kind)]
    online = kind == "generator"
    fitting = [m for m in methods if (issubclass(m, OnlineMethod) if online else issubclass(m.supplies, TokenLogps))]
    return min(fitting, key=lambda cls: (len(cls.model_fields), cls.name)).name if fitting else "METHOD"


def _tell(scaffold: Scaffold, folder: Path, files: Sequence[str]) -> None:
    notes = {
        scaffold.component: f"the {scaffold.kind}; what to change is marked EDIT",
        "tests/test_conformance.py": f"what every {scaffold.kind} promises, as tests",
        "pyproject.toml": f"the package {scaffold.package}, and its entry point {scaffold.plugin}",
        "README.md": "how to try, check and publish it",
        ".github/workflows/ci.yml": "the same checks on every push",
        f"{scaffold.module}/py.typed": "says that the package has types",
    }
    order = [*notes, *sorted(set(files) - set(notes))]
    click.echo(f"wrote {click.style(str(folder), fg='cyan', bold=True)}")
    rows = [(path, notes.get(path, "")) for path in order]
    click.echo("\n".join(terminal.table(rows, wrap=1, indent=2, styles={1: {"dim": True}})))
    click.echo("\nnext:")
    for command in (
        f"cd {folder}",
        "tunesmith install --editable .",
        f"tunesmith check {scaffold.kind} {scaffold.name}",
    ):
        click.echo(f"  {command}")
