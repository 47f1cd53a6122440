"""What is run, what it may use, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MIB = 2**20

Ending = Literal[
    "ok", "runtime_error", "compile_error", "timeout", "memory", "output_limit", "refused", "infrastructure"
]
"""How a program ended. All but ``infrastructure`` are the program's own doing; that one says that the sandbox could
not run it, and is no judgement. ``ok`` says only that it ended by itself with exit code 0: never take it for right."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Reaching a limit ends its whole process tree.

    Attributes:
        wall: seconds from its first instruction to its end.
        quiet: seconds between two reports of a `Calls` program; ``None``: only ``wall`` counts.
        cpu: seconds of processor time of each process; ``None``: as many as ``wall``.
        memory: bytes that all its processes and its files in memory may hold together.
        address_space: bytes of addresses of each process; ``None``: ``memory`` and 64 MiB. 0 sets no limit, for
            language runtimes that reserve far more than they use.
        processes: processes and threads at a time.
        file_size: bytes of each file.
        scratch: bytes of all files together.
        output: bytes on standard output; more ends it. As many of standard error are kept, and the rest dropped.
        report: bytes that may come back by other ways: reports of `Calls`, a collected file.
    """

    wall: float = 5.0
    quiet: float | None = None
    cpu: float | None = None
    memory: int = 512 * MIB
    address_space: int | None = None
    processes: int = 16
    file_size: int = 16 * MIB
    scratch: int = 32 * MIB
    output: int = MIB
    report: int = 4 * MIB


@dataclass(frozen=True, slots=True)
class Python:
    """A Python program, run alone by the interpreter that runs tunesmith, without site packages.

    Attributes:
        source: its text.
        readable: folders that it may read and import from beside the standard library.
    """

    source: str
    readable: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Calls:
    """A Python program whose function is called once for each list of arguments, in one process.

    The outcome's ``reports`` holds one entry for every call that came back, as plain data that was read by a strict
    reader. The program can report what it likes: it runs in the same process. It never holds what is expected.

    Attributes:
        source: its text.
        function: a name in it, or ``Class.method`` for a class that is made without arguments.
        calls: positional and keyword arguments of each call, plain data.
        readable: folders that it may read and import from beside the standard library.
    """

    source: str
    function: str
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    readable: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Any other program.

    Attributes:
        argv: the program with its arguments; the first is an absolute path, or what `binary` is called.
        binary: the program itself, where it is none of the machine's.
        files: put in its working folder before it starts: plain names to contents.
        writable: False keeps the working folder as it is in the tier where it is on disk.
        collect: name of a file in the working folder that is wanted back when it ends well.
        readable: files and folders that it may read beside those of the system.
        env: variables beside PATH, HOME, TMPDIR and LANG.
    """

    argv: Sequence[str]
    binary: bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    writable: bool = False
    collect: str | None = None
    readable: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


Program = Python | Calls | Command


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one call: plain data, or the name of what was raised."""

    value: Any = None
    error: str | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a program.

    Attributes:
        ending: see `Ending`.
        why: what is known of an ending that is not ``ok``; control characters are taken out.
        code: exit code; 128 and the signal's number where a signal ended it; ``None`` where it was stopped.
        stdout: bytes, at most ``Limits.output``.
        stderr: bytes, at most ``Limits.output``.
        reports: of `Calls`, by the number of the call; a call that never reported is not in it.
        collected: contents of the file that was asked for.
        seconds: from its first instruction to its end.
        memory: the most bytes that were seen in use; short programs end before the first look.
    """

    ending: Ending
    why: str = ""
    code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    reports: dict[int, Report] = field(default_factory=dict)
    collected: bytes | None = None
    seconds: float = 0.0
    memory: int = 0
