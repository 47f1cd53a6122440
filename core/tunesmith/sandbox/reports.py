"""What comes back from a sandbox beside the program's own output."""

from __future__ import annotations

import re
import time

from tunesmith.sandbox.limits import Report
from tunesmith.sandbox.plain import read_plain

READY, UNREADABLE = b"ready\n", b"unreadable\n"
FILE = re.compile(rb"file ([0-9]{1,12})\n")
NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Channel:
    """The private descriptor: first that the sandbox is ready, then what was asked for.

    Args:
        nonce: begins every line with the value of a call; ``None`` where no calls are made.
        most: bytes that are kept.
    """

    def __init__(self, nonce: str | None, most: int) -> None:
        self.nonce, self.most = nonce, most
        self.ready: float | None = None
        self.heard = 0.0
        self._data = bytearray()

    def feed(self, data: bytes) -> bool:
        """Keep bytes; False where they are too many."""
        self._data += data
        now = time.monotonic()
        if self.ready is None and self._data.startswith(READY):
            self.ready = self.heard = now
            del self._data[: len(READY)]
        elif b"\n" in data:
            self.heard = now
        return len(self._data) <= self.most

    @property
    def unreadable(self) -> bool:
        """True where the program's text is no Python."""
        return self._data == UNREADABLE

    def collected(self) -> bytes | None:
        """The file that was asked for, where all of it has come."""
        found = FILE.match(self._data)
        if found is None:
            return None
        content = bytes(self._data[found.end() :])
        return content if len(content) == int(found[1]) else None

    def reports(self) -> dict[int, Report]:
        """What the calls gave, by number. Lines without the nonce, out of order or cut off end the list."""
        found: dict[int, Report] = {}
        if self.nonce is None:
            return found
        lines = self._data.split(b"\n")[:-1]
        for number, line in enumerate(lines):
            start = b"%s %d " % (self.nonce.encode(), number)
            if not line.startswith(start):
                break
            found[number] = _report(bytes(line[len(start) :]))
        return found


def _report(text: bytes) -> Report:
    if text.startswith(b"!"):
        name = NAME.match(text[1:])
        return Report(error=name[0].decode() if name else "exception")
    try:
        return Report(value=read_plain(text))
    except (ValueError, RecursionError) as error:
        return Report(error=f"no plain data: {error}")
