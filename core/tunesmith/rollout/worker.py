"""The processes that judge.

A *keeper* loads the rewards once and forks the *judges*, so that one that hangs or dies is replaced in milliseconds.
Where forking is not safe (a reward has started threads or processes, opened connections, or imported torch), the
keeper becomes a fresh interpreter that starts every judge as one. The keeper is the parent of all judges and the
reaper of what they leave behind; it ends, and they with it, when the trainer closes its end of the wire or dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import pickle
import select
import signal
import socket
import stat
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from tunesmith.components import Reward
from tunesmith.errors import TunesmithError
from tunesmith.rollout.judging import judged, raised_at, said
from tunesmith.rollout.wire import Frames, Parcel, pack, parcels, receive, unpack

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from tunesmith.rollout.worker import main; main(sys.argv[1], int(sys.argv[2]))"
)
FORK, SPAWN = "fork", "spawn"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def command(role: str, descriptor: int) -> list[str]:
    """The command line of a keeper or a judge that talks over an inherited descriptor."""
    path = [os.path.abspath(entry) for entry in sys.path]
    return [sys.executable, "-P", "-c", BOOT, role, str(descriptor), json.dumps(path)]


def main(role: str, descriptor: int) -> NoReturn:
    """Be a keeper that loads and forks (``keep``), one that only starts interpreters (``spawn``), or a judge."""
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the trainer is gone
        _be(role, channel)
    os._exit(0)


def _be(role: str, channel: socket.socket) -> None:
    if role == "judge":
        _die_with_parent()
        payload = receive(channel)
        rewards = None if payload is None else _loaded(channel, payload)
        if rewards is not None:
            serve(channel, rewards)
    elif role == SPAWN:
        _Keeper(channel, None).run()
    else:
        _keep(channel)


def _tell(channel: socket.socket, message: Any) -> None:
    channel.sendall(pack(json.dumps(message).encode()))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------- loading
def _loaded(channel: socket.socket, payload: bytes) -> list[Reward] | None:
    """Import and warm every reward; where one cannot be made ready, say which and why."""
    rewards: list[Reward] = []
    for index, sent in enumerate(parcels(payload)):
        try:
            rewards.append(_ready(sent))
        except BaseException as error:  # importing and warming run anybody's code
            _tell(channel, {"failed": {"reward": index, **described(error)}})
            return None
    return rewards


def _ready(sent: Parcel) -> Reward:
    reward = unpack(sent)
    reward.warm()
    return reward


def described(error: BaseException) -> dict[str, Any]:
    """An exception as plain values."""
    if isinstance(error, TunesmithError):
        return {"kind": type(error).__name__, **{k: getattr(error, k) for k in ("what", "where", "why", "fix")}}
    return {
        "kind": type(error).__name__,
        "missing": isinstance(error, ImportError),
        "trace": f"{said(error)}\n{raised_at(error)}",
    }


def _keep(channel: socket.socket) -> None:
    before = _connections()
    payload = receive(channel)
    rewards = None if payload is None else _loaded(channel, payload)
    if rewards is None:
        return
    if _forkable(before):
        _tell(channel, {"loaded": FORK})
        gc.collect()
        gc.freeze()  # what is shared with the judges stays shared
        _Keeper(channel, rewards).run()
    else:
        _tell(channel, {"loaded": SPAWN})
        channel.set_inheritable(True)
        arguments = command(SPAWN, channel.fileno())
        os.execv(arguments[0], arguments)


def _forkable(before: set[str]) -> bool:
    tasks = "/proc/self/task"
    threads = len(os.listdir(tasks)) if os.path.isdir(tasks) else threading.active_count()
    return threads == 1 and "torch" not in sys.modules and not _children() and _connections() <= before


def _connections() -> set[str]:
    """Descriptors that must not be shared: sockets, pipes and what the kernel polls with."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one that listed the folder is closed again
            mode = os.fstat(int(name)).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISCHR(mode)):
                found.add(name)
    return found


def _children() -> set[int]:
    """Processes whose parent is this one, also those that were orphaned below it."""
    own, found = os.getpid(), set()
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # the name of the program, in parentheses, may hold anything
                if int(file.read().rpartition(b")")[2].split()[1]) == own:
                    found.add(int(name))
    return found


# ---------------------------------------------------------------------------------------------- keeping
class _Keeper:
    """Starts, kills and reaps judges as it is told; ``rewards`` is ``None`` where each judge loads its own."""

    def __init__(self, control: socket.socket, rewards: Sequence[Reward] | None) -> None:
        self.control, self.rewards = control, rewards
        self.judges: dict[int, int] = {}  # process id to the trainer's number
        self.descriptors: list[int] = []

    def run(self) -> None:
        """Until the trainer is gone."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be written to the pipe
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        frames = Frames()
        while True:
            ready, _, _ = select.select([self.control.fileno(), self.wake], [], [])
            if self.wake in ready:
                os.read(self.wake, 4096)
                self.reap()
            if self.control.fileno() in ready:
                data, descriptors, _, _ = socket.recv_fds(self.control, 65536, 64)
                if not data:
                    break
                self.descriptors += descriptors
                for message in frames.feed(data):
                    self.obey(json.loads(message))
        for process in self.judges:
            _kill_group(process)
        self.sweep()

    def obey(self, message: dict[str, int]) -> None:
        """``{"start": number}`` with a descriptor, or ``{"kill": number}``."""
        if "kill" in message:
            for process, number in self.judges.items():
                if number == message["kill"]:
                    _kill_group(process)
            return
        descriptor = self.descriptors.pop(0)
        try:
            process = self.fork(descriptor) if self.rewards is not None else _spawn(descriptor)
            self.judges[process] = message["start"]
        except OSError as error:
            _tell(self.control, {"exited": message["start"], "why": f"it could not be started: {error}"})
        finally:
            os.close(descriptor)

    def fork(self, descriptor: int) -> int:
        """A judge that has everything in memory already."""
        process = os.fork()
        if process:
            return process
        try:
            _die_with_parent()
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self.wake)
            self.control.close()
            assert self.rewards is not None
            serve(socket.socket(fileno=os.dup(descriptor)), self.rewards)
            os._exit(0)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the trainer has no use for it any more
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(1)  # never return into the keeper's loop, whatever happens

    def reap(self) -> None:
        """Collect the dead, tell the trainer, and kill what a judge left running."""
        for process, status in _dead():
            number = self.judges.pop(process, None)
            if number is not None:
                _kill_group(process)
                _tell(self.control, {"exited": number, "why": _cause(status)})
        self.sweep()

    def sweep(self) -> None:
        """Kill processes that outlived their judge; what comes up behind them is found when they are reaped."""
        for process in _children() - set(self.judges):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _dead() -> Iterator[tuple[int, int]]:
    """Children that ended, collected as they are yielded, with what `os.waitstatus_to_exitcode` makes of them."""
    with contextlib.suppress(ChildProcessError):  # there are none left
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            yield found[0], os.waitstatus_to_exitcode(found[1])


def _kill_group(process: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have become the leader of its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(process, signal.SIGKILL)


def _spawn(descriptor: int) -> int:
    os.set_inheritable(descriptor, True)
    arguments = command("judge", descriptor)
    return os.posix_spawn(arguments[0], arguments, os.environ, setsid=True)


def _cause(code: int) -> str:
    if code >= 0:
        return f"its process ended with status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"its process was killed by {name}"


# ---------------------------------------------------------------------------------------------- judging
def serve(channel: socket.socket, rewards: Sequence[Reward]) -> None:
    """Judge what arrives until the trainer is gone: ``begin``, a report for each completion, ``done``."""
    own = os.getpid()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")  # when memory runs out, this process goes before the trainer does

    def report(message: Any) -> None:
        if os.getpid() != own:  # a reward forked and came back twice
            os._exit(0)
        try:
            _tell(channel, message)
        except OSError:  # nobody listens any more, or a reward closed what is not its own
            os._exit(1)

    report("ready")
    while (job := receive(channel)) is not None:
        index, rollouts = pickle.loads(job)
        report("begin")
        for message in judged(rewards[index], rollouts):
            report(message)
        report("done")
