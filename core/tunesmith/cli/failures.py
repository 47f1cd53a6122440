"""How an error leaves the command line: what, where, why and fix on stderr, and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import click

from tunesmith.cli import terminal
from tunesmith.errors import (
    FOLDER_NOTE,
    ConfigError,
    DataError,
    ResourceError,
    StoppedError,
    TunesmithError,
    did_you_mean,
    nearest,
)
from tunesmith.masking import mask

MAX_LINES = 8
INTERRUPTED, BROKEN_PIPE, BUG = 130, 141, 1


def configure_logging() -> None:
    """Messages of ours to stderr, one line each, on the main process; others print their errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger = logging.getLogger("tunesmith")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)


def adopt_loggers(modules: Iterable[str]) -> None:
    """Send what plugins log the way of our own messages: to the terminal and to the run's log."""
    for name in {module.partition(".")[0] for module in modules} - {"tunesmith", ""}:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _ToOurs) for handler in logger.handlers):
            logger.addHandler(_ToOurs())
            logger.setLevel(logging.INFO)


class _ToOurs(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        ours = logging.getLogger("tunesmith")
        if ours.isEnabledFor(record.levelno):
            ours.handle(record)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        label = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return mask(label + record.getMessage())


# ---------------------------------------------------------------------------------------------- for users
def report(error: TunesmithError) -> int:
    """Print an error for users and return its exit code."""
    if _speaks(error):
        _print(render(error))
    return error.exit_code


def _speaks(error: TunesmithError) -> bool:
    """One process speaks for all where all fail alike; what may happen to one alone is said by that one."""
    if isinstance(error, StoppedError):
        return os.environ.get("RANK", "0") == "0"
    if isinstance(error, (ConfigError, DataError)):  # one per machine: a file may be missing on one of them
        return os.environ.get("RANK", "0") == "0" or os.environ.get("LOCAL_RANK", "0") == "0"
    return True


def render(error: TunesmithError) -> str:
    """At most `MAX_LINES` lines, wrapped to the terminal; the longest part is cut first."""
    columns = terminal.width(sys.stderr)
    head = "stopped" if isinstance(error, StoppedError) else "error"
    if os.environ.get("RANK", "0") != "0":
        head += f" (process {os.environ['RANK']})"
    parts = [_wrap(f"{head}: {error.what}", "", columns)]
    for label, text in (("where", error.where), ("why", error.why), ("fix", error.fix)):
        if text:
            parts.append(_wrap(text, f"  {label:<6}", columns))
    while sum(map(len, parts)) > MAX_LINES:
        longest = max(parts, key=len)
        del longest[-1]
        longest[-1] = longest[-1][: (columns or 200) - 4].rstrip(" ,;") + " ..."
    lines = [line for part in parts for line in part]
    lines[0] = click.style(head, fg="red", bold=True) + lines[0].removeprefix(head)
    return "\n".join(lines)


def _wrap(text: str, prefix: str, columns: int | None) -> list[str]:
    indent = " " * (len(prefix) or 2)
    lines: list[str] = []
    for line in mask(text).splitlines() or [""]:
        start = indent if lines else prefix
        if columns:
            lines += textwrap.wrap(
                line, columns, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
            ) or [""]
        else:
            lines.append(start + line)
    return lines


def _print(text: str) -> None:
    click.echo(text, err=True, color=terminal.colour())


def from_click(error: click.ClickException) -> TunesmithError:
    """A mistake on the command line in our own words."""
    ctx = getattr(error, "ctx", None)
    fix = f"see `{ctx.command_path} --help`" if ctx else None
    if isinstance(error, click.NoSuchOption):
        known = {name.lstrip("-"): name for name in _flags(ctx)} if ctx else {}
        close = nearest(error.option_name.lstrip("-"), known)
        guess = f"; did you mean {known[close]}?" if close else ""
        return ConfigError(f"unknown option {error.option_name}{guess}", fix=fix)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        kind = "option" if isinstance(error.param, click.Option) else "argument"
        name = error.param.opts[0] if kind == "option" else error.param.make_metavar(ctx or click.Context(_EMPTY))
        return ConfigError(f"the {kind} {name} is missing", fix=fix)
    if isinstance(error, click.BadParameter) and error.param is not None:
        return ConfigError(_sentence(error.message), where=error.param.opts[0], fix=fix)
    message = _sentence(error.format_message())
    unknown = re.match(r"no such command '(.*?)'", message)
    if unknown and ctx and isinstance(ctx.command, click.Group):
        names = ctx.command.list_commands(ctx)
        return ConfigError(f"unknown command {unknown[1]!r}{did_you_mean(unknown[1], names)}", fix=fix)
    return ConfigError(message, fix=fix)


_EMPTY = click.Command("")


def _flags(ctx: click.Context) -> Iterable[str]:
    return [name for parameter in ctx.command.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)]


def _sentence(message: str) -> str:
    message = message.strip().removesuffix(".")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def from_system(error: OSError | MemoryError) -> TunesmithError | None:
    """What the machine refuses, such as space on a disk, in our own words; ``None`` for any other fault."""
    if isinstance(error, MemoryError):
        return ResourceError("there is not enough memory", why=str(error) or None)
    if error.errno not in _REFUSED:
        return None
    path = f": {error.filename}" if error.filename else ""
    return ResourceError(
        f"{(error.strerror or 'refused').lower()}{path}", fix="`tunesmith doctor` looks at the folders"
    )


_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}


# ---------------------------------------------------------------------------------------------- for us
def report_bug(error: BaseException, *, debug: bool) -> int:
    """Write the traceback to a file, name it, and return the exit code of a bug."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(FOLDER_NOTE)]
    folder = Path(notes[0].removeprefix(FOLDER_NOTE)) if notes else None
    text = mask("".join(traceback.format_exception(error)))
    if debug:
        _print(text.rstrip())
    path = _write_log(text, folder)
    rank = os.environ.get("RANK", "0")
    said = " ".join(str(error).split())
    lines = [
        f"{f'error (process {rank})' if rank != '0' else 'error'}: this is a bug of tunesmith",
        f"  why   {type(error).__name__}: {said[:300]}",
        f"  log   {path or 'could not be written; use --debug to see the traceback'}",
    ]
    _print(mask("\n".join(lines)))
    return BUG


def _write_log(text: str, folder: Path | None) -> Path | None:
    """In the run's folder where there is one, else in the temporary folder."""
    import tempfile

    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    head = f"{' '.join(map(mask, sys.argv))}\nPython {sys.version}\n\n"
    for place in (folder, Path(tempfile.gettempdir())):
        if place is None or not place.is_dir():
            continue
        path = place / (name if place == folder else f"tunesmith-{name}")
        try:
            path.write_text(head + text, encoding="utf-8")
        except OSError:
            continue
        return path
    return None
