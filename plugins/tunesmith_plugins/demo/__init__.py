"""``tunesmith demo``: what replay does, shown in minutes on text that every Python carries."""

from __future__ import annotations

from pathlib import Path

import click

import tunesmith


@click.command("demo", short_help="Show what replay does, in a few minutes.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="Folder of the three runs.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in that folder.")
@click.option("--quick", is_flag=True, help="A few seconds: shows that it works, and nothing about replay.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of the runs.")
@click.option("--json", "as_json", is_flag=True, help="The result for programs.")
def demo(output: Path, overwrite: bool, quick: bool, seed: int, as_json: bool) -> None:
    """Pre-train a small model, teach it a new domain with and without replay, and compare.

    Three to four minutes on two cores, no download: English from Python's own documentation comes first, the source
    code of its standard library is the new domain.
    """
    from tunesmith_plugins.demo import play

    play.play(play.QUICK if quick else play.FULL, output, seed=seed, overwrite=overwrite, as_json=as_json)


@tunesmith.hookimpl
def tunesmith_register_commands(cli: click.Group) -> None:
    """Add the command."""
    cli.add_command(demo)
