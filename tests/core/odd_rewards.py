"""Rewards that misbehave as a completion tells them to. Tests load this file as a plugin."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tunesmith
from tunesmith import ConfigError, Fault, Reward, Rollout


def recurse() -> Any:
    return recurse()


def printed() -> float:
    print("from the reward")
    sys.stdout.write("x" * 100_000 + "\n")
    os.write(1, b'\x00\x00\x00\x06"done"')
    return 1.0


def forked() -> float:
    os.fork()
    return 2.0


def left_behind(path: str) -> float:
    """A process that outlives its parent in a session of its own."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path(path).write_text(str(child.pid), encoding="ascii")
    os._exit(1)


def raised(error: BaseException) -> float:
    raise error


def loop() -> float:
    while True:
        pass


ACTS: dict[str, Any] = {
    "sleep": lambda: time.sleep(300),
    "loop": loop,
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "group": lambda: os.killpg(0, signal.SIGKILL),
    "keeper": lambda: os.kill(os.getppid(), signal.SIGKILL) or time.sleep(300),
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "descriptors": lambda: os.closerange(3, 200),
    "recursion": recurse,
    "print": printed,
    "fork": forked,
    "thread": lambda: threading.Thread(target=time.sleep, args=(300,)).start() or 3.0,
    "error": lambda: raised(ValueError("two\nlines")),
    "config": lambda: raised(ConfigError("the column 'answer' is no number", why="it is 'x'")),
    "exits": lambda: sys.exit(4),
    "interrupt": lambda: raised(KeyboardInterrupt()),
    "memory": lambda: raised(MemoryError()),
    "timeouts": lambda: raised(TimeoutError("of its own")),
    "nan": lambda: float("nan"),
    "inf": lambda: float("-inf"),
    "huge": lambda: 10**400,
    "true": lambda: True,
    "text": lambda: "1",
    "object": object,
    "none": lambda: None,
    "down": lambda: Fault("infrastructure", "nobody answers"),
    "late": lambda: Fault("timeout", "it took too long"),
    "broken": lambda: Fault("error", "no gold answer"),
    "wrong-fault": lambda: Fault("score", "odd"),  # type: ignore[arg-type]
}


class Odd(Reward):
    """Does what the completion says; for any other completion, its length times a factor."""

    name: ClassVar[str] = "odd"
    factor: float = 1.0
    """Factor."""

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[Any]:
        return [self.one(rollout.text) for rollout in rollouts]

    def one(self, text: str) -> Any:
        if text.startswith("/"):
            return left_behind(text)
        if text.startswith("quote "):
            return ACTS[text]()
        if text.startswith("echo "):
            raise ValueError(text)
        return ACTS[text]() if text in ACTS else self.factor * len(text)


class OddBatch(Odd):
    """The same for all completions in one call."""

    name: ClassVar[str] = "odd-batch"
    batched: ClassVar[bool] = True


class OddStream(Odd):
    """The same, one by one, the last first."""

    name: ClassVar[str] = "odd-stream"
    batched: ClassVar[bool] = True

    def stream(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[int, Any]]:
        for position in reversed(range(len(rollouts))):
            yield position, self.one(rollouts[position].text)


class OddHere(Odd):
    """The same in the trainer's process."""

    name: ClassVar[str] = "odd-here"
    isolated: ClassVar[bool] = False


class Whole(Reward):
    """Returns what it was told to for the whole batch."""

    name: ClassVar[str] = "whole"
    batched: ClassVar[bool] = True
    says: Any = None
    """What."""

    def __call__(self, rollouts: Sequence[Rollout]) -> Any:
        return self.says


class Process(Reward):
    """The number of the process that judges (``own``), of its parent, or of the one that made it ready."""

    name: ClassVar[str] = "process"
    seconds: float = 0.0
    """How long."""
    threads: bool = False
    """Start a thread when it is made ready."""
    warmed: ClassVar[list[int]] = []

    def warm(self) -> None:
        self.warmed.append(os.getpid())
        if self.threads:
            threading.Thread(target=time.sleep, args=(300,), daemon=True).start()

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float]:
        time.sleep(self.seconds)
        return [float(os.getpid() if r.text == "own" else os.getppid() if r.text == "parent" else self.warmed[0])
                for r in rollouts]  # fmt: skip


class NotReady(Reward):
    """Cannot be made ready."""

    name: ClassVar[str] = "not-ready"
    how: str = "error"
    """In which way."""

    def warm(self) -> None:
        if self.how == "package":
            import no_such_package  # noqa: F401
        if self.how == "config":
            raise ConfigError("there is no gold", where="here", why="because", fix="dig")
        ACTS[self.how]()

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float]:
        return [0.0 for _ in rollouts]


@tunesmith.reward("odd-async")
async def odd_async(completion: str) -> Any:
    """Wait, or do what the completion says."""
    await asyncio.sleep(300 if completion == "waits" else 0.05)
    return ACTS[completion]() if completion in ACTS else len(completion)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    return [Odd, OddBatch, OddStream, OddHere, Whole, Process, NotReady, odd_async]
