"""What the Landlock tier lets a program reach: rules for the kernel, made outside and put in force inside."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from functools import cache

CREATE_RULESET = 444
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1, 2, 4, 8, 0x10, 0x20
MAKE_DIR, MAKE_REG, TRUNCATE, IOCTL = 0x80, 0x100, 0x4000, 0x8000
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE | MAKE_DIR | REMOVE_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
OLDEST = 4
"""The first version that governs TCP."""
SCOPES = 6
"""The first version that governs abstract sockets and signals."""


@cache
def version() -> int:
    """Version of Landlock that the kernel offers; 0 where it has none or it is switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def attributes() -> bytes:
    """What is governed: every access to files, TCP, and from version 6 on abstract sockets and signals."""
    files = 0xFFFF if version() >= 5 else 0x7FFF
    return struct.pack("<QQQ", files, 3, 3) if version() >= SCOPES else struct.pack("<QQ", files, 3)


def rules(readable: Iterable[str], writable: Iterable[str]) -> list[tuple[str, int]]:
    """Paths with what is allowed below them; nothing else is."""
    found = [(path, READ if os.path.isdir(path) else READ & ON_FILES) for path in readable if os.path.exists(path)]
    found += [(path, WRITE) for path in writable]
    devices = {"/dev/null": READ_FILE | WRITE_FILE, "/dev/urandom": READ_FILE, "/dev/random": READ_FILE}
    return [*found, *((path, allowed) for path, allowed in devices.items() if os.path.exists(path))]
