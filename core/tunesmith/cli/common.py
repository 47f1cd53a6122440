"""What the commands share: the options about plugins, and loading them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from tunesmith.cli.failures import adopt_loggers
from tunesmith.errors import ConfigError
from tunesmith.plugins import Registry, load

COMMANDS = {
    "list": ("tunesmith.cli.listing:list_", "Every registered component: methods, losses, formats, ..."),
    "show": ("tunesmith.cli.show:show", "One component: when to use it, its settings and their defaults."),
    "run": ("tunesmith.cli.run:run", "Train: a method with flags, or a run file."),
    "plan": ("tunesmith.cli.plan:plan", "Memory and time of a run, before anything is loaded."),
    "resume": ("tunesmith.cli.run:resume", "Continue a stopped run."),
    "data": ("tunesmith.cli.data:data", "Look at data: which rows are wrong, which tokens are trained."),
    "score": ("tunesmith.cli.score:score", "Judge completions with rewards, without training."),
    "eval": ("tunesmith.cli.evaluate:evaluate", "How often models are right on the same prompts."),
    "chat": ("tunesmith.cli.chat:chat", "Talk to a model, or to two side by side: before and after."),
    "export": (
        "tunesmith.cli.export:export",
        "Write a model for other programs: merged, checked, with a serving line.",
    ),
    "report": ("tunesmith.cli.report:report", "Write the page of a run: curves, samples, settings."),
    "compare": ("tunesmith.cli.report:compare", "Hold runs against each other, with spread over seeds."),
    "vocab": ("tunesmith.cli.vocab:vocab", "Look at a tokenizer on your text; expand a vocabulary."),
    "check": ("tunesmith.cli.check:check", "Check that a component keeps what its kind promises."),
    "new": ("tunesmith.cli.new:new", "Write a plugin package of your own: component, tests, README, CI."),
    "install": ("tunesmith.cli.install:install", "Install plugin packages where tunesmith is installed."),
    "uninstall": ("tunesmith.cli.install:uninstall", "Remove plugin packages."),
    "plugins": ("tunesmith.cli.listing:plugins", "Every plugin, its package, and why it failed to load."),
    "schema": ("tunesmith.cli.schema:schema", "JSON schema of run files, for editors."),
    "doctor": ("tunesmith.cli.doctor:doctor", "Check packages, devices and folders."),
}
"""Name of a command to where it is and its one line; the modules are imported on use."""
FIRST = ("run", "data", "eval", "list", "show", "doctor")
"""Commands that the first help explains; of the others it has the names."""
DEBUG_VARIABLE = "TUNESMITH_DEBUG"
TOLERANT = ("list", "plugins")
"""Commands that go on where a plugin file cannot be loaded, and say so."""
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(slots=True)
class Shared:
    """What the options of the root and of a command say together.

    Attributes:
        files: local plugin files (``--plugin``).
        block: plugins and packages to leave out (``--no-plugin``).
        debug: print tracebacks.
    """

    files: list[Path] = field(default_factory=list)
    block: list[str] = field(default_factory=list)
    debug: bool = False
    registries: dict[tuple[Any, ...], Registry] = field(default_factory=dict)


def shared() -> Shared:
    """The options given so far to the command that is running."""
    ctx = click.get_current_context(silent=True)  # none while a shell asks for completions
    return ctx.find_root().ensure_object(Shared) if ctx else Shared()


def plugin_options(command: _F) -> _F:
    """Add ``--plugin``, ``--no-plugin`` and ``--debug`` to a command that loads plugins."""
    for option in reversed(plugin_flags()):
        if isinstance(command, click.Command):
            command.params.append(option)
        else:
            vars(command).setdefault("__click_params__", []).append(option)
    return command


def plugin_flags() -> list[click.Option]:
    """The options themselves; what they say goes to `shared` and not to the command's function."""
    return [
        click.Option(
            ["--plugin"],
            metavar="FILE",
            multiple=True,
            is_eager=True,
            expose_value=False,
            callback=_keep_files,
            help="Load a Python file as a plugin.",
        ),
        click.Option(
            ["--no-plugin"],
            metavar="NAME",
            multiple=True,
            is_eager=True,
            expose_value=False,
            callback=_keep_blocked,
            help="Leave out a plugin or a package.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_keep_debug,
            help="Print the whole traceback of an error.",
        ),
    ]


def _keep_files(ctx: click.Context, _: click.Parameter, values: Sequence[str]) -> None:
    ctx.find_root().ensure_object(Shared).files.extend(Path(os.path.expanduser(value)) for value in values)


def _keep_blocked(ctx: click.Context, _: click.Parameter, values: Sequence[str]) -> None:
    ctx.find_root().ensure_object(Shared).block.extend(values)


def _keep_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.find_root().ensure_object(Shared).debug |= value


def load_registry(*, files: Iterable[Path] = (), block: Iterable[str] = ()) -> Registry:
    """The registry of the plugins that the command line and a run file ask for, loaded once per process.

    Args:
        files: plugin files beside those of ``--plugin``.
        block: names beside those of ``--no-plugin``.
    """
    options = shared()
    all_files = tuple(dict.fromkeys(path.resolve() for path in (*files, *options.files)))
    all_blocked = tuple(sorted({*block, *options.block}))
    if (all_files, all_blocked) not in options.registries:
        registry = load(files=all_files, block=all_blocked, reserved_commands=COMMANDS)
        adopt_loggers(plugin.module for plugin in registry.plugins)
        options.registries[all_files, all_blocked] = registry
        _check_files(registry, all_files)
    return options.registries[all_files, all_blocked]


def _check_files(registry: Registry, files: Sequence[Path]) -> None:
    """A file that was asked for must load: without it something else of the same name might be used.

    Raises `ConfigError`, but for the commands that say what is wrong with plugins.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None or any(part in TOLERANT for part in ctx.command_path.split()):
        return
    for plugin in registry.plugins:
        if plugin.status == "broken" and Path(plugin.distribution) in files:
            raise ConfigError(
                f"the plugin {plugin.distribution} cannot be loaded",
                why=plugin.cause,
                fix="correct the file (`tunesmith plugins --plugin FILE` looks again), or leave it out",
            )


def is_main_process() -> bool:
    """True but for the second and later processes that a launcher such as torchrun started."""
    return os.environ.get("RANK", "0") == "0"
