"""``tunesmith demo``: the life of a small model, from random weights to reinforcement learning, on a CPU in minutes."""

from __future__ import annotations

from pathlib import Path

import click

import tunesmith
from tunesmith import commands


@click.command("demo", short_help="Train a small model through all stages, in minutes.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="Folder of the runs and of the report.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo in that folder.")
@click.option("--quick", is_flag=True, help="Under a minute: shows that it works, and nothing about learning.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of the runs.")
@click.option("--json", "as_json", is_flag=True, help="The result for programs.")
@commands.plugin_options
def demo(output: Path, overwrite: bool, quick: bool, seed: int, as_json: bool) -> None:
    """Take a small model through all stages of training, and measure each on what no stage has seen.

    Pre-training on English, continued pre-training on worked sums with replay, a cold start with <thinking> tags,
    then DPO, GRPO and RLOO, each from the cold start. About four minutes on two cores, no download.
    """
    from tunesmith_plugins.demo import play, stages

    play.play(stages.QUICK if quick else stages.FULL, output, seed=seed, overwrite=overwrite, as_json=as_json)


@tunesmith.hookimpl
def tunesmith_register_commands(cli: click.Group) -> None:
    """Add the command."""
    cli.add_command(demo)
