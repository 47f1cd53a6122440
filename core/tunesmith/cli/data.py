"""``tunesmith data``: which rows are wrong, which tokens are trained, and rows in another format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.convert import convert
from tunesmith.cli.sources import said_of
from tunesmith.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tunesmith.components import DataSpec, Method
    from tunesmith.data.audit import Audit
    from tunesmith.data.detect import Taker
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.highlight import Facts
    from tunesmith.data.highlight import Run as TextRun
    from tunesmith.data.rows import Outcome
    from tunesmith.data.trees import Tree
    from tunesmith.plugins import Registry
    from tunesmith.settings import RunSettings

ROW_SETTINGS = ("max_length", "overlong")
"""Settings of a run that a method may recommend and that decide what becomes of a row."""
MOST_TOKENS = 2000
"""Tokens of a row that are printed at most."""
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
def data() -> None:
    """Look at data: which rows are wrong, which tokens are trained. Convert between formats."""


data.add_command(convert)


def _options(command: _F) -> _F:
    """What both commands take."""
    listed = (
        click.option("--method", metavar="NAME", help="Judge rows as this method would."),
        click.option("--tokenizer", metavar="PATH", help="Tokenizer folder or hub name, when not the model's."),
        click.option("--chat-template", metavar="T", help="A .jinja file, tulu or chatml."),
        click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given."),
        click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column."),
        click.option("--max-length", type=click.IntRange(min=2), metavar="N", help="Tokens of a row at most."),
        click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Any other setting of the run."),
    )
    for option in reversed(listed):
        command = option(command)
    return command


@data.command()
@click.argument("words", metavar="DATA...", nargs=-1, required=True)
@click.option("--model", metavar="M", help="Count tokens with the tokenizer of this model; characters without.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_options
@plugin_options
def check(words: Sequence[str], as_json: bool, **options: Any) -> None:
    """Read all rows and say which are wrong. Exit code 3 when any is."""
    from tunesmith.data.audit import audit

    registry = load_registry()
    settings, method = _prepared(registry, words, options)
    encoder = _encoder(settings, method) if options["model"] or options["tokenizer"] else None
    limited = method is not None or options["max_length"] is not None
    found = [
        audit(
            spec,
            registry,
            taker=_taker(method),
            method=method,
            encoder=encoder,
            max_length=settings.max_length if limited else None,
            overlong=settings.overlong,
        )
        for spec in settings.data
    ]
    if as_json:
        terminal.print_json({"schema": 1, "ok": not any(a.bad for a in found), "sources": [a.as_dict() for a in found]})
    else:
        for one in found:
            click.echo("\n".join(_report(one, settings.max_length if limited else None)))
    if any(one.bad for one in found):
        click.get_current_context().exit(DataError.exit_code)


@data.command()
@click.argument("word", metavar="DATA")
@click.option("--model", metavar="M", required=True, help="Model whose tokenizer is used.")
@click.option("--rows", type=click.IntRange(min=1), default=3, show_default=True, help="Rows to show.")
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="Rows to pass over first.")
@_options
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
        options["method"] = _only_method(registry, word, options)
    settings, method = _prepared(registry, [word], options)
    spec, encoder = settings.data[0], _encoder(settings, method)
    verdict = choose_format(spec, first_rows(spec, 0, SAMPLE), registry, _taker(method))
    chosen = first_rows(spec, start, rows)
    if not chosen:
        raise ConfigError(f"--start {start:,}: there are not so many rows")
    intake = Intake(verdict.format, columns=spec.map, taker=_taker(method))
    bad = False
    for outcome in intake.outcomes(chosen, start):
        lines, wrong = _show_row(outcome, encoder, method, settings)
        bad |= wrong
        click.echo("\n".join(lines) + "\n")
    if bad:
        click.get_current_context().exit(DataError.exit_code)


# ---------------------------------------------------------------------------------------------- settings
def _prepared(
    registry: Registry, words: Sequence[str], options: Mapping[str, Any]
) -> tuple[RunSettings, Method | None]:
    """The settings of a run of which only the rows are looked at."""
    from pydantic import ValidationError

    from tunesmith.components import Method
    from tunesmith.config import build
    from tunesmith.explain import explain
    from tunesmith.settings import RunSettings

    name, context = options["method"], {"build": partial(build, registry)}
    cls = cast(type[Method], registry.get(Method.kind, name)) if name else None
    given = dict(_override(text) for text in options["overrides"])
    own = {key: value for key, value in given.items() if cls is not None and key in cls.model_fields}
    rest = {key: value for key, value in given.items() if key not in own}
    if cls is not None:
        rest = {**{key: cls.defaults[key] for key in ROW_SETTINGS if key in cls.defaults}, **rest}
    for key in ("tokenizer", "chat_template", "max_length"):
        if options[key] is not None:
            rest[key] = options[key]
    sources = [said_of(word, options["columns"], options["format"]) for word in words]
    try:
        settings = RunSettings.model_validate(
            {**rest, "model": options["model"] or "-", "data": sources}, context=context
        )
    except ValidationError as error:
        raise explain(error, RunSettings, "data") from None
    if cls is None:
        return settings, None
    try:
        return settings, cls.model_validate(own, context=context)
    except ValidationError as error:
        if any(item["loc"] and item["type"] != "missing" for item in error.errors()):
            raise explain(error, cls, f"method {name}") from None
    # what is not given, or a rule over several settings: rows do not depend on it
    return settings, cls.model_construct(**own)


def _override(text: str) -> tuple[str, Any]:
    from tunesmith.runfile import parse_value

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write KEY=VALUE")
    return key.strip().replace("-", "_"), parse_value(value)


def _taker(method: Method | None) -> Taker:
    from tunesmith.data.detect import Taker

    return Taker() if method is None else Taker(method.consumes, method.name)


def _encoder(settings: RunSettings, method: Method | None) -> Encoder:
    from tunesmith.data.encoding import Encoder, load_tokenizer

    return Encoder(load_tokenizer(settings), **(method.encoder_options() if method else {}))


def _only_method(registry: Registry, word: str, options: Mapping[str, Any]) -> str:
    """The one method that takes what the rows are. Raises `ConfigError` when there are several."""
    from tunesmith.data.audit import first_rows
    from tunesmith.data.detect import SAMPLE, Taker, choose_format, methods_for

    settings, _ = _prepared(registry, [word], {**options, "overrides": ()})
    spec: DataSpec = settings.data[0]
    verdict = choose_format(spec, first_rows(spec, 0, SAMPLE), registry, Taker())
    names = methods_for(registry, verdict.format.produces)
    if len(names) == 1:
        return names[0]
    what = f"the rows are in the format {verdict.format.name!r}"
    if not names:
        raise ConfigError(f"{what}, which no installed method takes", fix="see `tunesmith list method`")
    raise ConfigError(f"{what}, which {len(names)} methods take", fix=f"add --method, one of: {', '.join(names)}")


# ---------------------------------------------------------------------------------------------- check
def _report(one: Audit, limit: int | None) -> list[str]:
    from tunesmith.data.report import printable

    rows = [("format", f"{one.format} ({one.why})")] if one.format else []
    names = ("usable", "skipped", "dropped", "empty", "duplicates")
    counts = [f"{one.rows:,}", *(f"{name} {getattr(one, name):,}" for name in names if getattr(one, name))]
    if limit is not None and one.unit == "tokens":
        counts.append(f"longer than {limit:,}: {one.overlong:,}")
    rows.append(("rows", "   ".join(counts)))
    sizes = one.quantiles()
    if sizes:
        total = f"   total {one.total:,}" + (
            f"   trained {one.trained:,}" if one.unit == "tokens" and one.trained else ""
        )
        rows.append((one.unit, "   ".join(f"{name} {size:,}" for name, size in sizes.items()) + total))
    known = list(one.balance.lines())
    faults = [label for label, _, fault in known if fault]
    rows += [(label, text) for label, text, _ in known]
    looks = {0: lambda cell: {"fg": "red"} if cell in faults else {}}
    lines = [click.style(printable(one.label), bold=True), *terminal.table(rows, wrap=1, indent=2, styles=looks)]
    if one.problems.kinds:
        kinds = sorted(one.problems.kinds.values(), key=lambda kind: -kind.count)
        main = next(iter(one.files)) if len(one.files) == 1 else ""
        body = [(f"{kind.count:,}", kind.reason, kind.places(main)) for kind in kinds]
        lines += terminal.table(body, header=("rows", "problem", "first"), wrap=1, indent=2, styles={0: {"fg": "red"}})
    lines += [click.style(f"  {line}", fg="red") for line in _faults(one)]
    bad = one.problems.count
    if bad:
        lines.append(click.style(f"  {bad:,} of {one.rows:,} rows are bad", fg="red"))
    elif not one.bad:
        lines.append(click.style("  no problems", fg="green"))
    elif one.fault is None and not one.usable:
        lines.append(click.style("  no row can be trained on", fg="red"))
    return lines


def _faults(one: Audit) -> list[str]:
    if one.fault is None:
        return []
    read = f"reading stopped after {one.rows:,} rows: " if one.rows else ""
    return (read + str(one.fault)).splitlines()


# ---------------------------------------------------------------------------------------------- show
_FATES = {"split": "split at", "drop": "dropped: longer than", "truncate": "cut at", "error": "longer than"}


def _show_row(
    outcome: Outcome, encoder: Encoder, method: Method | None, settings: RunSettings
) -> tuple[list[str], bool]:
    """The lines about a row, and whether it cannot be trained on."""
    from tunesmith.data.highlight import facts
    from tunesmith.data.report import printable

    head = click.style(printable(outcome.row.where), bold=True)
    if outcome.status == "skipped":
        return [f"{head}: left out by the format"], False
    tree = _encoded(outcome, encoder)
    if isinstance(tree, str):
        return [f"{head}: {click.style(f'bad row: {printable(tree)}', fg='red')}"], True
    known = facts(tree, encoder, settings.max_length, truncates=settings.overlong == "truncate")
    lines = [f"{head}: {_counts(known, settings.overlong)}"]
    lines += _text(tree, encoder, known, settings)
    if known.tokens > MOST_TOKENS:
        lines.append(f"  ... {known.tokens - MOST_TOKENS:,} more tokens")
    lines += [click.style(f"  warning: {text}", fg="yellow") for text in known.warnings()]
    refusal = _refusal(outcome, tree, known, method, settings)
    if refusal:
        lines.append(click.style(f"  bad row: {printable(refusal)}", fg="red"))
    return lines, refusal is not None


def _text(tree: Tree, encoder: Encoder, known: Facts, settings: RunSettings) -> list[str]:
    """What the model sees; several answers each under a line of their own."""
    from tunesmith.data.highlight import parts, runs

    room, lines = MOST_TOKENS, []
    trunk, *branches = parts(tree)
    several = len(branches) > 1
    pieces = [("", trunk if several else [*trunk, *(token for branch in branches for token in branch)])]
    if several:
        total = len(branches)
        heads = [f"  answer {i} of {total}, value {branch.value:g}" for i, branch in enumerate(tree.branches, start=1)]
        pieces += zip(heads, branches, strict=True)
    for head, tokens in pieces:
        lines += [head] if head else []
        text = _coloured(runs(tokens[:room], encoder, settings.max_length), known, settings.overlong)
        lines += [f"  | {line}" for line in text.split("\n")]
        room -= min(room, len(tokens))
    return lines


def _encoded(outcome: Outcome, encoder: Encoder) -> Tree | str:
    """The whole tree of a row, or why it has none."""
    if outcome.status == "bad" or outcome.example is None:
        return outcome.reason
    [result] = encoder.encode_all([outcome.example])
    return str(result) if isinstance(result, ValueError) else result


def _refusal(outcome: Outcome, tree: Tree, known: Facts, method: Method | None, settings: RunSettings) -> str | None:
    if tree.branches and not tree.num_scored:
        return "no token of it is trained on"
    reason = method.check(outcome.example, tree) if method and outcome.example else None
    if reason is None and known.limit is not None and settings.overlong == "error":
        return f"{known.length:,} tokens, more than max_length {known.limit:,}"
    if reason is None and known.truncated:
        from tunesmith.data.rows import truncate, uncuttable

        return uncuttable(tree, truncate(tree, settings.max_length))
    return reason


def _counts(known: Facts, overlong: str) -> str:
    cut = f", {_FATES[overlong]} {known.limit:,}" if known.limit is not None else ""
    if known.prompt:
        return f"a prompt of {known.tokens:,} tokens{cut}, {known.num_bos:,} BOS, {known.num_ends:,} EOS"
    ends = f"{known.num_ends:,} EOS ({known.ends_trained:,} trained)"
    return f"{known.tokens:,} tokens{cut}, {known.trained:,} trained, {known.num_bos:,} BOS, {ends}"


def _coloured(pieces: Sequence[TextRun], known: Facts, overlong: str) -> str:
    """Trained text in green or in brackets; what lies beyond the limit is dim."""
    colour = click.get_current_context().color
    if colour is None:
        colour = sys.stdout.isatty()
    parts, marked = [], False
    for piece in pieces:
        if piece.lost and not marked:
            parts.append(click.style(f"<<{_FATES[overlong].upper()} {known.limit:,}>>", fg="red", bold=True))
            marked = True
        if not colour:
            parts.append(f"[[{piece.text}]]" if piece.trained else piece.text)
        elif piece.trained or piece.lost:
            look: dict[str, Any] = {"dim": True} if piece.lost else {"fg": "green"}
            parts.append("\n".join(click.style(line, **look) for line in piece.text.split("\n")))
        else:
            parts.append(piece.text)
    return "".join(parts)
