"""``tunesmith run FILE`` where the file has stages, and ``tunesmith resume`` of its folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import plugin_flags
from tunesmith.cli.sandbox import unsandboxed_flag
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.plugins import Registry
from tunesmith.runfile import read_run_file

if TYPE_CHECKING:
    from tunesmith.pipeline.execute import Outcome
    from tunesmith.pipeline.spec import Pipeline

COPY = "pipeline.yaml"
STARTED_IN = ".started-in"


def pipeline_command(name: str, path: Path, registry: Registry) -> click.Command:
    """The command that a file of stages is."""
    return click.Command(
        name,
        callback=lambda **options: _run(path, registry, **options),
        params=[
            click.Option(["--output"], type=click.Path(path_type=Path), metavar="DIR", help="Folder of the pipeline."),
            click.Option(["--set", "overrides"], metavar="STAGE.KEY=VALUE", multiple=True, help="Change a setting."),
            click.Option(["--until"], metavar="STAGE", help="Stop behind this stage."),
            click.Option(["--overwrite"], is_flag=True, help="Run stages that have changed anew."),
            click.Option(["--dry-run"], is_flag=True, help="Check all stages and say what would be done."),
            unsandboxed_flag(),
            *plugin_flags(),
        ],
        help=f"Run the stages of {path}. Those that are done and have not changed are not run again.",
    )


def resume_pipeline(folder: Path, registry: Registry) -> None:
    """Go on with a pipeline in its folder, from where it was started, with what was asked for then."""
    folder = folder.resolve()
    started_in = Path((folder / STARTED_IN).read_text(encoding="utf-8").strip())
    with contextlib.chdir(started_in if started_in.is_dir() else Path.cwd()):
        written = Path(str(read_run_file(folder / COPY)["output"]))  # as it was given: stages may hold paths below it
        output = written if written.resolve() == folder else folder
        _run(folder / COPY, registry, output=output, overrides=(), until=None, overwrite=False, dry_run=False)


def _run(
    path: Path,
    registry: Registry,
    *,
    output: Path | None,
    overrides: Sequence[str],
    until: str | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    from tunesmith.pipeline.execute import Execution
    from tunesmith.pipeline.spec import read_pipeline

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a pipeline is started once, not by a launcher",
            fix="write `launcher: torchrun --nproc_per_node N` into the file: every run is then started by it",
        )
    pipeline = read_pipeline(path, overrides, output)
    names = [stage.name for stage in pipeline.stages]
    if until is not None and until not in names:
        raise ConfigError(f"--until: there is no stage {until!r}{did_you_mean(until, names)}")
    execution = Execution(pipeline, registry, _command)
    execution.check()
    if dry_run:
        click.echo("\n".join(_planned(execution.plan())))
        return
    _keep(pipeline, path, overrides)
    found = execution.run(overwrite=overwrite, until=until)
    click.echo("\n".join(_done(found)), err=True)
    click.echo(found[-1].model)


def _keep(pipeline: Pipeline, path: Path, overrides: Sequence[str]) -> None:
    """Copy the file into the folder, with what the command line says of it, so that the folder alone can go on."""
    from tunesmith.pipeline.spec import written

    pipeline.output.mkdir(parents=True, exist_ok=True)
    if path.resolve() == (pipeline.output / COPY).resolve():
        return
    (pipeline.output / COPY).write_text(written(path, pipeline, overrides), encoding="utf-8")
    (pipeline.output / STARTED_IN).write_text(f"{Path.cwd()}\n", encoding="utf-8")


def _command(words: Sequence[str]) -> None:
    """Run one of our own commands as the command line would; what it prints is progress here, so it goes to stderr."""
    root = click.get_current_context().find_root()
    context = root.command.make_context(root.info_name, list(words), obj=root.obj, color=root.color)
    with contextlib.redirect_stdout(sys.stderr), context:
        root.command.invoke(context)


# ---------------------------------------------------------------------------------------------- for people
def _planned(found: Sequence[Outcome]) -> list[str]:
    said = {
        "done": "done, nothing has changed",
        "stopped": "goes on",
        "changed": "has changed",
        "stale": "to do anew",
        "new": "to do",
    }
    rows = [(one.stage, one.what, said[one.standing] + (f": {one.why}" if one.why else "")) for one in found]
    return terminal.table(rows, header=("stage", "what", "standing"), wrap=2)


def _done(found: Sequence[Outcome]) -> list[str]:
    rows: list[tuple[Any, ...]] = []
    for one in found:
        took = "done before" if one.standing == "done" else f"{one.seconds:,.0f} s"
        first, *rest = [passage.line() for passage in one.gates] or [""]
        rows.append((one.stage, one.what, took, first))
        rows += [("", "", "", line) for line in rest]
    return terminal.table(rows, header=("stage", "what", "took", "gates"), wrap=3)
