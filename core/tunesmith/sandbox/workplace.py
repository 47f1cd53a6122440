"""A working folder on disk, for tiers that have none in memory."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")


class Workplace:
    """A fresh folder that is removed at the end, whatever was left in it."""

    def __init__(self) -> None:
        self.path = os.path.realpath(tempfile.mkdtemp(prefix="tunesmith-sandbox-"))
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def fill(self, files: Mapping[str, bytes], uid: int | None) -> None:
        """Write files, and give the folder to the user that will work in it."""
        for name, content in files.items():
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=self._fd)
            with open(fd, "wb") as stream:
                stream.write(content)
            if uid is not None:
                os.chown(name, uid, uid, dir_fd=self._fd)
        if uid is not None:
            os.chown(self.path, uid, uid)

    def take(self, name: str, most: int) -> bytes | None:
        """Contents of a file that was left, or ``None``: no ordinary file, a link, or too long."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except OSError:
            return None
        with open(fd, "rb") as stream:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > most:
                return None
            return stream.read(most)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        shutil.rmtree(self.path, ignore_errors=True)
        if os.path.lexists(self.path):  # deeper than rmtree goes
            subprocess.run(["rm", "-rf", "--", self.path], check=False, capture_output=True)


def check_names(files: Mapping[str, bytes], *others: str | None) -> str | None:
    """The first name that is no plain file name, or ``None``."""
    names = [*files, *(other for other in others if other is not None)]
    return next((name for name in names if not NAME.fullmatch(name)), None)
