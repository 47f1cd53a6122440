"""Worker processes seen from the trainer: chunks of completions go out, reports come back, and each has its clock."""

from __future__ import annotations

import json
import os
import pickle
import selectors
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith import errors
from tunesmith.components import Reward, Rollout
from tunesmith.errors import ConfigError, ResourceError, RewardError, TunesmithError
from tunesmith.rollout.judging import EACH, Report, checked
from tunesmith.rollout.wire import LARGEST_REPORT, BrokenWireError, Frames, job, pack, parcel
from tunesmith.rollout.worker import FORK, command

LARGEST_CHUNK = 64
STARTS = 4
"""Processes that may end in a row before they are ready."""
TAKE_OVER = 20.0
"""Seconds in which a process must begin with what it was handed."""
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
"""Each of several processes uses one core; what they print is not lost when they are killed."""
Put = Callable[[int, Report], None]
"""Takes the index of a reward and a report whose position counts in the whole list."""


@dataclass(slots=True)
class Chunk:
    """Completions for one reward.

    Attributes:
        reward: its index.
        positions: which completions.
        deaths: how many processes died over it, where it is a single completion.
        exclusive: judge it while nothing else is judged, so that it is clear whom to blame.
    """

    reward: int
    positions: list[int]
    deaths: int = 0
    exclusive: bool = False


@dataclass(slots=True)
class _Judge:
    """A process that judges, or is about to."""

    number: int
    channel: socket.socket
    frames: Frames = field(default_factory=lambda: Frames(LARGEST_REPORT))
    open: bool = True
    ready: bool = False
    chunk: Chunk | None = None
    left: dict[int, None] = field(default_factory=dict)
    each: bool = True
    clock: float | None = None


class Workers:
    """Processes that judge with the given rewards.

    Raises:
        ConfigError, ResourceError: a reward cannot be sent there, imported there or made ready there.
    """

    def __init__(self, rewards: Sequence[Reward], labels: Sequence[str], count: int | None = None) -> None:
        self._rewards, self._labels = rewards, labels
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # trainers on this machine, each with its own
        self._count = count or min(8, max(2, cores // beside))
        self._payload = pickle.dumps([parcel(reward) for reward in rewards])
        self._judges: dict[int, _Judge] = {}
        self._started = 0
        self._fruitless = 0
        self._selector = selectors.DefaultSelector()
        self._start_keeper()

    # ------------------------------------------------------------------------------------------ processes
    def _start_keeper(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, **ENVIRONMENT}
            keeper = subprocess.Popen(
                command(FORK, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a reward prints belongs to the log
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C is for the trainer
            )
        self._control, self._frames = ours, Frames()
        self._end = weakref.finalize(self, _end, keeper, ours, os.getpid())
        self._forks = False
        try:
            ours.sendall(pack(self._payload))
            message = self._first_word()
        except OSError:
            message = None
        if message is None:
            self._end()
            raise ResourceError(
                "the process that judges ended before it was ready",
                where=f"rewards {', '.join(self._labels)}",
                why=f"exit status {keeper.returncode}",
            )
        if "failed" in message:
            self._end()
            raise self._not_ready(message["failed"])
        self._forks = message["loaded"] == FORK
        ours.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, None)

    def _first_word(self) -> dict[str, Any] | None:
        while data := self._control.recv(65536):
            for message in self._frames.feed(data):
                found: dict[str, Any] = json.loads(message)
                return found
        return None

    def _not_ready(self, failed: Mapping[str, Any]) -> TunesmithError:
        label, kind = self._labels[failed["reward"]], failed["kind"]
        if "what" in failed:
            cls = getattr(errors, kind, ConfigError)
            error: TunesmithError = cls(*[failed["what"]], **{k: failed[k] for k in ("where", "why", "fix")})
            return error
        made = ResourceError if failed["missing"] else ConfigError
        return made(f"the reward {label!r} cannot be made ready", why=failed["trace"].strip())

    def _start_judge(self) -> None:
        if self._fruitless >= STARTS:
            raise RewardError(
                "the processes that judge end before they are ready",
                where=f"rewards {', '.join(self._labels)}",
                why=self._last_cause,
            )
        self._started += 1
        ours, theirs = socket.socketpair()
        judge = _Judge(self._started, ours)
        with theirs:
            self._control.setblocking(True)
            socket.send_fds(self._control, [pack(json.dumps({"start": judge.number}).encode())], [theirs.fileno()])
            self._control.setblocking(False)
        if not self._forks:
            self._send(judge, self._payload)
        ours.setblocking(False)
        self._judges[judge.number] = judge
        self._selector.register(ours, selectors.EVENT_READ, judge)

    def _send(self, judge: _Judge, payload: bytes) -> None:
        """Raises `OSError` when the process does not take it."""
        judge.channel.settimeout(TAKE_OVER)
        judge.channel.sendall(pack(payload))
        judge.channel.setblocking(False)

    def _forget(self, judge: _Judge, *, kill: bool = True) -> None:
        if judge.open:
            self._selector.unregister(judge.channel)
        judge.channel.close()
        del self._judges[judge.number]
        if kill:
            self._tell_keeper({"kill": judge.number})

    def _tell_keeper(self, message: Mapping[str, int]) -> None:
        self._control.setblocking(True)
        try:
            self._control.sendall(pack(json.dumps(message).encode()))
        except OSError:
            return  # it is gone, which the next read says too
        finally:
            self._control.setblocking(False)

    def close(self) -> None:
        """End all processes."""
        for judge in list(self._judges.values()):
            self._forget(judge, kill=False)
        self._end()
        self._selector.close()

    # ------------------------------------------------------------------------------------------ judging
    def chunks(self, reward: int, count: int) -> Iterator[Chunk]:
        """Completions in portions that keep every process busy; a batched reward gets them all at once."""
        size = count if self._rewards[reward].batched else max(1, min(LARGEST_CHUNK, count // (4 * self._count)))
        for start in range(0, count, size or 1):
            yield Chunk(reward, list(range(start, min(count, start + size))))

    def judge(self, rollouts: Sequence[Rollout], put: Put) -> None:
        """Judge all completions with all rewards; ``put`` gets exactly one report for each.

        Raises:
            RewardError: processes cannot be kept alive. What ``put`` raises ends it as well.
        """
        queue = deque(chunk for reward in range(len(self._rewards)) for chunk in self.chunks(reward, len(rollouts)))
        self._fruitless, self._last_cause = 0, ""
        try:
            while queue or any(judge.chunk for judge in self._judges.values()):
                self._hand_out(queue, rollouts)
                for key, _ in self._selector.select(self._until_next_deadline()):
                    if key.data is None:
                        self._hear_keeper(queue, put)
                    elif key.data.number in self._judges:
                        self._hear(key.data, queue, put)
                self._end_overdue(queue, put)
        finally:
            for judge in [judge for judge in self._judges.values() if judge.chunk]:
                self._forget(judge)

    def _hand_out(self, queue: deque[Chunk], rollouts: Sequence[Rollout]) -> None:
        for judge in [judge for judge in self._judges.values() if judge.ready and not judge.chunk]:
            if not queue or not self._may_begin(queue[0]):
                break
            chunk = queue.popleft()
            judge.chunk, judge.left = chunk, dict.fromkeys(chunk.positions)
            judge.each = not self._rewards[chunk.reward].batched or len(chunk.positions) == 1
            judge.clock = time.monotonic() + TAKE_OVER
            work = job(chunk.reward, [rollouts[position] for position in chunk.positions])
            try:
                self._send(judge, work)
            except OSError:  # it ended while it was idle, so nobody is to blame
                queue.appendleft(chunk)
                self._forget(judge)
        starting = sum(not judge.ready for judge in self._judges.values())
        for _ in range(min(len(queue) - starting, self._count - len(self._judges))):
            self._start_judge()

    def _may_begin(self, chunk: Chunk) -> bool:
        busy = [judge.chunk for judge in self._judges.values() if judge.chunk]
        return not busy or not (chunk.exclusive or any(other.exclusive for other in busy))

    def _until_next_deadline(self) -> float | None:
        clocks = [judge.clock for judge in self._judges.values() if judge.clock is not None]
        return max(0.0, min(clocks) - time.monotonic()) if clocks else None

    def _allowance(self, judge: _Judge) -> float:
        assert judge.chunk is not None
        reward = self._rewards[judge.chunk.reward]
        if judge.each:
            return reward.timeout
        if type(reward).stream is not Reward.stream:  # it may keep the limit by itself, and is given time to say so
            return 1.5 * reward.timeout + 1
        return reward.timeout * len(judge.left)

    def _hear(self, judge: _Judge, queue: deque[Chunk], put: Put) -> None:
        """Take the reports that have arrived; a process that sends nonsense is ended."""
        try:
            while data := judge.channel.recv(1 << 16):
                for message in judge.frames.feed(data):
                    self._take(judge, json.loads(message), put)
        except BlockingIOError:
            return
        except (BrokenWireError, ValueError, RecursionError) as error:
            self._ended(judge, f"its process sent what is no report ({error})", queue, put)
            return
        except OSError:
            pass
        # its end of the wire is closed: the keeper will say in a moment how it ended
        judge.open = False
        self._selector.unregister(judge.channel)
        judge.clock = time.monotonic() + 1

    def _take(self, judge: _Judge, message: Any, put: Put) -> None:
        """Raises `ValueError` for anything but a report that is due."""
        if message == "ready":
            judge.ready = True
            self._fruitless = 0
        elif isinstance(message, dict) and not judge.ready:
            raise self._not_ready(message["failed"])
        elif judge.chunk is None:
            raise ValueError("nothing was asked")
        elif message == "begin":
            judge.clock = time.monotonic() + self._allowance(judge)
        elif message == EACH:
            judge.each = True
            judge.clock = time.monotonic() + self._allowance(judge)
        elif message == "done":
            if judge.left:
                raise ValueError("completions are missing")
            judge.chunk = judge.clock = None
        else:
            index, state, score, why, trace = checked(message, len(judge.chunk.positions))
            position = judge.chunk.positions[index]
            if position not in judge.left:
                raise ValueError("a completion was reported twice")
            del judge.left[position]
            judge.clock = time.monotonic() + (self._allowance(judge) if judge.left else TAKE_OVER)
            put(judge.chunk.reward, (position, state, score, why, trace))

    # ------------------------------------------------------------------------------------------ failures
    def _hear_keeper(self, queue: deque[Chunk], put: Put) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for message in self._frames.feed(data):
            told = json.loads(message)
            judge = self._judges.get(told["exited"])
            if judge is not None and judge.open:
                self._hear(judge, queue, put)  # what it said before it ended counts
            if told["exited"] in self._judges:
                self._ended(self._judges[told["exited"]], told["why"], queue, put, kill=False)
        if not data:
            self._restart_keeper(queue, put)

    def _restart_keeper(self, queue: deque[Chunk], put: Put) -> None:
        for judge in list(self._judges.values()):
            self._ended(judge, "the process that keeps it was killed", queue, put, kill=False, exclusive=True)
        self._selector.unregister(self._control)
        self._end()
        self._start_keeper()

    def _end_overdue(self, queue: deque[Chunk], put: Put) -> None:
        now = time.monotonic()
        for judge in [judge for judge in self._judges.values() if judge.clock is not None and judge.clock <= now]:
            if not judge.open:
                self._ended(judge, "its process closed the wire", queue, put)
            else:
                self._forget(judge)
                self._put_overdue(judge, queue, put)

    def _put_overdue(self, judge: _Judge, queue: deque[Chunk], put: Put) -> None:
        chunk, left = judge.chunk, list(judge.left)
        if chunk is None or not left:
            return
        if judge.each or len(left) == 1:
            timeout = self._rewards[chunk.reward].timeout
            put(chunk.reward, (left.pop(0), "timeout", None, f"no score within {timeout:g} s", ""))
            queue.extend([Chunk(chunk.reward, left)] if left else [])
        else:
            queue.extend(Chunk(chunk.reward, [position]) for position in left)

    def _ended(
        self, judge: _Judge, why: str, queue: deque[Chunk], put: Put, *, kill: bool = True, exclusive: bool = False
    ) -> None:
        """A process is gone; whom it was judging is tried once more alone, because it may not be to blame."""
        if not judge.ready:
            self._fruitless, self._last_cause = self._fruitless + 1, why
        self._forget(judge, kill=kill)
        chunk, left = judge.chunk, list(judge.left)
        if chunk is None or not left:
            return
        if chunk.deaths and (chunk.exclusive or not exclusive):
            put(chunk.reward, (left[0], "infrastructure", None, why, ""))
        elif judge.each:
            queue.append(Chunk(chunk.reward, left[:1], deaths=1, exclusive=exclusive))
            queue.extend([Chunk(chunk.reward, left[1:])] if left[1:] else [])
        else:
            queue.extend(Chunk(chunk.reward, [position]) for position in left)


def _end(keeper: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    """Close the wire, which ends the keeper and all that it keeps. A forked copy of the trainer leaves them alone."""
    control.close()
    if os.getpid() != owner:
        return
    try:
        keeper.wait(5)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
