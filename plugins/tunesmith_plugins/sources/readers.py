"""Reading rows out of files: JSON lines, JSON, CSV, TSV, Parquet and plain text, perhaps compressed.

Everything but a JSON document, a text file and a compressed Parquet file is read piece by piece, so memory does not
grow with the file. A record that alone cannot be read becomes a row with its problem, so that it can be counted or
skipped; a file that is damaged, or is something else than its name says, is a `DataError`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from tunesmith import DataError, Row

FileType = Literal["jsonl", "json", "csv", "tsv", "parquet", "text"]
PROSE = "txt text md markdown rst tex html htm xml"
CODE = "py pyi js jsx ts tsx java kt scala c h cc cpp hpp cs go rs rb php swift r jl lua pl hs ml sh bash sql css"
EXTENSIONS: Mapping[str, FileType] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    **{f".{word}": "text" for word in f"{PROSE} {CODE}".split()},
}
COMPRESSED = (".gz", ".zst")
BATCH_ROWS = 256
"""Rows of a Parquet file in memory at a time."""


def file_type(name: str) -> FileType | None:
    """What the extension says, less that of a compression; ``None``: unknown."""
    path = Path(name.lower())
    return EXTENSIONS.get((path.with_suffix("") if path.suffix in COMPRESSED else path).suffix)


def stem(name: str) -> str:
    """The file's name without its extensions."""
    path = Path(name)
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.stem if inner.suffix.lower() in EXTENSIONS else inner.name


def is_saved_dataset(folder: str) -> bool:
    """True for a folder that ``save_to_disk`` of the datasets library wrote."""
    there = [os.path.isfile(os.path.join(folder, f"{name}.json")) for name in ("dataset_dict", "state", "dataset_info")]
    return there[0] or (there[1] and there[2])


def read(path: Path, kind: FileType, *, name: str, compression: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        path: where the bytes are.
        kind: how to read them.
        name: what to call the file in rows and messages.
        compression: ``.gz`` or ``.zst``; by default what the extension of ``path`` says.
    """
    try:
        with opened(path, compression or path.suffix.lower(), name) as stream:
            for line, record in _READERS[kind](stream, name):
                if isinstance(record, BadRecord):
                    yield Row({}, name, line, problem=str(record))
                else:
                    yield Row(record, name, line)
    except OSError as error:
        raise DataError(f"cannot read {name}", why=error.strerror or str(error)) from None


@contextmanager
def opened(path: Path, compression: str, name: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed; a damaged archive is a `DataError` whenever it shows."""
    if compression == ".gz":
        try:
            with gzip.open(path) as stream:
                yield cast(BinaryIO, stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(name, "gzip", error) from None
    elif compression == ".zst":
        import pyarrow as pa

        if not pa.Codec.is_available("zstd"):
            raise DataError(f"cannot read {name}: this pyarrow was built without zstd", fix="decompress the file")
        with open(path, "rb"):  # a missing or forbidden file shows here: below, every OSError is damage
            pass
        try:
            with pa.input_stream(str(path), compression="zstd") as native:
                yield cast(BinaryIO, io.BufferedReader(native))
        except OSError as error:
            raise _damaged(name, "zstd", error) from None
    else:
        with open(path, "rb") as stream:
            yield stream


def _damaged(name: str, kind: str, error: Exception) -> DataError:
    why = str(error) or type(error).__name__
    return DataError(f"{name} is not a whole {kind} file", why=why, fix="copy or compress it again")


class BadRecord(ValueError):
    """Why a record cannot be read; the caller knows its file and line.

    Attributes:
        problem: what a parser called it, less the place.
    """

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem


Numbered = Iterator[tuple[int, Mapping[str, Any] | BadRecord]]


# ---------------------------------------------------------------------------------------------- text
def decode(raw: bytes) -> str:
    """Strict UTF-8, without a byte order mark. Raises `BadRecord` with the byte and what stands around it."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        near = raw[max(0, error.start - 30) : error.start + 20].decode("utf-8", "backslashreplace")
        line = 1 + raw.count(b"\n", 0, error.start)
        at = f"line {line:,}, " if b"\n" in raw[:-1] else ""
        raise BadRecord(f"not valid UTF-8: {at}byte 0x{raw[error.start]:02x} near: {excerpt(near)}") from None


def _refuse_other(start: bytes, name: str) -> None:
    """Files of lines: find out at the first line that the whole file is something else."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{name} is UTF-16, not UTF-8", fix="convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{name} is a Git LFS pointer, not the file itself", fix="git lfs pull")


def _text(stream: BinaryIO, name: str) -> Numbered:
    """One row per file; a file with nothing but white space holds no row."""
    raw = stream.read()
    _refuse_other(raw[:64], name)
    try:
        content = decode(raw)
    except BadRecord as error:
        yield 1, error
    else:
        if content.strip():
            yield 1, {"text": content}


def excerpt(text: str, at: int = 0) -> str:
    """Some 60 characters around position ``at`` that are safe to print."""
    text, start = text.rstrip(), max(0, at - 30)
    piece = text[start : start + 60]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in piece)
    return f"{'...' if start else ''}{shown}{'...' if start + 60 < len(text) else ''}"


# ---------------------------------------------------------------------------------------------- JSON
def _jsonl(stream: Iterable[bytes], name: str) -> Numbered:
    first = True
    for number, raw in enumerate(stream, start=1):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            continue
        if first:
            first = False
            _refuse_other(raw, name)
            if raw.lstrip().startswith(b"["):
                raise DataError(f"{name} is a JSON list, not JSON lines", fix="name it .json, or set type: json")
        try:
            yield number, _object(_json(decode(raw)))
        except BadRecord as error:
            yield number, error


def _json_document(stream: BinaryIO, name: str) -> Numbered:
    """A list of objects, an object of columns, or JSON lines under the wrong extension."""
    raw = stream.read()
    _refuse_other(raw[:64], name)
    if not raw.strip():
        return
    try:
        value = _json(decode(raw))
    except BadRecord as error:
        if error.problem == SEVERAL:
            yield from _jsonl(io.BytesIO(raw), name)
            return
        raise DataError(f"{name} is not a JSON file", why=str(error)) from None
    if not isinstance(value, list):
        yield from _columns(value, name)
        return
    for number, item in enumerate(value, start=1):
        try:
            yield number, _object(item)
        except BadRecord as error:
            yield number, error


def _columns(value: Any, name: str) -> Numbered:
    columns: dict[str, Any] = value if isinstance(value, dict) else {"": None}
    lengths = {key: len(item) for key, item in columns.items() if isinstance(item, list)}
    if len(lengths) < len(columns) or len(set(lengths.values())) > 1:
        found = f"columns of the lengths {lengths}" if len(set(lengths.values())) > 1 else json.dumps(value)
        raise DataError(
            f"{name} is neither a list of objects nor an object of columns of equal length",
            why=f"found: {excerpt(found)}",
            fix="if every line is a row, name it .jsonl or set type: jsonl",
        )
    for number in range(1, 1 + min(lengths.values(), default=0)):
        yield number, {key: item[number - 1] for key, item in columns.items()}


SEVERAL = "Extra data"
"""What Python's parser calls a second value after the first."""


def _json(text: str) -> Any:
    text = text.rstrip()  # or a line that breaks off would be wrong in column 1 of the next line
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno:,}, " if "\n" in text else ""
        problem, at, place = error.msg, error.pos, f" at {line}column {error.colno:,}"
    except RecursionError:
        problem, at, place = "nested too deeply", 0, ""
    except ValueError as error:
        problem, at, place = str(error), 0, ""
    hint = "; names and text stand in double quotes" if text.lstrip().startswith("{'") else ""
    raise BadRecord(f"not valid JSON: {problem}{place}, near: {excerpt(text, at)}{hint}", problem)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two entries with one name Python would drop the first without a word."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in names if names.count(key) > 1)!r} is there twice in one object")
    return value


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRecord(f"not a JSON object of columns: {excerpt(json.dumps(value, ensure_ascii=False))}")
    return value


# ---------------------------------------------------------------------------------------------- tables
def _csv(stream: Iterable[bytes], name: str) -> Numbered:
    yield from _table(stream, name, ",")


def _tsv(stream: Iterable[bytes], name: str) -> Numbered:
    yield from _table(stream, name, "\t")


def _table(stream: Iterable[bytes], name: str, delimiter: str) -> Numbered:
    """Rows under a header; values are text. A record may span lines, and is numbered by the first of them."""
    csv.field_size_limit(2**31 - 1)  # of the process: the default refuses documents over 128 KiB
    records = csv.reader(_table_lines(stream, name), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first = records.line_num + 1
        try:
            record = next(records, None)
        except csv.Error as error:
            raise DataError(
                f"not a valid table: {error}",
                where=f"{name}, the row that begins in line {first:,}",
                fix='put a field that holds a delimiter, quote or line break in quotes, and write " as ""',
            ) from None
        if record is None:
            return
        if not record:
            continue
        if header is None:
            header = _header(record, name, first)
        else:
            yield first, _record(header, record, delimiter)


def _table_lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Bytes that are not UTF-8 become lone surrogates, so that they spoil their own row only."""
    for number, raw in enumerate(stream, start=1):
        if number == 1:
            _refuse_other(raw, name)
            raw = raw.removeprefix(codecs.BOM_UTF8)
        yield raw.decode("utf-8", "surrogateescape")


def _record(header: list[str], record: list[str], delimiter: str) -> Mapping[str, Any] | BadRecord:
    joined = delimiter.join(record)
    if not joined.isascii():
        try:
            decode(joined.encode("utf-8", "surrogateescape"))
        except BadRecord as error:
            return error
    if len(record) != len(header):
        many = "" if len(record) == 1 else "s"
        return BadRecord(f"{len(record)} field{many} under {len(header)} columns: {excerpt(joined)}")
    return dict(zip(header, record, strict=True))


def _header(record: list[str], name: str, line: int) -> list[str]:
    try:
        decode(",".join(record).encode("utf-8", "surrogateescape"))
    except BadRecord as error:
        raise DataError(f"the header is {error}", where=f"{name}, line {line}", fix="save the file as UTF-8") from None
    twice = sorted({column for column in record if record.count(column) > 1})
    if twice:
        raise DataError(f"the column {twice[0]!r} is there twice", where=f"{name}, line {line}", fix="rename one")
    return record


def _parquet(stream: BinaryIO, name: str) -> Numbered:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # only a plain file can be read from its end without unpacking it again and again
    plain = isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO)
    seekable = stream if plain else io.BytesIO(stream.read())
    _refuse_other(seekable.read(64), name)
    number = 0
    try:
        file = pq.ParquetFile(seekable, buffer_size=2**20)
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for data in batch.to_pylist():
                number += 1
                yield number, {key: without_filled(value) for key, value in data.items()}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        where = f"{name}, after row {number:,}"
        raise DataError(f"{name} is not a valid Parquet file", where=where, why=str(error).split("\n")[0]) from None


def without_filled(value: Any) -> Any:
    """The value of an Arrow column without the nulls that Arrow puts into objects that lack an entry of others."""
    if isinstance(value, dict):
        return {key: without_filled(item) for key, item in value.items() if item is not None}
    return [without_filled(item) for item in value] if isinstance(value, list) else value


_READERS: Mapping[FileType, Callable[[BinaryIO, str], Numbered]] = {
    "jsonl": _jsonl,
    "json": _json_document,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "text": _text,
}
