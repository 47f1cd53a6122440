"""``tunesmith run`` and ``tunesmith resume``: from the command line to a resolved run, and to the runner."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.aliases import given_aliases, translate
from tunesmith.cli.common import is_main_process, load_registry, plugin_options, shared
from tunesmith.cli.options import RunCommand, given
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.components import Method
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.plugins import Registry
from tunesmith.settings import PluginSettings

if TYPE_CHECKING:
    from tunesmith.config import Layers, Run


@dataclass(slots=True)
class Target:
    """What to run.

    Attributes:
        method: what the registry is asked for, such as ``sft`` or ``plugin/sft``; empty for a file of stages.
        path: the run file, where there is one.
        content: what the run file says.
    """

    method: str
    path: Path | None = None
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> bool:
        """True for a file of stages."""
        return "stages" in self.content


class RunGroup(click.Group):
    """Its commands are the registered methods, and every run file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises `ConfigError` for settings before the method that they belong to."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            fix = f"tunesmith run METHOD {error.option_name} ..."
            raise ConfigError("the method, or the run file, comes before its settings", fix=fix) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the methods."""
        return load_registry().names("method")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a method or of a run file. Raises `ConfigError` when there is no such method."""
        target = target_of(cmd_name)
        registry = load_plugins(target)
        if target.stages:
            from tunesmith.cli.pipeline import pipeline_command

            return pipeline_command(cmd_name, cast(Path, target.path), registry)
        cls = cast(type[Method], registry.get("method", target.method))
        usage = "[SETTINGS]" if target.path else "--model MODEL --data DATA [SETTINGS]"
        summary = terminal.first_line(cls) if target.path is None else f"Run {target.path}: {target.method}."
        return RunCommand(cmd_name, cls, usage=usage, summary=summary, callback=_callback(target, registry))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Plugins named behind the method may be where the method comes from, so they are read first."""
        _read_plugin_options(args[1:])
        return args[0], self.get_command(ctx, args[0]), args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the methods without building their flags."""
        rows = [(cls.name, terminal.first_line(cls)) for _, cls in load_registry().entries("method")]
        with formatter.section("Methods"):
            formatter.write_dl(rows)


@click.group("run", cls=RunGroup, subcommand_metavar="METHOD|FILE [SETTINGS]...", invoke_without_command=True)
@plugin_options
@click.pass_context
def run(ctx: click.Context) -> None:
    """Train: a method with its settings as flags, a run file, or a file of stages that follow each other.

    \b
    tunesmith run METHOD --model MODEL --data DATA
    tunesmith run FILE.yaml --epochs 3

    A flag wins over --set, that over TUNESMITH_* variables, the run file, the preset and the defaults.
    `tunesmith run METHOD --help` lists the settings.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.command("resume")
@click.argument("folder", metavar="RUN_DIR")
@unsandboxed_option
@plugin_options
def resume(folder: str) -> None:
    """Continue a stopped run in its folder."""
    path = Path(os.path.expanduser(folder))
    written = path / "run.yaml"
    if (path / "pipeline.yaml").is_file():
        from tunesmith.cli.pipeline import resume_pipeline

        resume_pipeline(path, load_plugins(target_of(str(path / "pipeline.yaml"))))
        return
    if path.is_file():
        raise ConfigError(f"{folder} is a file, not the folder of a run", fix="give the --output of the run")
    if not path.is_dir():
        raise ConfigError(f"there is no folder {folder}{_similar(path)}", fix="give the --output of a run")
    if not written.is_file():
        raise ConfigError(
            f"{folder} is not the folder of a run", why=f"there is no {written}", fix="give the --output of a run"
        )
    registry = load_plugins(target_of(str(written)))
    from tunesmith.runner import launch

    _finished(launch.resume(path, registry))


def _similar(path: Path) -> str:
    names = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    return did_you_mean(path.name, names)


# ---------------------------------------------------------------------------------------------- what to run
def target_of(word: str) -> Target:
    """A word that is an existing file, or ends like one, is a run file; any other is a method."""
    path = Path(os.path.expanduser(word))
    if not (path.is_file() or word.endswith((".yaml", ".yml"))):
        return Target(word)
    if not path.is_file():
        raise ConfigError(f"there is no run file {word}{_similar(path)}")
    from tunesmith.config import read_run_file

    content = read_run_file(path)
    if "stages" in content:
        return Target("", path, content)
    method = content.get("method")
    if not isinstance(method, str):
        what = "a run file names its method" if method is None else f"method: {method!r} is not a name"
        raise ConfigError(what, where=str(path), fix="method: NAME (see `tunesmith list methods`)")
    return Target(method, path, content)


def load_plugins(target: Target) -> Registry:
    """Load the plugins that the command line and the run file ask for, and check what the file requires."""
    said = target.content.get("plugins")
    if said is None:
        return load_registry()
    from pydantic import ValidationError

    from tunesmith.config import check_required
    from tunesmith.explain import explain
    from tunesmith.runfile import key_line

    try:
        wanted = PluginSettings.model_validate(said)
    except ValidationError as error:
        path = cast(Path, target.path)
        raise explain(
            error, PluginSettings, str(path), locate=lambda keys: f"{path}, line {key_line(path, ['plugins', *keys])}"
        ) from None
    check_required(wanted.require)
    return load_registry(files=wanted.files, block=wanted.block)


def _read_plugin_options(args: Sequence[str]) -> None:
    """Take ``--plugin`` and ``--no-plugin`` from the arguments of a command that cannot be built without them."""
    options = shared()
    words = iter(args)
    for word in words:
        name, equals, value = word.replace("_", "-", 3).partition("=") if word.startswith("--") else (word, "", "")
        if name == "--":
            return
        if name in ("--plugin", "--no-plugin"):
            value = word.partition("=")[2] if equals else next(words, "")
            if value and name == "--plugin":
                options.files.append(Path(os.path.expanduser(value)))
            elif value:
                options.block.append(value)


# ---------------------------------------------------------------------------------------------- running it
def _callback(target: Target, registry: Registry) -> Callable[..., None]:
    return lambda **params: execute(click.get_current_context(), target, registry, params)


def execute(ctx: click.Context, target: Target, registry: Registry, params: Mapping[str, Any]) -> None:
    """Resolve all settings, then print them (``--dry-run``) or start the run."""
    from tunesmith.config import Layers, resolve

    _check_plugins(params["overrides"])
    method = cast(type[Method], registry.get("method", target.method))
    translation = translate(given_aliases(params), given(ctx), method)
    layers = Layers(
        preset=params["preset"],
        file=_with_absolute_files(target.content),
        path=target.path,
        overrides=params["overrides"],
        flags={**translation.flags, **_plugin_settings(target)},
    )
    resolved = resolve(registry, target.method, layers)
    if is_main_process():
        for note in translation.notes:
            click.echo(note, err=True)
    if params["dry_run"]:
        _print_dry_run(resolved, layers)
        return
    from tunesmith.runner import launch

    again = params["resume_run"] or translation.resume
    _finished(launch.start(resolved, registry, resume=again, overwrite=params["overwrite"]))


def _finished(folder: Path) -> None:
    if is_main_process():
        click.echo(folder)


def _with_absolute_files(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plugin files are written to the run's folder with their whole path: it is continued from anywhere."""
    said = content.get("plugins")
    if not isinstance(said, Mapping) or not said.get("files"):
        return dict(content)
    files = [str(Path(file).resolve()) for file in said["files"]]
    return {**content, "plugins": {**said, "files": files}}


def _plugin_settings(target: Target) -> dict[str, Any]:
    """The plugin flags as a setting of the run, so that `resume` loads the same plugins."""
    options = shared()
    if not options.files and not options.block:
        return {}
    said = PluginSettings.model_validate(target.content.get("plugins") or {})
    files = [str(path.resolve()) for path in (*said.files, *options.files)]
    merged = {"files": list(dict.fromkeys(files)), "block": list(dict.fromkeys((*said.block, *options.block)))}
    return {"plugins": merged}


def _check_plugins(overrides: Sequence[str]) -> None:
    """Plugins are loaded before other settings are read, so here they would come too late."""
    late = [f"--set {text}" for text in overrides if text.partition("=")[0].partition(".")[0].strip() == "plugins"]
    late += ["TUNESMITH_PLUGINS"] if "TUNESMITH_PLUGINS" in os.environ else []
    if late:
        raise ConfigError(
            "plugins cannot be set there: they are loaded before it is read",
            where=late[0],
            fix="use --plugin FILE and --no-plugin NAME, or `plugins:` in a run file",
        )


def _print_dry_run(resolved: Run, layers: Layers) -> None:
    from tunesmith.cli.dryrun import annotated

    if is_main_process():
        click.echo(annotated(resolved, layers))
