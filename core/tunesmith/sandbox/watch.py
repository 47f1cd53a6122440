"""What a tree of processes holds in memory, looked at from outside, where no control group counts it."""

from __future__ import annotations

import os
import time

TICK, LONGEST = 0.02, 0.1
"""Seconds between two looks. On a machine with thousands of processes a look is work: then it takes an eighth of a
processor's time, but is never put off longer than the second number."""
WHOLE = 5
"""Every so many looks at all processes. Others are at those with higher numbers than the top only, which is where all
below it are, until numbers start again from the beginning."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Memory of a process and all below it.

    Args:
        pid: the process at the top.
        most: bytes that it may hold with all below it.
        folder: a folder on disk whose files count against ``scratch``, or ``None``.
        scratch: bytes of all files in ``folder``.
        inside: path, in the sandbox's own view, of files that are kept in memory; or ``None``.
    """

    def __init__(self, pid: int, most: int, folder: str | None, scratch: int, inside: str | None) -> None:
        self.pid, self.most, self.folder, self.scratch, self.inside = pid, most, folder, scratch, inside
        self.peak = 0
        self._looks = 0
        self.due = time.monotonic() + TICK

    def look(self) -> str | None:
        """What is too much by now (``memory`` or ``scratch``), or ``None``."""
        start = time.thread_time()
        found = self._over()
        self.due = time.monotonic() + min(LONGEST, max(TICK, 8 * (time.thread_time() - start)))
        return found

    def _over(self) -> str | None:
        self._looks += 1
        pids = below(self.pid, newer=self._looks % WHOLE != 0)
        kept = self._files_in_memory(pids)
        held = sum(map(resident, pids)) + kept
        if held > self.most:  # shared pages are counted once for each process here, so count again with care
            held = sum(map(proportional, pids)) + kept
        self.peak = max(self.peak, held)
        if held > self.most:
            return "memory"
        if self.folder is not None and on_disk(self.folder, self.scratch) > self.scratch:
            return "scratch"
        return None

    def _files_in_memory(self, pids: list[int]) -> int:
        if self.inside is None or len(pids) < 2:
            return 0
        try:  # the first below the top lives in the sandbox's mounts
            used = os.statvfs(f"/proc/{pids[1]}/root{self.inside}")
        except OSError:
            return 0  # the mount has a size of its own
        return (used.f_blocks - used.f_bfree) * used.f_frsize


def below(top: int, *, newer: bool = False) -> list[int]:
    """The process and all that descend from it, parents first; with ``newer`` only those with higher numbers."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and not (newer and int(name) <= top):
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    parent = int(stream.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it is gone
            parents.setdefault(parent, []).append(int(name))
    found = [top]
    for pid in found:
        found += sorted(parents.get(pid, ()))
    return found


def resident(pid: int) -> int:
    """Bytes in memory, those it shares with others included."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:
            return int(stream.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def proportional(pid: int) -> int:
    """Bytes in memory, each page divided by the number of processes that share it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
            for line in stream:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # not ours to look at: what it shares is then counted in full
        pass
    return resident(pid)


def on_disk(folder: str, enough: int) -> int:
    """Bytes of the files in a folder; counting ends when there is more than enough, or more than 1,000 entries."""
    total = 0
    waiting, seen = [folder], 0
    while waiting and total <= enough:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # it is gone
        if seen > 1000:
            return enough + 1
    return total
