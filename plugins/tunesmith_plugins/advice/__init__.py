"""``tunesmith advise`` and ``tunesmith budget``: what to train with what there is, and how much a new model takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import tunesmith
from tunesmith.commands import plugin_options


@click.command("advise", short_help="Which method, on how much data, and what to do before.")
@click.option("--goal", "goals", metavar="GOAL", multiple=True, help="What for; may be given again. See below.")
@click.option("--data", "words", metavar="DATA", multiple=True, help="Rows or texts at hand; may be given again.")
@click.option("--eval-data", metavar="DATA", help="Rows that must not be trained on.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given.")
@click.option("--model", metavar="M", help="Model folder, hub name, config.json, or a size such as 7B.")
@click.option("--start", type=click.Choice(["base", "tuned"]), help="Whether the model was fine-tuned already.")
@click.option("--gpu", metavar="CARD", help="Memory of a GPU such as 24GB, or its name.")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many of them.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Hours that may be spent.")
@click.option("--adapter", type=click.Choice(["auto", "none", "lora", "4bit"]), default="auto", show_default=True,
              help="What is trained: none is all weights.")  # fmt: skip
@click.option("--verifier", metavar="REWARD", help="Reward that tells right answers from wrong ones.")
@click.option("--have", multiple=True, type=click.Choice(["rm", "own-pairs"]),
              help="A reward model; pairs of the model's own answers.")  # fmt: skip
@click.option("--general", metavar="DATA", help="Text like what the model was trained on, to mix in.")
@click.option("--must", multiple=True, type=click.Choice(["in-weights", "keep-general"]),
              help="Knowledge must be in the weights; what the model knows must stay.")  # fmt: skip
@click.option("--pass-rate", type=click.FloatRange(0, 1), metavar="P", help="Share of the prompts that it solves now.")
@click.option("--plan/--no-plan", "planned", default=True, show_default=True,
              help="Compute the memory of the run file, where --model and --gpu are given; takes seconds.")  # fmt: skip
@click.option("--explain", "explained", metavar="RULE...", help="Print rules with their sources: K1,S3, or all.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the run file.")
@click.option("--overwrite", is_flag=True, help="Replace the run file.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plugin_options
def advise(goals: tuple[str, ...], **options: Any) -> None:
    """Say what to do with the data, the model and the machine at hand, by rules with sources.

    \b
    Goals: facts, domain, language    knowledge that the model lacks
           reasoning, task, format, tool-use
           style, safety              answers that are liked better
           pretrain                   a model from scratch

    Installed methods may know more goals. Nothing is trained and no model is loaded. What is not said is asked on a
    terminal, and assumed and listed otherwise.
    """
    from tunesmith_plugins.advice import command

    command.advise(goals, options)


@click.command("budget")
@click.argument("method", type=click.Choice(["pt", "cpt"]), default="pt")
@click.option("--model", metavar="M", help="Size such as 1B, or a folder or config.json.")
@click.option("--tokens", metavar="D", help="Tokens to train on, such as 20B.")
@click.option("--flops", metavar="C", help="Floating-point operations, such as 1e21.")
@click.option("--unique", metavar="U", help="Different tokens that there are; more than that is repetition.")
@click.option("--serve", metavar="D", help="Tokens read and written in service.")
@click.option("--gpu", metavar="CARD", help="Name of a GPU, or its memory.")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many of them.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Hours that may be spent.")
@click.option("--goal", type=click.Choice(["facts", "domain", "language"]), default="domain", show_default=True,
              help="Of going on (cpt).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plugin_options
def budget(**options: Any) -> None:
    """Compute how large a model, on how many tokens, in how many hours.

    Say what is fixed: the model, the tokens, the FLOPs, or the GPU and the hours. METHOD is pt for a new model and cpt
    for going on with one.
    """
    from tunesmith_plugins.advice import budgeting

    budgeting.budget(options)


@tunesmith.hookimpl
def tunesmith_register_commands(cli: click.Group) -> None:
    """Add the commands."""
    cli.add_command(advise)
    cli.add_command(budget)
