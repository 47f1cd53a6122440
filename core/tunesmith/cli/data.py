"""``tunesmith data``: which rows are wrong, which tokens are trained, and rows in another format."""

from __future__ import annotations

from typing import Any

import click

from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.convert import convert
from tunesmith.cli.data_check import check
from tunesmith.cli.data_rows import row_lines
from tunesmith.cli.data_settings import data_options, encoder_of, only_method, prepared, taker_of
from tunesmith.errors import ConfigError, DataError


@click.group()
def data() -> None:
    """Look at data: which rows are wrong, which tokens are trained. Convert between formats."""


data.add_command(check)
data.add_command(convert)


@data.command()
@click.argument("word", metavar="DATA")
@click.option("--model", metavar="M", required=True, help="Model whose tokenizer is used.")
@click.option("--rows", type=click.IntRange(min=1), default=3, show_default=True, help="Rows to show.")
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="Rows to pass over first.")
@data_options
@plugin_options
def show(word: str, rows: int, start: int, **options: Any) -> None:
    """Print rows as the model sees them, trained tokens in colour or in [[brackets]].

    Exit code 3 when one of them cannot be trained on.
    """
    from tunesmith.data.audit import first_rows
    from tunesmith.data.detect import SAMPLE, choose_format
    from tunesmith.data.rows import Intake

    registry = load_registry()
    if options["method"] is None:
        options["method"] = only_method(registry, word, options)
    settings, method = prepared(registry, [word], options)
    spec, encoder = settings.data[0], encoder_of(settings, method)
    verdict = choose_format(spec, first_rows(spec, 0, SAMPLE), registry, taker_of(method))
    chosen = first_rows(spec, start, rows)
    if not chosen:
        raise ConfigError(f"--start {start:,}: there are not so many rows")
    intake = Intake(verdict.format, columns=spec.map, taker=taker_of(method))
    bad = False
    for outcome in intake.outcomes(chosen, start):
        lines, wrong = row_lines(outcome, encoder, method, settings)
        bad |= wrong
        click.echo("\n".join(lines) + "\n")
    if bad:
        click.get_current_context().exit(DataError.exit_code)
