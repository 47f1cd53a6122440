"""Running the demo: its commands one after the other, each as the command line would run it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith import ConfigError
from tunesmith_plugins.demo import page, result, stages, sums
from tunesmith_plugins.demo.stages import Size, Stage

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def play(size: Size, output: Path, *, seed: int, overwrite: bool, as_json: bool) -> None:
    """Train every stage, measure all of them, then print the result and write the page.

    Raises:
        ConfigError: the folder is used already, or something that is needed was left out.
    """
    from tunesmith.commands import load_registry

    registry = load_registry()
    _check_all_there(registry)
    _claim(output, overwrite)
    import torch

    # with matrices this small a second thread saves a third of the time on an idle machine, and costs it ten times over
    # on a busy one, where threads that are ready spin until the others get a turn
    torch.set_num_threads(1)
    started = time.monotonic()
    _write_data(size, output, seed, registry)
    commands = {stage.method: stages.training(size, stage, output, seed, overwrite) for stage in stages.STAGES}
    measuring = stages.measuring(size, output, seed)
    total = len(commands) + len(measuring)
    spent = {}
    for number, stage in enumerate(stages.STAGES, start=1):
        spent[stage.method] = _stage(stage, commands[stage.method], f"{number} of {total}")
    measured = {}
    for number, (what, arguments) in enumerate(measuring.items(), start=len(commands) + 1):
        click.echo(f"\n{number} of {total}: {result.MEASURED[what]}\n\n{stages.shown(arguments)}\n", err=True)
        before = _cpu_seconds()
        measured[what] = json.loads(_captured(arguments))
        spent[what] = _cpu_seconds() - before
    found = {
        "schema": 2,
        "quick": size.quick,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": {name: round(value, 1) for name, value in spent.items()},
        "commands": [f"tunesmith {shlex.join(words)}" for words in (*commands.values(), *measuring.values())],
        **result.read(output, measured["accuracy"], measured["prose"]),
    }
    (output / "result.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    page.make(found, output).write(output / "report.html")
    click.echo("", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        result.show(found, output)


def _check_all_there(registry: Registry) -> None:
    missing = [f"the {kind} {name}" for kind, name in stages.NEEDED if name not in registry.names(kind)]
    if missing:
        raise ConfigError(
            f"the demo needs {', '.join(missing)}",
            why="not there: left out with --no-plugin or an environment variable, or its plugin is broken",
            fix="see `tunesmith plugins`",
        )


def _claim(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is a file", fix="give the path of a folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ConfigError(
            f"--output: {output} is used already", fix="replace it with --overwrite, or choose another --output"
        )


def _write_data(size: Size, output: Path, seed: int, registry: Registry) -> None:
    """The config and the files that stages train on, with a look at one row of each."""
    arithmetic = registry.get("source", "arithmetic")
    data = output / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = output / "config.json"
    config.write_text(json.dumps(stages.model_config(size), indent=2) + "\n", encoding="utf-8")
    write = {"cpt": sums.write_texts, "sft": sums.write_demonstrations, "dpo": sums.write_pairs}
    for place, (method, name) in enumerate(stages.DATA.items()):
        problems = arithmetic(digits=stages.DIGITS, num_rows=stages.rows(size, method), seed=10 * seed + place)
        write[method](data / name, problems, seed)
    unseen = arithmetic(digits=stages.DIGITS, split="test", num_rows=size.held_out, seed=seed)
    sums.write_texts(data / stages.HELD_OUT_TEXTS, unseen, seed, wrong=0.0)
    click.echo(
        f"Written: {config}, the shape of the model, and texts about sums, generated; one row of each:\n", err=True
    )
    for name in stages.DATA.values():
        with (data / name).open(encoding="utf-8") as file:
            click.echo(f"  {data / name}\n      {file.readline().rstrip()}", err=True)


# ---------------------------------------------------------------------------------------------- running
def _stage(stage: Stage, arguments: Sequence[str], number: str) -> float:
    """Run a stage; the CPU seconds that it took."""
    click.echo(f"\n{number}: {stage.purpose}\n\n{stages.shown(arguments)}\n", err=True)
    before = _cpu_seconds()
    with contextlib.redirect_stdout(sys.stderr):  # what it prints is progress here
        _run(arguments)
    return _cpu_seconds() - before


def _captured(arguments: Sequence[str]) -> str:
    """What one of our own commands prints for programs."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        _run(arguments)
    return said.getvalue()


def _run(arguments: Sequence[str]) -> None:
    """Run one of our own commands as the command line would."""
    root: Any = click.get_current_context().find_root()
    context = root.command.make_context(root.info_name, list(arguments), obj=root.obj, color=root.color)
    with context:
        root.command.invoke(context)


def _cpu_seconds() -> float:
    """Of this process, and of the reward workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
