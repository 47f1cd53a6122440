"""Local files."""

from __future__ import annotations

import atexit
import functools
import glob
import hashlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from tunesmith import ConfigError, DataError, Row, Source
from tunesmith_plugins.sources import readers


class Files(Source):
    """JSON lines, JSON, CSV, TSV, Parquet or text (also .gz, .zst): a file, a folder, a glob, or - for standard input.

    A text file is one row with the column text, exactly as it stands in the file. Files of a folder or glob are read
    in the order of their names; names that begin with a dot are left out.
    """

    name: ClassVar[str] = "files"
    priority: ClassVar[int] = 100

    path: str = Field(min_length=1)
    """File, folder, glob such as ``data/*.jsonl``, or ``-`` for standard input."""
    type: readers.FileType | None = None
    """How to read the files; by default what their extensions say (standard input: jsonl, json or parquet)."""
    pattern: str | None = Field(default=None, min_length=1)
    """Read only files of the folder that match this, such as ``*.jsonl`` or ``train/*.txt``."""
    streaming: bool = False
    """Read rows while training instead of all of them before it."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A file of three rows."""
        path = folder / "rows.jsonl"
        path.write_text("".join(f'{{"text": "Row {number}."}}\n' for number in range(3)), encoding="utf-8")
        return {"path": str(path)}

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """Every path that exists, every glob that matches, and ``-``."""
        path = os.path.expanduser(word)
        if word == "-" or (os.path.exists(path) and not readers.is_saved_dataset(path)):
            return {"path": word}
        if not os.path.exists(path) and any(True for _ in glob.iglob(path, recursive=True)):
            return {"path": word}
        return None

    def rows(self) -> Iterator[Row]:
        """Yield the rows, file after file. Raises `DataError` with the file and line of what cannot be read."""
        for path, kind, compression, name in self._files():
            yield from readers.read(path, kind, name=name, compression=compression)

    def fingerprint(self) -> str:
        """A hash of the bytes of all files and of how they are read."""
        digest = hashlib.sha256()
        for path, kind, compression, name in self._files():
            digest.update(f"{kind}{compression}\n".encode())
            try:
                with open(path, "rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise DataError(f"cannot read {name}", why=error.strerror) from None
        return digest.hexdigest()

    @property
    def streams(self) -> bool:
        """The setting ``streaming``."""
        return self.streaming

    def label(self) -> str:
        """The file's name without extensions, or the folder's name."""
        if self.path == "-":
            return "stdin"
        path = Path(os.path.expanduser(self.path))
        if path.is_dir():
            return path.resolve().name or str(path)
        if not path.exists() and glob.has_magic(self.path):
            fixed = [part for part in path.parents if not glob.has_magic(str(part))]
            return fixed[0].resolve().name or self.path
        return readers.stem(path.name)

    def _files(self) -> list[tuple[Path, readers.FileType, str, str]]:
        """Path, type, compression and name for messages of every file, in order."""
        path = Path(os.path.expanduser(self.path))
        if self.path == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
            self._refuse_pattern("a stream")
            return [self._stream()]
        if path.is_dir():
            found = self._below(path)
        elif path.exists():
            self._refuse_pattern("a file")
            found = [path]
        else:
            matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
            found = [file for match in matches for file in (self._below(match) if match.is_dir() else [match])]
        found = sorted(set(found), key=lambda file: file.as_posix())
        if not found:
            what = "there is no file" if not path.is_dir() else "the folder holds no file"
            raise DataError(f"{what} {f'that matches {self.pattern}' if self.pattern else ''}".strip(), where=self.path)
        self._check_types(found)
        return [(file, self._type(file), _compression(file), str(file)) for file in found]

    def _refuse_pattern(self, what: str) -> None:
        if self.pattern is not None:
            raise ConfigError(f"pattern narrows a folder, and {self.path} is {what}", fix="leave pattern out")

    def _below(self, folder: Path) -> list[Path]:
        try:
            found = list(folder.rglob(self.pattern or "*"))
        except (NotImplementedError, ValueError) as error:
            raise ConfigError(f"pattern {self.pattern!r} cannot be used: {error}", fix="write *.jsonl") from None
        hidden = [any(part.startswith(".") for part in file.relative_to(folder).parts) for file in found]
        return [file for file, skip in zip(found, hidden, strict=True) if file.is_file() and not skip]

    def _type(self, file: Path) -> readers.FileType:
        kind = self.type or readers.file_type(file.name)
        assert kind is not None, file
        return kind

    def _check_types(self, found: Iterable[Path]) -> None:
        unknown = [file for file in found if self.type is None and readers.file_type(file.name) is None]
        if not unknown:
            return
        counts = Counter(file.suffix or "no extension" for file in unknown).most_common(6)
        one = len(unknown) == 1
        raise DataError(
            f"{'a file is' if one else f'{len(unknown):,} files are'} of a type that cannot be told from the name",
            where=", ".join(str(file) for file in unknown[:3]) + ("" if len(unknown) <= 3 else ", ..."),
            why=f"extensions: {', '.join(f'{suffix} ({count:,})' for suffix, count in counts)}",
            fix="set type (jsonl, json, csv, tsv, parquet or text)"
            + (', or pattern: "*.jsonl" to read a part of the folder' if os.path.isdir(self.path) else ""),
        )

    def _stream(self) -> tuple[Path, readers.FileType, str, str]:
        name = "standard input" if self.path == "-" else self.path
        kept = _kept(self.path)
        with open(kept, "rb") as stream:
            magic = stream.read(4)
        compression = {b"\x1f\x8b": ".gz", b"\x28\xb5": ".zst"}.get(magic[:2], "none")
        kind = self.type or readers.file_type(self.path)
        if kind is None:
            with readers.opened(kept, compression, name) as stream:
                head = stream.read(4096)
            start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            kind = "parquet" if head.startswith(b"PAR1") else "json" if start == b"[" else "jsonl"
        return kept, kind, compression, name


def _compression(file: Path) -> str:
    suffix = file.suffix.lower()
    return suffix if suffix in readers.COMPRESSED else "none"


@functools.cache
def _kept(path: str) -> Path:
    """A copy of what can be read only once, for as long as the process lives."""
    if path == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("- reads rows from standard input, which is a terminal", fix="pipe them in: ... | tunesmith")
    handle, name = tempfile.mkstemp(prefix="tunesmith-")
    atexit.register(Path(name).unlink, missing_ok=True)
    with open(handle, "wb") as copy:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with open(path, "rb") as stream:
                shutil.copyfileobj(stream, copy)
    return Path(name)
