"""Leave to run model-written code without isolation: typed for each run, and for nothing else.

The command line puts a token for its own process into the environment, so that worker processes inherit it. Nobody
else's token counts: it names a process that must be this one or one above it, and the command line refuses to start
with a token that it finds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.errors import ConfigError

VARIABLE = "TUNESMITH_UNSANDBOXED_CODE"
FLAG = "--allow-unsandboxed-code"


def refuse_inherited() -> None:
    """Called when the command line starts. Raises `ConfigError` when the variable is there already."""
    if VARIABLE in os.environ:
        raise ConfigError(
            f"{VARIABLE} is set in the environment",
            why="leave to run code without a sandbox is typed for each run, so that nobody inherits it unawares",
            fix=f"unset {VARIABLE}; where you mean it, add {FLAG} to the command",
        )


def allow() -> None:
    """Give leave to this process and those that it starts."""
    os.environ[VARIABLE] = _token(os.getpid())


def withdraw() -> None:
    """Take the leave back; processes that were started before keep it."""
    os.environ.pop(VARIABLE, None)


@contextmanager
def allowed_here() -> Iterator[None]:
    """Leave for the time of a block."""
    allow()
    try:
        yield
    finally:
        withdraw()


def allowed() -> bool:
    """True where the command that started this process, or this process itself, was given leave."""
    token = os.environ.get(VARIABLE)
    return token is not None and token in {_token(pid) for pid in _line_of_descent()}


def _token(pid: int) -> str:
    """A process and when it started: numbers of processes are used again."""
    return f"{pid}:{_stat(pid)[19]}"


def _stat(pid: int) -> list[str]:
    """Fields of ``/proc/PID/stat`` from the third on; the second may hold anything in its brackets."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return ["", "0", *[""] * 20]


def _line_of_descent() -> Iterator[int]:
    """This process, the one that started it, and so on."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = int(_stat(pid)[1])
