"""The ways to shut a program in: how each is started, and what it needs.

``bubblewrap``: mounts, processes, network, IPC and users of its own, nothing writable but a small folder in memory,
no capability, a filter of system calls, limits that are set inside. ``landlock``: the kernel's rules about files, TCP,
signals and abstract sockets, with a stricter filter; processes of the machine share its numbers but cannot be seen
or signalled. ``none``: limits only.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tunesmith.sandbox import landlock, seccomp, users

Tier = Literal["bubblewrap", "landlock", "none"]
TIERS: tuple[Tier, ...] = ("bubblewrap", "landlock", "none")
"""Strongest first."""
WORK = "/tmp"
"""Working folder as a program in the strongest tier sees it: in memory, and gone with the program."""
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
BOOT = (
    "import sys,marshal;r=marshal.loads(open(int(sys.argv[1]),'rb',closefd=False).read());"
    "s={};exec(r['launcher'],s);s['main'](r)"
)


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a program in a tier.

    Attributes:
        argv: the command; the number of the descriptor with the request is added to it.
        cwd: working folder outside.
        uid: what the program gives up being root for, or ``None``.
        fields: what the request says in this tier beside what it says in all.
        watched: path of the files in memory, in the view of the program.
    """

    argv: list[str]
    cwd: str
    uid: int | None
    fields: Mapping[str, Any]
    watched: str | None = None


@cache
def interpreter() -> tuple[str, str]:
    """The Python that programs get, and the folder that it lives in."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return os.path.realpath(base), sys.base_prefix


@cache
def open_interpreter() -> tuple[str, str] | None:
    """A Python that a user without rights can start, or ``None``."""
    own, prefix = interpreter()
    if os.geteuid() != 0 or (users.may_enter(own) and users.may_enter(os.__file__)):
        return own, prefix
    return ("/usr/bin/python3", "/usr") if users.may_enter("/usr/bin/python3") else None


def system_paths() -> list[str]:
    """Folders of the system's programs and libraries."""
    return ["/usr", *(path for path in SYSTEM if os.path.isdir(path))]


def start(tier: Tier, *, readable: Sequence[str], folder: str | None, writable: bool, scratch: int, fd: int) -> Start:
    """How to start a program.

    Args:
        tier: the tier.
        readable: what it may read beside the system and its interpreter.
        folder: its working folder on disk, for tiers that need one.
        writable: whether it may write there.
        scratch: bytes of files.
        fd: descriptor that holds the filter, for the tier that hands it over.
    """
    uid = users.own_id() if tier != "none" or users.may_change_user() else None
    if tier == "bubblewrap":
        return Start(_bubblewrap(readable, scratch, fd), "/", uid, {"landlock": None}, WORK)
    found = open_interpreter()
    assert found is not None, "the probe has refused"
    python, prefix = found
    plain = [python, "-I", "-S", "-X", "utf8", "-c", BOOT]
    if tier == "none":
        return Start(plain, folder or "/", uid, {"landlock": None})
    closed = [path for path in readable if uid is not None and os.path.exists(path) and not users.may_enter(path)]
    if closed:
        raise PermissionError(f"programs of root run as nobody in this tier, and nobody can read {closed[0]}")
    paths = [*system_paths(), prefix, "/etc/ld.so.cache", *readable]
    may_write = [folder] if folder and writable else []
    shut = {
        "parent": os.getpid(),
        "attributes": landlock.attributes(),
        "paths": landlock.rules([*paths, *([folder] if folder else [])], may_write),
        "filter": seccomp.make_filter(exposed=True, signals=landlock.version() < landlock.SCOPES),
    }
    return Start(plain, folder or "/", uid, {"landlock": shut})


def _bubblewrap(readable: Sequence[str], scratch: int, fd: int) -> list[str]:
    """The command. It holds nothing that a program may not read: it can see its own beginning."""
    python, prefix = interpreter()
    argv = [*_namespaces(), *_bound([prefix, *readable])]
    argv += ["--perms", "1777", "--size", str(scratch), "--tmpfs", WORK, "--remount-ro", "/", "--chdir", WORK]
    return [*argv, "--seccomp", str(fd), "--", python, "-I", "-S", "-X", "utf8", "-c", BOOT]


@cache
def _namespaces() -> tuple[str, ...]:
    """What is the same for all programs."""
    root = os.geteuid() == 0
    argv = [bubblewrap_path() or "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    # root mounts with its own rights and hands the program to a user id that is nobody's: inside a user namespace it
    # would stay root in the eyes of the kernel, and free to start as many processes as it likes
    argv += [] if root else ["--unshare-user", "--disable-userns"]
    argv += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else []
    argv += ["--ro-bind", "/usr", "/usr"]
    for path in SYSTEM:
        if os.path.islink(path):
            argv += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            argv += ["--ro-bind", path, path]
    argv += ["--proc", "/proc", "--ro-bind", "/dev/null", "/proc/cmdline"]
    for device in ("/dev/null", "/dev/urandom"):
        argv += ["--dev-bind", device, device]
    links = {"/dev/random": "/dev/urandom", "/dev/fd": "/proc/self/fd", "/dev/shm": WORK}
    return (*argv, *(part for name, target in links.items() for part in ("--symlink", target, name)))


def _bound(paths: Sequence[str]) -> list[str]:
    """Read-only paths of our own, with folders above them that everybody may enter: by default they are as closed as
    those outside."""
    own = [path for path in dict.fromkeys(paths) if not path.startswith("/usr/") and path != "/usr"]
    above = sorted({str(parent) for path in own for parent in Path(path).parents} - {"/"})
    argv = [part for folder in above for part in ("--perms", "0755", "--dir", folder)]
    return argv + [part for path in own for part in ("--ro-bind-try", path, path)]


@cache
def bubblewrap_path() -> str | None:
    """The program of the strongest tier, or ``None`` where it is not installed."""
    return shutil.which("bwrap")
