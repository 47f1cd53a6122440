"""Two texts side by side while both of them grow, line by line: what is printed is never moved again."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from tunesmith.data.report import printable

GAP = " | "
NARROWEST = 12
"""Columns of a text at least."""


def safe(text: str) -> str:
    """Text of a model as a terminal may get it: lines stay lines, tabs are blanks, nothing else can move the cursor."""
    return "\n".join(printable(line) for line in text.replace("\t", "    ").split("\n"))


def wide(text: str) -> int:
    """Columns that printable text takes on a terminal."""
    return sum(_wide(char) for char in text)


def _wide(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, cut at blanks if there are any; what follows changes the last only."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, size = "", 0
        for char in paragraph:
            if size + _wide(char) > width:
                head, blank, tail = line.rpartition(" ")
                cut = head if blank and head.strip() and char != " " else line
                lines.append(cut.rstrip())
                line = tail if cut is head else ""
                size = wide(line)
                if char == " " and not line:
                    continue
            line, size = line + char, size + _wide(char)
        lines.append(line)
    return lines


class Columns:
    """Texts beside each other.

    A line is printed for good when every text has it whole or has ended; the one that grows is written anew in place.

    Args:
        titles: over the columns.
        width: of the terminal.
        write: prints a text as it is, without an end of line.
    """

    def __init__(self, titles: Sequence[str], width: int, write: Callable[[str], None]) -> None:
        self.size = max(NARROWEST, (width - 1 - len(GAP) * (len(titles) - 1)) // len(titles))
        self._write = write
        self._lines: list[list[str]] = [[] for _ in titles]
        self._tails = ["" for _ in titles]
        self._ended = [False for _ in titles]
        self._printed, self._shown = 0, ""
        self._emit(self._row([_clipped(title, self.size) for title in titles]))
        self._emit(self._row(["-" * self.size for _ in titles]))

    def add(self, column: int, text: str) -> None:
        """A text goes on."""
        *whole, self._tails[column] = wrapped(self._tails[column] + safe(text), self.size)
        self._lines[column] += whole
        self._print()

    def end(self, column: int) -> None:
        """A text is complete."""
        if not self._ended[column]:
            self._lines[column].append(self._tails[column])
            self._tails[column], self._ended[column] = "", True
            self._print()

    def _print(self) -> None:
        while self._all_have(self._printed):
            self._emit(self._row([self._at(column, self._printed) for column in range(len(self._lines))]))
            self._printed += 1
        row = self._row([self._at(column, self._printed) for column in range(len(self._lines))])
        if row.strip(" |") and row != self._shown:
            self._write(f"\r{row}\x1b[K")
            self._shown = row

    def _all_have(self, number: int) -> bool:
        if all(self._ended) and number >= max(map(len, self._lines)):
            return False
        pairs = zip(self._lines, self._ended, strict=True)
        return all(ended or len(lines) > number for lines, ended in pairs)

    def _at(self, column: int, number: int) -> str:
        lines = self._lines[column]
        if number < len(lines):
            return lines[number]
        return self._tails[column] if number == len(lines) else ""

    def _row(self, cells: Sequence[str]) -> str:
        return GAP.join(cell + " " * (self.size - wide(cell)) for cell in cells).rstrip()

    def _emit(self, row: str) -> None:
        self._write(f"\r{row}\x1b[K\n" if self._shown else f"{row}\n")
        self._shown = ""


def _clipped(title: str, size: int) -> str:
    """The end of a path says more than its beginning."""
    title = printable(title)
    return title if len(title) <= size else "..." + title[3 - size :]
