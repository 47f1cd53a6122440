"""Tables and paragraphs on the terminal. Small on purpose: importing rich would cost a fifth of the start-up time."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

NARROW = 24
"""A wrapped column is never narrower than this."""


def colour() -> bool | None:
    """What the environment says about colours; ``None``: only on a terminal."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR", "0") != "0" else None


def width(stream: Any = None) -> int | None:
    """Columns of the terminal, or ``None`` where output goes to a file or a pipe and lines stay whole."""
    stream = sys.stdout if stream is None else stream
    if not os.environ.get("COLUMNS", "").isdigit() and not stream.isatty():
        return None
    return max(40, shutil.get_terminal_size().columns)


def print_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def paragraph(text: str, *, indent: int = 0, first: str | None = None) -> str:
    """Text wrapped to the terminal behind ``indent`` spaces; ``first`` stands before the first line instead."""
    columns = width()
    lines = [textwrap.wrap(line, max(NARROW, columns - indent)) if columns else [line] for line in text.splitlines()]
    body = f"\n{' ' * indent}".join(line for wrapped in lines for line in (wrapped or [""]))
    return (" " * indent if first is None else first) + body


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    wrap: int,
    indent: int = 0,
    styles: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Lines of a table whose column ``wrap`` takes what the others leave of the terminal's width."""
    body = [list(row) for row in ([header] if header else []) + list(rows)]
    if not body:
        return []
    sizes = [max(len(row[i]) for row in body) for i in range(len(body[0]))]
    columns = width()
    if columns:
        sizes[wrap] = min(sizes[wrap], max(NARROW, columns - indent - sum(sizes) + sizes[wrap] - 2 * (len(sizes) - 1)))
    lines: list[str] = []
    for index, row in enumerate(body):
        looks = {i: {"dim": True} for i in range(len(row))} if header and index == 0 else dict(styles or {})
        parts = textwrap.wrap(row[wrap], sizes[wrap]) if columns else [row[wrap]]
        for number, part in enumerate(parts or [""]):
            cells = [part if i == wrap else (cell if number == 0 else "") for i, cell in enumerate(row)]
            lines.append((" " * indent + "  ".join(_cells(cells, sizes, looks))).rstrip())
    return lines


def _cells(cells: Sequence[str], sizes: Sequence[int], looks: Mapping[int, Mapping[str, Any]]) -> list[str]:
    last = max((i for i, cell in enumerate(cells) if cell), default=-1)
    styled = []
    for i, cell in enumerate(cells[: last + 1]):
        text = click.style(cell, **looks[i]) if cell and i in looks else cell
        styled.append(text if i == last else text + " " * (sizes[i] - len(cell)))
    return styled


def plain_help(text: str | None) -> str:
    """A docstring as one paragraph of plain text."""
    return " ".join((text or "").replace("``", "`").split())


def first_line(cls: type) -> str:
    """The first line of a class's docstring."""
    return plain_help((cls.__doc__ or "").strip().splitlines()[0] if (cls.__doc__ or "").strip() else "")
