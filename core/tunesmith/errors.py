"""Errors that a user can act on: what was wrong, where, why, and what to do.

Every class carries the exit code that the command line returns for it. Anything else that reaches the command
line is a bug of ours and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FOLDER_NOTE = "run folder: "
"""Start of the note that the runner adds to whatever ends a run: there the command line writes the traceback."""


class TunesmithError(Exception):
    """Base of all errors for users. ``str()`` gives at most a handful of lines, ready to print.

    Args:
        what: one sentence that says what is wrong.
        where: the file, line, field or setting it was found in.
        why: what the rule is, or what was found instead.
        fix: what to do, as a command or a setting where there is one.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.fix = what, where, why, fix

    def __str__(self) -> str:
        parts = [("where", self.where), ("why", self.why), ("fix", self.fix)]
        return "\n".join([self.what, *(f"  {label:<6}{text}" for label, text in parts if text)])


class ConfigError(TunesmithError):
    """A wrong command line, run file, setting or component name."""

    exit_code = 2


class DataError(TunesmithError):
    """Rows that cannot be trained on as they are."""

    exit_code = 3


class ResourceError(TunesmithError):
    """Something does not fit, or a file, package or device is missing."""

    exit_code = 4


class DivergedError(TunesmithError):
    """A loss, gradient or weight stopped being finite."""

    exit_code = 5


class RewardError(TunesmithError):
    """A reward failed, or what rewards rely on (workers, endpoints, a sandbox) fails too often to go on."""

    exit_code = 6


class GateError(TunesmithError):
    """What a stage of a pipeline has made is not what the next one needs."""

    exit_code = 7


class StoppedError(TunesmithError):
    """The run was asked to stop and has saved itself."""

    def __init__(self, what: str, *, exit_code: int, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.exit_code = exit_code


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to ``word`` in spelling, or ``None`` when none is close."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or an empty string."""
    match = nearest(word, known)
    return f"; did you mean {match!r}?" if match else ""
