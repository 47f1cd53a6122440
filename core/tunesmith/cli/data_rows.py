"""Rows as the model sees them, with what is trained on set apart."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tunesmith.components import Method
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.highlight import Facts
    from tunesmith.data.highlight import Run as TextRun
    from tunesmith.data.rows import Outcome
    from tunesmith.data.trees import Tree
    from tunesmith.settings import RunSettings

MOST_TOKENS = 2000
"""Tokens of a row that are printed at most."""
FATES = {"split": "split at", "drop": "dropped: longer than", "truncate": "cut at", "error": "longer than"}


def row_lines(
    outcome: Outcome, encoder: Encoder, method: Method | None, settings: RunSettings
) -> tuple[list[str], bool]:
    """The lines about a row, and whether it cannot be trained on."""
    from tunesmith.data.highlight import facts
    from tunesmith.data.report import printable

    head = click.style(printable(outcome.row.where), bold=True)
    if outcome.status == "skipped":
        return [f"{head}: left out by the format"], False
    tree = tree_of(outcome, encoder)
    if isinstance(tree, str):
        return [f"{head}: {click.style(f'bad row: {printable(tree)}', fg='red')}"], True
    known = facts(tree, encoder, settings.max_length, truncates=settings.overlong == "truncate")
    lines = [f"{head}: {_counts(known, settings.overlong)}"]
    lines += _text(tree, encoder, known, settings)
    if known.tokens > MOST_TOKENS:
        lines.append(f"  ... {known.tokens - MOST_TOKENS:,} more tokens")
    lines += [click.style(f"  warning: {text}", fg="yellow") for text in known.warnings()]
    refusal = refusal_of(outcome, tree, known, method, settings)
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


def tree_of(outcome: Outcome, encoder: Encoder) -> Tree | str:
    """The whole tree of a row, or why it has none."""
    if outcome.status == "bad" or outcome.example is None:
        return outcome.reason
    [result] = encoder.encode_all([outcome.example])
    return str(result) if isinstance(result, ValueError) else result


def refusal_of(outcome: Outcome, tree: Tree, known: Facts, method: Method | None, settings: RunSettings) -> str | None:
    """Why a row cannot be trained on, or ``None``."""
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
    cut = f", {FATES[overlong]} {known.limit:,}" if known.limit is not None else ""
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
            parts.append(click.style(f"<<{FATES[overlong].upper()} {known.limit:,}>>", fg="red", bold=True))
            marked = True
        if not colour:
            parts.append(f"[[{piece.text}]]" if piece.trained else piece.text)
        elif piece.trained or piece.lost:
            look: dict[str, Any] = {"dim": True} if piece.lost else {"fg": "green"}
            parts.append("\n".join(click.style(line, **look) for line in piece.text.split("\n")))
        else:
            parts.append(piece.text)
    return "".join(parts)
