"""``tunesmith install`` and ``uninstall``: plugin packages, in the environment that tunesmith itself runs in."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import click

from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import describe
from tunesmith.components import KINDS
from tunesmith.errors import ConfigError, ResourceError, did_you_mean
from tunesmith.plugins import GROUP, Plugin, Registry, canonical

State = Mapping[str, Any]
HIDDEN = (
    *("Requirement already satisfied", "Looking in", "[notice]", "Installing build dependencies", "Checking if build"),
    *("Getting requirements to build", "Preparing", "Building", "Created wheel", "Stored in", "Successfully built"),
)
"""Starts of the lines of pip that are not passed on: steps on the way, and packages that are there already."""


@click.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--editable", "-e", is_flag=True, help="Use the folder itself: changes in it count at once.")
@plugin_options
def install(specs: Sequence[str], editable: bool) -> None:
    """Install plugin packages where tunesmith itself is installed.

    SPEC is a folder, a wheel, or the name of a package such as `tunesmith-foo>=0.3`. Options of pip may follow after
    `--`. What appears and disappears is printed, and what fails to load, with its cause.
    """
    words = [word for word in specs if not word.startswith("-")]
    for word in words:
        if (word.startswith((".", "~")) or os.sep in word) and "://" not in word and not os.path.exists(_path(word)):
            raise ConfigError(
                f"there is no folder or file {word!r}", fix="give a path that exists, or a package's name"
            )
    before = state(load_registry())
    wanted = [argument for word in words for argument in (*(["--editable"] if editable else []), _path(word))]
    said = _run(["install", *wanted, *(word for word in specs if word.startswith("-"))], f"install {' '.join(words)}")
    after = _state_now()
    _tell(before, after)
    if before["components"] == after["components"] and before["broken"] == after["broken"]:
        click.echo("no component has appeared or disappeared" + (f"; {said[-1]}" if said else ""))
    _refuse_broken(before, after)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@plugin_options
def uninstall(names: Sequence[str]) -> None:
    """Remove plugin packages from where tunesmith itself is installed.

    NAME is a package, or a plugin of it, as `tunesmith plugins` lists them. Other packages are left alone.
    """
    registry = load_registry()
    packages = list(dict.fromkeys(_package(registry, name) for name in names))
    before = state(registry)
    said = _run(["uninstall", *packages], f"uninstall {' '.join(packages)}")
    after = _state_now()
    left = [package for package in packages if package in after["packages"]]
    if left:
        raise ResourceError(f"{', '.join(left)} could not be removed", where=sys.prefix, why=said[-1] if said else None)
    _tell(before, after)
    for package in packages:
        if not any(f"\t{package} " in key for key in before["components"]):
            click.echo(f"{package} is removed; it provided nothing")


def _path(word: str) -> str:
    """What the installer is told: a path that exists wins over the name of a package."""
    path = os.path.expanduser(word)
    return os.path.abspath(path) if os.path.exists(path) else word


def _package(registry: Registry, name: str) -> str:
    """The package that is meant. Raises `ConfigError` for what is no plugin package, or is tunesmith itself."""
    owners = [plugin for plugin in registry.plugins if plugin.answers_to(name)]
    theirs = sorted({plugin.distribution for plugin in registry.plugins if _removable(plugin)})
    if any(plugin.distribution == GROUP for plugin in owners):
        part = "is" if canonical(name) == GROUP else "is a part of"
        raise ConfigError(
            f"{name!r} {part} tunesmith itself, which is not uninstalled",
            fix=f"to do without a plugin of it: --no-plugin {name}" if part != "is" else f"pip uninstall {GROUP}",
        )
    packages = sorted({plugin.distribution for plugin in owners if _removable(plugin)})
    if len(packages) == 1:
        return packages[0]
    if packages:
        raise ConfigError(f"{name!r} is a plugin of {' and of '.join(packages)}", fix="name the package")
    known = f"installed plugin packages: {', '.join(theirs) or 'none'}"
    try:
        found = distribution(name).name
    except (PackageNotFoundError, ValueError):
        names = {*theirs, *(plugin.name for plugin in registry.plugins if _removable(plugin))}
        raise ConfigError(f"there is no plugin {name!r}{did_you_mean(name, names)}", why=known) from None
    raise ConfigError(
        f"{found} is no plugin of tunesmith, so it is left alone", why=known, fix=f"pip uninstall {found}"
    )


def _removable(plugin: Plugin) -> bool:
    """True for a package of somebody else; a file given with ``--plugin`` is none."""
    return plugin.distribution != GROUP and bool(plugin.version)


# ---------------------------------------------------------------------------------------------- pip
def _command(action: str) -> list[str]:
    """The installer for the environment of this interpreter."""
    if importlib.util.find_spec("pip") is not None:
        asking = ["--yes"] if action == "uninstall" else []
        return [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", action, *asking]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", action, "--python", sys.executable]
    raise ResourceError(
        "there is nothing to install packages with",
        where=f"the environment {sys.prefix}",
        why="it has no pip, and no uv is on the PATH",
        fix=f"{sys.executable} -m ensurepip, or install uv",
    )


def _run(words: Sequence[str], what: str) -> list[str]:
    """Run the installer, whose lines go to stderr as they come; returns them.

    Raises:
        ResourceError: it failed.
    """
    command = [*_command(words[0]), *words[1:]]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not line.strip().startswith(HIDDEN):
                click.echo(line.rstrip(), err=True)
                said.append(line.strip())
    if process.returncode == 0:
        return said
    causes = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    raise ResourceError(
        f"could not {what}", where=f"the environment {sys.prefix}", why=causes[-1] if causes else "see above"
    )


# ---------------------------------------------------------------------------------------------- what has changed
def state(registry: Registry) -> dict[str, Any]:
    """What there is: components by what a line says of them, broken plugins with their causes, packages."""
    components, broken = {}, {}
    for kind in KINDS:
        for plugin, cls in registry.entries(kind):
            fate = describe(registry, plugin, cls)
            name = f"{kind} {cls.name}"
            components[f"{name}\t{plugin.name}\t{plugin.origin}"] = _standing(fate)
    for plugin in registry.plugins:
        if plugin.status == "broken":
            broken[f"{plugin.name} ({plugin.origin})"] = plugin.cause
    packages = sorted({plugin.distribution for plugin in registry.plugins})
    return {"components": components, "broken": broken, "packages": packages}


def _standing(fate: Mapping[str, Any]) -> str:
    if fate["clash"]:
        return f"clashes with another: write {fate['selector']}"
    return f"replaces {fate['replaces']}" if fate["replaces"] else ""


def print_state() -> None:
    """For `_state_now`."""
    print(json.dumps(state(load_registry())))


def _state_now() -> State:
    """The state that a new process finds: this one has loaded what was there before."""
    code = "from tunesmith.cli.install import print_state; print_state()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise ResourceError(
            "tunesmith no longer starts with what is installed now",
            where=f"the environment {sys.prefix}",
            why=(done.stderr.strip().splitlines() or ["it says nothing"])[-1],
            fix="undo it with pip",
        )
    found: State = json.loads(done.stdout)
    return found


def _tell(before: State, after: State) -> None:
    for title, one, other, colour in (("new", after, before, "green"), ("gone", before, after, "yellow")):
        for key in sorted(set(one["components"]) - set(other["components"])):
            name, _, origin = key.split("\t")
            standing = one["components"][key]
            note = f"; {standing}" if standing and one is after else ""
            click.echo(f"{click.style(f'{title:<6}', fg=colour)}  {name}  ({origin}){note}")
        if title == "new":
            for plugin in sorted(_newly_broken(before, after)):
                click.echo(f"{click.style('broken', fg='red')}  {plugin}: {after['broken'][plugin]}")


def _newly_broken(before: State, after: State) -> list[str]:
    return [plugin for plugin, cause in after["broken"].items() if before["broken"].get(plugin) != cause]


def _refuse_broken(before: State, after: State) -> None:
    plugins = _newly_broken(before, after)
    if plugins:
        raise ResourceError(
            f"installed, but {'a plugin fails' if len(plugins) == 1 else f'{len(plugins)} plugins fail'} to load",
            why="; ".join(f"{plugin}: {after['broken'][plugin]}" for plugin in plugins),
            fix="`tunesmith plugins` says this again when it is put right",
        )
