"""Tables and paragraphs on the terminal. Small on purpose: importing rich would cost a fifth of the start-up time."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Look = Mapping[str, Any] | Callable[[str], Mapping[str, Any]]
NARROW = 18
"""A wrapped column is never narrower than this."""
WIDE = 20
"""First cells longer than this, or than half of it on a narrow terminal, have a line of their own."""


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
    lines = [
        textwrap.wrap(line, max(NARROW, columns - indent), break_on_hyphens=False) if columns else [line]
        for line in text.splitlines()
    ]
    body = f"\n{' ' * indent}".join(line for wrapped in lines for line in (wrapped or [""]))
    return (" " * indent if first is None else first) + body


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    wrap: int,
    indent: int = 0,
    styles: Mapping[int, Look] | None = None,
) -> list[str]:
    """Lines of a table whose column ``wrap`` takes what the others leave of the terminal's width.

    Args:
        rows: cells of plain text; all rows have as many.
        header: titles of the columns.
        wrap: index of the column whose text is wrapped.
        indent: spaces before every line.
        styles: index of a column to the keywords of `click.style`, or to a function of the cell that gives them.
    """
    if not rows:
        return []
    body = [list(row) for row in ([header] if header else []) + list(rows)]
    columns = width()
    wide = WIDE if columns is None or columns >= 80 else WIDE // 2
    sizes = [max(map(len, column)) for column in zip(*body, strict=True)]
    sizes[0] = max((len(row[0]) for row in body if len(row[0]) <= wide), default=wide) if wrap else sizes[0]
    if columns:
        sizes[wrap] = min(sizes[wrap], max(NARROW, columns - indent - sum(sizes) + sizes[wrap] - 2 * (len(sizes) - 1)))
    lines: list[str] = []
    for index, row in enumerate(body):
        dim: Mapping[int, Look] = {i: {"dim": True} for i in range(len(row))}
        looks = dim if header and index == 0 else styles or {}
        lines += [" " * indent + _line(cells, sizes, looks) for cells in _broken(row, wrap, sizes)]
    return lines


def _broken(row: Sequence[str], wrap: int, sizes: Sequence[int]) -> list[list[str]]:
    """The lines of one row. A first cell that is too long for its column has a line of its own."""
    if width() is None:
        return [list(row)]
    parts = textwrap.wrap(row[wrap], sizes[wrap], break_on_hyphens=False) or [""]
    lines = [[part if i == wrap else "" for i in range(len(row))] for part in parts]
    lines[0] = [parts[0] if i == wrap else cell for i, cell in enumerate(row)]
    if wrap and len(row[0]) > sizes[0]:
        lines[0][0] = ""
        lines.insert(0, [row[0], *([""] * (len(row) - 1))])
    return lines


def _line(cells: Sequence[str], sizes: Sequence[int], looks: Mapping[int, Look]) -> str:
    last = max((i for i, cell in enumerate(cells) if cell), default=-1)
    styled = []
    for i, cell in enumerate(cells[: last + 1]):
        look = looks.get(i, {})
        text = click.style(cell, **(look(cell) if callable(look) else look)) if cell and look else cell
        styled.append(text if i == last else text + " " * (sizes[i] - len(cell)))
    return "  ".join(styled)


def plain_help(text: str | None) -> str:
    """A docstring as one paragraph of plain text."""
    return " ".join((text or "").replace("``", "`").split())


def first_line(cls: type) -> str:
    """The first line of a class's docstring."""
    return plain_help((cls.__doc__ or "").strip().splitlines()[0] if (cls.__doc__ or "").strip() else "")
