"""One program from its start to the end of its whole process tree."""

from __future__ import annotations

import contextlib
import marshal
import os
import resource
import secrets
import selectors
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

from tunesmith.sandbox import seccomp, tiers
from tunesmith.sandbox.limits import MIB, Calls, Command, Ending, Limits, Outcome, Program, Python
from tunesmith.sandbox.reports import Channel
from tunesmith.sandbox.watch import TICK, Watch
from tunesmith.sandbox.workplace import Workplace

GRACE = 30.0
"""Seconds that a sandbox may take to be ready, on a machine that is busy."""
AFTERWARDS = 5.0
"""Seconds in which a tree that was killed must be gone."""
CHUNK = 65536
STACK = 64 * MIB
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def execute(tier: tiers.Tier, program: Program, stdin: bytes, limits: Limits) -> Outcome:
    """Run a program in a tier. Never raises for what the program does."""
    wants_folder = isinstance(program, Command) and tier != "bubblewrap" and bool(program.files or program.writable)
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(Workplace()) if wants_folder else None
            return _Run(tier, program, stdin, limits, place, stack).outcome()
        except OSError as error:
            return Outcome("infrastructure", f"the sandbox could not be started: {error}")


class _Run:
    """A program with its pipes, while it runs."""

    def __init__(
        self,
        tier: tiers.Tier,
        program: Program,
        stdin: bytes,
        limits: Limits,
        place: Workplace | None,
        stack: contextlib.ExitStack,
    ) -> None:
        self.limits, self.program = limits, program
        self.outcome_ = Outcome("ok")
        self.stopped: tuple[Ending, str] | None = None
        nonce = secrets.token_hex(16)
        self.channel = Channel(nonce if isinstance(program, Calls) else None, limits.report)
        filtered = _memory(stack, seccomp.make_filter())
        folder = place.path if place else None
        writable = isinstance(program, Command) and program.writable
        start = tiers.start(
            tier,
            readable=_readable(program),
            folder=folder,
            writable=writable,
            scratch=limits.scratch,
            fd=filtered,
        )
        if place is not None and isinstance(program, Command):
            place.fill(program.files, start.uid)
        self.place = place if isinstance(program, Command) and program.collect else None
        inside_end = stack.enter_context(contextlib.ExitStack())
        report, report_inside = _pipe(stack, inside_end)
        binary = program.binary if isinstance(program, Command) else None
        held = None if binary is None else _memory(stack, binary)
        request = _request(program, limits, start, folder)
        launcher = _launcher() if start.argv[-6] == tiers.interpreter()[0] else _launcher_text()
        request |= {"launcher": launcher, "report": report_inside, "binary": held, "nonce": nonce, **start.fields}
        asked = _memory(stack, b"")
        _fill(asked, marshal.dumps(request | {"self": asked}))
        own = (report_inside, held, asked, filtered if tier == "bubblewrap" else None)
        passed = [fd for fd in own if fd is not None]
        self.process = subprocess.Popen(
            [*start.argv, str(asked)],
            stdin=_memory(stack, stdin),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            env={},
            cwd=start.cwd,
            start_new_session=True,
        )
        stack.callback(self._close)
        inside_end.close()
        self.group = tier != "bubblewrap"
        self.watch = Watch(self.process.pid, limits.memory, folder, limits.scratch, start.watched)
        self.streams: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._listen(report, stack)

    def _listen(self, report: int, stack: contextlib.ExitStack) -> None:
        """Have a say when there is something to read, or the process has ended."""
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.ended = os.pidfd_open(self.process.pid)
        stack.callback(os.close, self.ended)
        assert self.process.stdout and self.process.stderr
        sources: list[tuple[int | IO[bytes], str]] = [
            (self.process.stdout, "stdout"), (self.process.stderr, "stderr"), (report, "report"), (self.ended, "end"),
        ]  # fmt: skip
        for source, name in sources:
            self.selector.register(source, selectors.EVENT_READ, name)

    def _close(self) -> None:
        self._kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    def outcome(self) -> Outcome:
        """Watch it to its end."""
        started = time.monotonic()
        while self.selector.get_map() and self.stopped is None and self._alive():
            self._turn(started)
        seconds = time.monotonic() - (self.channel.ready or started)
        self._kill()
        self._drain()
        code = self.process.wait()
        out = self.outcome_
        out.seconds, out.memory = seconds, self.watch.peak
        out.stdout = bytes(self.streams["stdout"][: self.limits.output])
        out.stderr = bytes(self.streams["stderr"])
        self._judge(128 - code if code < 0 else code)
        return out

    def _alive(self) -> bool:
        return any(key.data == "end" for key in self.selector.get_map().values())

    def _turn(self, started: float) -> None:
        now = time.monotonic()
        late = self._late(now, started)
        if late is not None:
            self.stopped = late
            return
        if self.channel.ready is None:
            self.watch.due = now + TICK  # what runs until then is ours
        elif now >= self.watch.due:
            over = self.watch.look()
            if over is not None:
                why = {"memory": self.limits.memory, "scratch": self.limits.scratch}[over]
                self.stopped = "memory" if over == "memory" else "output_limit", f"more than {why / MIB:.0f} MiB"
                return
        for key, _ in self.selector.select(max(0.0, self.watch.due - now)):
            self._read(key)

    def _late(self, now: float, started: float) -> tuple[Ending, str] | None:
        ready, limits = self.channel.ready, self.limits
        if ready is None:
            return ("infrastructure", "the sandbox was not ready in time") if now - started > GRACE else None
        if now - ready > limits.wall:
            return "timeout", f"more than {limits.wall:g} s"
        if limits.quiet is not None and now - self.channel.heard > limits.quiet:
            return "timeout", f"more than {limits.quiet:g} s in one call"
        return None

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data == "end":
            self.selector.unregister(key.fileobj)
            return
        data = os.read(key.fd, CHUNK)
        if not data:
            self.selector.unregister(key.fileobj)
        elif key.data == "report":
            if not self.channel.feed(data):
                self.stopped = self.stopped or ("output_limit", "more was reported than may be")
        elif key.data == "stderr":
            room = self.limits.output - len(self.streams["stderr"])
            self.streams["stderr"] += data[: max(0, room)]
        else:
            self.streams["stdout"] += data
            if len(self.streams["stdout"]) > self.limits.output:
                self.stopped = self.stopped or ("output_limit", f"more than {self.limits.output:,} bytes of output")

    def _kill(self) -> None:
        """The whole tree; before it is waited for, while its number cannot be anyone else's."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.group:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:  # what is in the namespace dies with its first process, and that with its parent
                os.kill(self.process.pid, signal.SIGKILL)

    def _drain(self) -> None:
        """Read what is left in the pipes. They close when the last process of the tree is gone."""
        deadline = time.monotonic() + AFTERWARDS
        while any(key.data != "end" for key in self.selector.get_map().values()):
            if time.monotonic() > deadline:
                self.stopped = ("infrastructure", "processes of the program are still there after they were killed")
                return
            for key, _ in self.selector.select(0.1):
                self._read(key)

    def _judge(self, code: int) -> None:
        out, channel = self.outcome_, self.channel
        out.reports = channel.reports()
        said = printable(out.stderr[-500:].decode("utf-8", "replace").strip())
        if self.stopped is not None:
            out.ending, out.why = self.stopped
            return
        if channel.ready is None:
            out.ending, out.why = "infrastructure", f"the sandbox ended with {code} before it was ready: {said}"
            return
        out.code = code
        out.collected = self._collected()
        if code != 0:
            out.ending, out.why = self._failed(code, said), said or f"it ended with {code}"

    def _failed(self, code: int, said: str) -> Ending:
        if self.channel.unreadable:
            return "compile_error"
        if code == 128 + signal.SIGXCPU or (code == 128 + signal.SIGKILL and self.outcome_.seconds >= self._cpu()):
            return "timeout"
        if code == 128 + signal.SIGXFSZ:
            return "output_limit"
        words = said.split() or [""]
        return "memory" if words[-1] in ("MemoryError", "std::bad_alloc") else "runtime_error"

    def _cpu(self) -> float:
        return self.limits.wall if self.limits.cpu is None else self.limits.cpu

    def _collected(self) -> bytes | None:
        if self.place is not None and isinstance(self.program, Command) and self.program.collect:
            return self.place.take(self.program.collect, self.limits.report)
        return self.channel.collected()


# ---------------------------------------------------------------------------------------------- what it is asked
def _request(program: Program, limits: Limits, start: tiers.Start, folder: str | None) -> dict[str, Any]:
    command = program if isinstance(program, Command) else None
    inside = folder or (tiers.WORK if start.watched else "/")
    return {
        "uid": start.uid,
        "limits": _limits(limits, shared=not start.watched and start.uid is None),
        "source": None if command else program.source,  # type: ignore[union-attr]  # the other two have one
        "function": program.function if isinstance(program, Calls) else None,
        "calls": [(list(a), dict(k)) for a, k in program.calls] if isinstance(program, Calls) else [],
        "path": list(program.readable) if isinstance(program, Python | Calls) else [],
        "argv": list(command.argv) if command else [],
        "files": dict(command.files) if command and folder is None else {},
        "collect": command.collect if command and folder is None else None,
        "env": {**ENV, "HOME": inside, "TMPDIR": inside, **(command.env if command else {})},
    }


def _limits(limits: Limits, *, shared: bool) -> list[tuple[str, int, int]]:
    """Name, soft and hard limit; the soft one of processor time warns a second before the hard one kills."""
    infinite = resource.RLIM_INFINITY
    cpu = max(1, -int(-(limits.wall if limits.cpu is None else limits.cpu) // 1))
    space = limits.memory + STACK if limits.address_space is None else limits.address_space or infinite
    tasks = limits.processes
    if shared:  # the kernel counts all processes of the user, ours too
        from tunesmith.sandbox.users import running_tasks

        tasks += running_tasks() + 8
    return [
        ("CORE", 0, 0), ("CPU", cpu, cpu + 1), ("AS", space, space), ("FSIZE", limits.file_size, limits.file_size),
        ("NOFILE", 256, 256), ("STACK", STACK, STACK), ("MSGQUEUE", 0, 0), ("MEMLOCK", 0, 0),
        ("NPROC", tasks, tasks),
    ]  # fmt: skip


def _readable(program: Program) -> list[str]:
    extra = ["/etc/alternatives"] if isinstance(program, Command) and os.path.isdir("/etc/alternatives") else []
    return [*extra, *program.readable]


@cache
def _launcher_text() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


@cache
def _launcher() -> Any:
    """What runs first inside, compiled here to save time there: it is the same interpreter."""
    return compile(_launcher_text(), "sandbox", "exec")


# ---------------------------------------------------------------------------------------------- descriptors
def _memory(stack: contextlib.ExitStack, content: bytes) -> int:
    """A descriptor that holds the bytes and is at their beginning; the program cannot change them for us."""
    fd = os.memfd_create("sandbox")
    stack.callback(os.close, fd)
    _fill(fd, content)
    return fd


def _fill(fd: int, content: bytes) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(fd, content[done:], done)


def _pipe(stack: contextlib.ExitStack, other: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe; the end that is read closes with the one stack, the end that is written to with the other."""
    read, write = os.pipe()
    stack.callback(os.close, read)
    other.callback(os.close, write)
    return read, write


def printable(text: str) -> str:
    """The text without what a terminal would take for a command."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
