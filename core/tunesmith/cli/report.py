"""``tunesmith report`` and ``tunesmith compare``: what runs were, on one page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.plugins import Registry
    from tunesmith.report.compare import Comparison


WIDE = 60
"""Columns for the names of what is compared, in the head of a table."""


@click.command("report")
@click.argument("run", metavar="RUN")
@click.option("--output", metavar="FILE", help="Where to write it; RUN/report.html when not given.")
@plugin_options
def report(run: str, output: str | None) -> None:
    """Write the page of a run: every curve, samples, settings and what came of them.

    A run writes it itself when it ends. This writes it anew, also while the run goes on.
    """
    from tunesmith.report.run import write_report

    folder = _folder(run)
    with _writable(output or run):
        path = write_report(folder, _registry_of(folder), None if output is None else _folder(output))
    click.echo(path)


@click.command("compare")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="Compare this metric as well; may hold *.")
@click.option("--by", metavar="SETTING", multiple=True, help="Runs that agree in this are a group; not all settings.")
@click.option("--html", "output", metavar="FILE", help="Also write a page with curves.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with the numbers of every run.")
@plugin_options
def compare(
    runs: tuple[str, ...], metrics: tuple[str, ...], by: tuple[str, ...], output: str | None, as_json: bool
) -> None:
    """Hold runs against each other.

    Runs that differ in nothing but their seed are a group: its numbers are means with their standard deviation. With
    `--by method` all runs of a method are one, whatever else they differ in; what that is, is said.
    """
    from tunesmith.report.compare import compare as compared
    from tunesmith.report.folder import read

    folders = list(dict.fromkeys(_folder(run).resolve() for run in runs))
    if len(folders) < 2:
        raise ConfigError("one run cannot be compared", fix="give the folders of two runs or more")
    comparison = compared([read(_shown(folder), samples=False) for folder in folders], metrics, by)
    if as_json:
        terminal.print_json(comparison.as_dict())
    else:
        click.echo("\n".join(_lines(comparison)))
    if output is not None:
        from tunesmith.report.compare_page import page

        with _writable(output):
            path = page(comparison).write(Path(os.path.expanduser(output)))
        click.echo(f"\n{path} is written", err=as_json)


def _registry_of(folder: Path) -> Registry:
    """The plugins that the run was made with, which may add sections; those that are installed where one is gone."""
    from tunesmith.cli.run import Target, load_plugins
    from tunesmith.report.folder import RUN_FILE
    from tunesmith.runfile import read_run_file

    try:
        content = read_run_file(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
        return load_plugins(Target("", folder / RUN_FILE, content))
    except ConfigError as error:
        click.echo(f"without the plugins of the run: {error.what}", err=True)
        return load_registry()


def _folder(word: str) -> Path:
    return Path(os.path.expanduser(word))


def _shown(folder: Path) -> Path:
    """Relative to where we are, where that is shorter."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


class _writable:
    """Turns a path that cannot be written to into an error of ours."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise ConfigError(f"cannot write to {self.place}", why=error.strerror or str(error)) from None


# ---------------------------------------------------------------------------------------------- for people
def _lines(comparison: Comparison) -> list[str]:
    from tunesmith.data.report import printable

    groups = comparison.groups
    runs = sum(len(group.runs) for group in groups)
    names, legend = [f"{group.name} (n={len(group.runs)})" for group in groups], []
    if sum(map(len, names)) > WIDE:  # long names stand once, and their letters in the tables
        letters = [f"[{i}]" for i in range(1, len(groups) + 1)]
        legend = [f"{letter} {name}" for letter, name in zip(letters, names, strict=True)]
        names = letters
    head = ["", *names]
    body = [[row.name, *(spread.text(row.show) for spread in row.spreads)] for row in comparison.rows]
    title = f"{runs} runs in {len(groups)} groups; mean +- sd over runs"
    lines = [title, "", *([*map(printable, legend), ""] if legend else []), *_columns([head, *body])]
    lines += ["", "final: mean of the last 10% of the steps; best: of the smoothed course"]
    if comparison.differ:
        lines += ["", "settings that differ"]
        differing = [[f"  {name}", *map(_value, values)] for name, values in comparison.differ.items()]
        lines += _columns([head, *differing] if legend else differing)
    return lines + [f"note: {printable(note)}" for note in comparison.notes]


def _value(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under each other; a terminal that is too narrow wraps them, nothing is cut off."""
    from tunesmith.data.report import printable

    rows = [[printable(cell) for cell in row] for row in rows]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]
