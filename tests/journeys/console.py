"""Transcripts in Markdown: the files they show, the commands they type, and whether what is printed is what they say.

A block that begins with ```` ```LANGUAGE title="NAME" ```` is a file, and ```` ```diff title="NAME" ```` changes one: a
blank line stands between places, and what is taken away must be there once. In a block ```` ```console ```` a line that
begins with ``$`` is typed (one that ends with a backslash goes on in the next), and the lines below it are what is
printed: results and progress in the order in which they come. ``...`` stands for any text in a line, and alone for any
lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.cli.main import main

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r'title="([^"]+)"')


@dataclass
class Step:
    """A command and what it should print, or a file to write."""

    command: str = ""
    printed: list[str] = field(default_factory=list)
    file: str = ""
    content: str = ""
    changes: bool = False


def steps(text: str) -> list[Step]:
    """What a transcript does, in its order."""
    found: list[Step] = []
    for fence in FENCE.finditer(text):
        info, body = fence["info"].strip(), fence["body"]
        title = TITLE.search(info)
        if title:
            found.append(Step(file=title[1], content=body, changes=info.startswith("diff ")))
        elif info == "console":
            found += _commands(body)
    return found


def _commands(body: str) -> Iterator[Step]:
    step: Step | None = None
    going_on = False
    for line in body.splitlines():
        if going_on and step is not None:
            step.command = f"{step.command[:-1].rstrip()} {line.strip()}"
        elif line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(command=line[2:])
        elif step is not None:
            step.printed.append(line)
        going_on = step is not None and not step.printed and step.command.endswith("\\")
    if step is not None:
        yield step


class Shell:
    """Types commands in the current folder: ours in this process, others in a shell; remembers the exit code."""

    def __init__(self) -> None:
        self.code = 0

    def type(self, command: str) -> str:
        """What a command prints, on both streams."""
        if command == "echo $?":
            return f"{self.code}\n"
        words = shlex.split(command)
        if words[0] == "cd":
            os.chdir(words[1])
            return ""
        if words[0] != "tunesmith" or set(words) & {"|", ">", "&&", ";"}:
            done = subprocess.run(
                ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            self.code = done.returncode
            return done.stdout
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            self.code = main(words[1:])
        return printed.getvalue()


def play(text: str) -> Iterator[tuple[Step, str]]:
    """Do what a transcript does; every command with what it printed."""
    shell = Shell()
    for step in steps(text):
        if step.file:
            path = Path(step.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(changed(path, step.content) if step.changes else step.content, encoding="utf-8")
        else:
            yield step, shell.type(step.command)


def changed(path: Path, difference: str) -> str:
    """The text of a file after a change. Raises `AssertionError` where what it changes is not there once."""
    text = path.read_text(encoding="utf-8")
    for place in difference.strip("\n").split("\n\n"):
        lines = place.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{path}: {text.count(old)} times\n{old}"
        text = text.replace(old, new)
    return text


def agrees(expected: list[str], printed: str) -> bool:
    """Whether what was printed is what was expected, blank lines at the ends and behind the text left out."""
    wanted = [line.rstrip() for line in "\n".join(expected).strip("\n").splitlines()]
    said = [line.rstrip() for line in printed.strip("\n").splitlines()]
    i = j = 0
    star, taken = -1, 0  # the last line that stands for any lines, and how many of them it takes
    while j < len(said):
        if i < len(wanted) and wanted[i].strip() == "...":
            star, taken, i = i, j, i + 1
        elif i < len(wanted) and _line_agrees(wanted[i], said[j]):
            i, j = i + 1, j + 1
        elif star >= 0:
            taken += 1
            i, j = star + 1, taken
        else:
            return False
    return all(line.strip() == "..." for line in wanted[i:])


def _line_agrees(wanted: str, said: str) -> bool:
    return re.fullmatch(".*?".join(map(re.escape, re.split(r"\.{3,}", wanted))), said) is not None
