"""``tunesmith vocab``: how a tokenizer cuts texts, and a larger vocabulary for a language that it cuts too finely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.sources import data_spec

if TYPE_CHECKING:
    from tunesmith.plugins import Registry

FIGURES = (
    ("tokens_per_word", "tokens per word", "{:.2f}"),
    ("bytes_per_token", "bytes per token", "{:.2f}"),
    ("fragment_share", "tokens below a character", "{:.1%}"),
    ("unknown_share", "unknown tokens", "{:.1%}"),
)
"""What is printed of a tokenizer, and how."""
EXAMPLES = 8
"""New pieces that are printed."""


@click.group()
def vocab() -> None:
    """Look at a tokenizer on your text, and expand the vocabulary of a model."""


@vocab.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--data", "words", metavar="DATA", multiple=True, required=True, help="Texts; may be given again.")
@click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plugin_options
def measure(
    models: Sequence[str], words: Sequence[str], format: str | None, columns: tuple[str, ...], as_json: bool
) -> None:
    """How finely tokenizers cut texts: tokens per word, bytes per token, pieces of characters.

    Words are what stands between blanks; for a language that is written without them look at bytes per token.
    """
    from tunesmith.vocab.survey import survey

    registry = load_registry()
    found = survey(models, [data_spec(registry, word, columns, format) for word in words], registry)
    if as_json:
        terminal.print_json({"schema": 1, "measured": found})
        return
    rows = [(one["model"], one["source"], *(look.format(one[key]) for key, _, look in FIGURES)) for one in found]
    header = ("model", "source", *(title for _, title, _ in FIGURES))
    click.echo("\n".join(terminal.table(rows, header=header, wrap=0)))


@vocab.command()
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="DATA", required=True, help="Text of the language that gets pieces.")
@click.option("--general", metavar="DATA", help="Text like what the model was trained on, to see what changes there.")
@click.option("--pieces", type=click.IntRange(min=1), required=True, metavar="N", help="New pieces at most.")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the result.")
@click.option("--keep-general", is_flag=True, help="Learn no piece that would change how --general is cut.")
@click.option(
    "--init",
    "initialiser",
    type=click.Choice(["subtoken-mean", "global-mean", "frequency-weighted", "random"]),
    default="subtoken-mean",
    show_default=True,
    help="How the rows of new pieces start.",
)
@click.option(
    "--norm",
    type=click.Choice(["auto", "keep", "median"]),
    default="auto",
    show_default=True,
    help="Raise rows that averaging has shrunk to the median norm; auto: input rows where the head is not tied.",
)
@click.option("--noise", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Added to global means.")
@click.option("--pad-to", type=click.IntRange(min=1), default=64, show_default=True, help="Rows, rounded up to this.")
@click.option("--min-count", type=click.IntRange(min=1), default=2, show_default=True, help="Of a pair that is joined.")
@click.option("--longest", type=click.IntRange(min=1), default=16, show_default=True, help="Characters of a piece.")
@click.option(
    "--holdout",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the texts to measure on.",
)
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Texts scored at most.")
@click.option("--max-length", type=click.IntRange(min=2), default=1024, show_default=True, help="Tokens seen at once.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random rows and noise.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plugin_options
def expand(model: str, data: str, general: str | None, as_json: bool, **options: Any) -> None:
    """Learn new pieces from a text, add them to the tokenizer and give the model rows for them.

    No old token gets another id. Reported are tokens per word and bits per byte on held-out text before and after,
    and the share of general texts that are cut in another way. Train on the result next: its new rows know nothing.
    """
    from tunesmith.errors import ConfigError
    from tunesmith.vocab.expand import Plan, expand
    from tunesmith.vocab.rows import Start

    if options["keep_general"] and general is None:
        raise ConfigError("--keep-general needs a text whose tokens are kept", fix="add --general DATA")
    registry = load_registry()
    specs = [data_spec(registry, word, options["columns"], options["format"]) for word in (data, general) if word]
    start = Start(options["initialiser"], options["norm"], options["noise"], options["pad_to"], options["seed"])
    plan = Plan(
        model,
        specs[0],
        options["pieces"],
        options["output"],
        general=specs[1] if general else None,
        start=start,
        keep_general=options["keep_general"],
        least=options["min_count"],
        longest=options["longest"],
        holdout=options["holdout"],
        limit=options["limit"],
        max_length=options["max_length"],
        device=options["device"],
    )
    report = expand(plan, registry)
    if as_json:
        terminal.print_json({**report, "output": str(plan.output)})
    else:
        click.echo("\n".join([*_lines(report), *_next(registry, plan.output)]))


def _next(registry: Registry, output: Path) -> list[str]:
    """How to train on the result."""
    from tunesmith.embeddings_first import EmbeddingsFirstMethod

    names = [cls.name for _, cls in registry.entries("method") if issubclass(cls, EmbeddingsFirstMethod)]
    command = f"tunesmith run {names[0]} --model {output} --data ... --warm-embeddings 0.02" if names else ""
    return [f"Train on it next: {command}"] if command else []


def _lines(report: Mapping[str, Any]) -> list[str]:
    rows, tokens = report["rows"], report["tokenizer"]
    longest = sorted((piece["shown"] for piece in report["pieces"]), key=len, reverse=True)[:EXAMPLES]
    lines = [
        f"pieces   {rows['pieces']:,} new, ids {rows['first']:,} to {rows['first'] + rows['pieces'] - 1:,}; "
        f"the longest: {' '.join(map(repr, longest))}",
        f"rows     {rows['rows_before']:,} before, {rows['rows']:,} now, head {'tied' if rows['tied'] else 'untied'}",
        f"checked  no old id moved; {tokens['round_trips']:,} texts come back as they were",
        "",
        *terminal.table(_compared(report), header=("held-out text", "measure", "before", "after"), wrap=0),
    ]
    general = report.get("general")
    if general is None:
        lines += ["", "What becomes of general text was not measured: give some with --general."]
    else:
        lines += ["", f"{general['changed_documents']:.1%} of the general texts are cut in another way now."]
        lines += [_growth(general["log_z_growth"], rows["why_no_bound"])]
    return lines


def _compared(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    table = []
    for language in ("target", "general"):
        if language not in report:
            continue
        one = report[language]
        for key, title, look in (*FIGURES, ("bits_per_byte", "bits per byte", "{:.3f}")):
            before, after = one["before"][key], one["after"][key]
            if before or after:
                table.append((f"{language}: {one['label']}", title, look.format(before), look.format(after)))
    return table


def _growth(found: Mapping[str, Any], why: str) -> str:
    bound = f"no token can lose more than {found['bound']:.4f}" if found["bound"] is not None else f"no bound: {why}"
    return (
        f"With its old ids general text loses {found['mean']:.4f} nats per token to the new rows "
        f"(at most {found['largest']:.4f}; {bound})."
    )
