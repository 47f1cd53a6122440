"""What attacks are after: secrets, a victim, listeners, a folder; and whether anything of it was reached."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tunesmith.sandbox.watch import below

SUBREAPER = 36
PLACES = [os.path.join(folder, "tunesmith-attack") for folder in ("/var/tmp", "/tmp", os.path.expanduser("~"))]
"""Files that attacks try to write, outside of the prey's own folder."""
VARIABLE = "TUNESMITH_CANARY"


class Prey:
    """Things to attack, ours to lose. Everything is as open as a user's things can be."""

    def __init__(self) -> None:
        self.secret = "secret-" + secrets.token_hex(12)
        self.folder = Path(tempfile.mkdtemp(prefix="prey-", dir=_open_folder()))
        self.folder.chmod(0o777)
        self.file = self.folder / "token"
        self.file.write_text(self.secret)
        self.file.chmod(0o666)
        os.environ[VARIABLE] = self.secret
        self.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", self.secret],
            env={VARIABLE: self.secret},
        )
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0" + self.secret[:20])
        self.path = socket.socket(socket.AF_UNIX)
        self.path.bind(str(self.folder / "socket"))
        (self.folder / "socket").chmod(0o777)
        for listener in (self.abstract, self.path):
            listener.listen()
        for listener in (self.tcp, self.udp, self.abstract, self.path):
            listener.setblocking(False)
        read, self.write_end = os.pipe()
        os.write(self.write_end, self.secret.encode())
        os.set_inheritable(read, True)
        self.read_end = read
        self.held = ctypes.create_string_buffer(self.secret.encode())
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # what is left behind then becomes a child of ours
        self.before = self._children()

    def known(self) -> dict[str, Any]:
        """What a program is told, so that guessing is not what holds it."""
        return {
            "secret_hash": hash_of(self.secret),
            "variable": VARIABLE,
            "folder": str(self.folder),
            "file": str(self.file),
            "victim": self.victim.pid,
            "parent": os.getpid(),
            "address": ctypes.addressof(self.held),
            "length": len(self.secret),
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": self.secret[:20],
            "socket": str(self.folder / "socket"),
            "home": os.path.expanduser("~"),
            "devices": [str(path) for path in Path("/dev").glob("*") if not path.is_dir()][:200],
        }

    def reached(self) -> str | None:
        """What an attack has changed or left behind, or ``None``."""
        if self.victim.poll() is not None:
            return "the victim was ended"
        if self.file.read_text() != self.secret or sorted(p.name for p in self.folder.iterdir()) != ["socket", "token"]:
            return "a file of ours was changed"
        for place in PLACES:
            if os.path.lexists(place):
                return f"{place} was written"
        for listener in (self.tcp, self.udp, self.abstract, self.path):
            try:
                listener.recv(1) if listener is self.udp else listener.accept()[0].close()
            except BlockingIOError:
                continue
            return "a listener of ours was reached"
        left = self._left()
        return f"{left} processes are left" if left else None

    def _left(self) -> int:
        """Processes that are new below us, once those that are being taken down had time to go."""
        for _ in range(40):
            left = self._children() - self.before
            if not left:
                return 0
            time.sleep(0.05)
        return len(left)

    def _children(self) -> set[int]:
        found = {pid for pid in below(os.getpid()) if pid != self.victim.pid}
        for pid in [pid for pid in found if _gone(pid)]:
            found.remove(pid)
            with contextlib.suppress(ChildProcessError):  # what has ended and became ours
                os.waitpid(pid, os.WNOHANG)
        return found

    def close(self) -> None:
        """Give everything back."""
        ctypes.CDLL(None).prctl(SUBREAPER, 0, 0, 0, 0)
        self.victim.kill()
        self.victim.wait()
        os.environ.pop(VARIABLE, None)
        for listener in (self.tcp, self.udp, self.abstract, self.path):
            listener.close()
        os.close(self.read_end)
        os.close(self.write_end)
        shutil.rmtree(self.folder, ignore_errors=True)
        for place in PLACES:
            if os.path.isfile(place):
                os.unlink(place)

    def __enter__(self) -> Prey:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hash_of(text: str) -> int:
    """A number by which a program knows a secret when it has found it, without having it (FNV-1a)."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _gone(pid: int) -> bool:
    """True for a process that is no more, or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def _open_folder() -> str:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
