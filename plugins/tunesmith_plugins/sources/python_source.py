"""Source code that every Python carries."""

from __future__ import annotations

import hashlib
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from tunesmith import Row, Source
from tunesmith_plugins.sources import stdlib


class PythonSource(Source):
    """Source files of Python's standard library, about 9 MB without tests: one row (text, name) a file, no download.

    The text depends on the Python that runs; the order is that of the names.
    """

    name: ClassVar[str] = "python-source"

    part: stdlib.Part = "all"
    """all, or a tenth of the files (test), or the others (train)."""
    max_files: int | None = Field(default=None, ge=1)
    """Read at most this many files."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice that max_files makes."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Few files."""
        return {"max_files": 10}

    def rows(self) -> Iterator[Row]:
        """Yield the files by name."""
        for name, path in stdlib.files(self.part, self.max_files, self.seed):
            with tokenize.open(path) as stream:  # honours a coding comment
                text = stream.read()
            if text.strip():
                yield Row({"text": text, "name": name}, name, 1)

    def fingerprint(self) -> str:
        """A hash of the files' names below the library and of their bytes."""
        digest = hashlib.sha256()
        for name, path in stdlib.files(self.part, self.max_files, self.seed):
            digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def label(self) -> str:
        """The name, and the part where it is not all of it."""
        return self.name if self.part == "all" else f"{self.name}-{self.part}"
