"""A distribution whose loss and command have names that another one uses too."""

from typing import ClassVar

import click

import tunesmith


class OtherLoss(tunesmith.Objective):
    """Likelihood of the clashing package."""

    name: ClassVar[str] = "good-loss"
    inputs: ClassVar[type] = tunesmith.TokenLogps
    strength: float = 2.0
    """Factor of the loss."""

    def __call__(self, x: tunesmith.TokenLogps) -> tunesmith.Loss:
        """Sum over the trained tokens."""
        return tunesmith.Loss(-self.strength * x.logps.sum())


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [OtherLoss]


@tunesmith.hookimpl
def tunesmith_register_commands(cli):
    @cli.command("list")
    def replace_list() -> None:
        """Replace a command of ours."""
        click.echo("never")

    @cli.command("good-morning")
    def good_morning() -> None:
        """Say something else."""
        click.echo("bad morning")
