"""User ids for programs where we are root: the kernel does not hold root to its number of processes."""

from __future__ import annotations

import itertools
import os
import stat
import threading
import time
from functools import cache
from pathlib import Path

_count = itertools.count()
_lock = threading.Lock()
_own: list[tuple[float, int]] = []


def own_id() -> int | None:
    """A user id that no other program and nobody else has, where we are root; else ``None``."""
    if os.geteuid() != 0:
        return None
    # what a program leaves counts for its user until somebody has waited for it, so an id rests long before it is used
    # again
    number = os.getpid() * 4099 + next(_count)
    return 1_000_000_000 + number % 900_000_000 if _mapped() >= 2**31 else 40_000 + number % 20_000


@cache
def may_change_user() -> bool:
    """True where we hold the rights to become another user (CAP_SETGID and CAP_SETUID)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        held = next((int(line.split()[1], 16) for line in stream if line.startswith("CapEff")), 0)
    return held >> 6 & 3 == 3


@cache
def _mapped() -> int:
    """User ids that exist here, counted from 0; a container may have few."""
    with open("/proc/self/uid_map", encoding="ascii") as stream:
        return max(int(start) + int(size) for start, _, size in map(str.split, stream))


def may_enter(path: str) -> bool:
    """True where everybody may read the path and enter all folders above it."""
    found = Path(path).resolve()
    try:
        modes = [found.stat().st_mode, *(parent.stat().st_mode for parent in found.parents)]
    except OSError:
        return False
    return bool(modes[0] & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in modes[1:])


def running_tasks() -> int:
    """Processes and threads of our user, about; counted once a second at most."""
    with _lock:
        now = time.monotonic()
        if _own and now - _own[0][0] < 1.0:
            return _own[0][1]
        total = 0
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.stat(f"/proc/{name}").st_uid == os.geteuid():
                        total += len(os.listdir(f"/proc/{name}/task"))
                except OSError:
                    continue  # it is gone
        _own[:] = [(now, total)]
        return total
