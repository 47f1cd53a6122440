"""``tunesmith picture``: what a run has measured of the layers and tensors, and what came of it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("picture")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Also draw it into this file.")
def picture(run: Path, png: Path | None) -> None:
    """Draw the run in the folder RUN, finished or not: layers, tensors, losses.

    How much general text needs each layer and which ones were chosen; how much it needs each tensor that is trained,
    and the multiplier of its learning rate, at every measurement; and the losses over the run.
    """
    from . import chart, reading

    found = reading.read(run)
    if png is not None:
        from . import drawing

        drawing.save(found, png)
    chart.show(found)
    if png is not None:
        click.echo(f"\n{png} is written")
