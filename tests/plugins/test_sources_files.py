"""The source of local files: every type, compression and way to name files; faults by line; standard input."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith import ConfigError, DataError, Source, plugins
from tunesmith.config import build
from tunesmith_plugins.sources import (
    Files,
    files,
)

AB = [{"text": "a", "n": 1}, {"text": "b\nc", "n": 2}]
JSONL = b'{"text": "a", "n": 1}\n{"text": "b\\nc", "n": 2}\n'


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(source: Source) -> list[dict[str, Any]]:
    rows = list(source.rows())
    assert not [row.problem for row in rows if row.problem]
    return [dict(row.data) for row in rows]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def zstd(raw: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.Codec("zstd").compress(raw, asbytes=True))


# ---------------------------------------------------------------------------------------------- files: types
AS_TEXT = [{"text": row["text"], "n": str(row["n"])} for row in AB]
TYPES: dict[str, tuple[Callable[[], bytes], list[dict[str, Any]], list[int]]] = {
    "x.jsonl": (lambda: JSONL, AB, [1, 2]),
    "x.ndjson": (lambda: b"\xef\xbb\xbf\r\n" + JSONL.replace(b"\n", b"\r\n\r\n"), AB, [2, 4]),
    "x.json": (lambda: json.dumps(AB, indent=1).encode(), AB, [1, 2]),
    "columns.json": (lambda: b'\xef\xbb\xbf{"text": ["a", "b\\nc"], "n": [1, 2]}', AB, [1, 2]),
    "lines.json": (lambda: JSONL, AB, [1, 2]),
    "x.csv": (lambda: b'text,n\na,1\n\n"b\nc",2\n', AS_TEXT, [2, 4]),
    "bom.csv": (lambda: b'\xef\xbb\xbftext,n\r\n"a",1\r\n"b\nc",2', AS_TEXT, [2, 3]),
    "x.tsv": (lambda: b'text\tn\na\t1\n"b\nc"\t2\n', AS_TEXT, [2, 3]),
    "x.parquet": (lambda: parquet(AB), AB, [1, 2]),
    "x.txt": (lambda: b"\xef\xbb\xbf a\r\nb ", [{"text": " a\r\nb "}], [1]),
    "x.py": (lambda: b"print('\xc3\xa9')\n", [{"text": "print('\u00e9')\n"}], [1]),
    "x.md": (lambda: b"# a\n", [{"text": "# a\n"}], [1]),
    "x.rst": (lambda: b"a\n=\n", [{"text": "a\n=\n"}], [1]),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gz", "zst"])
def test_a_file_of_every_type_is_read_and_its_lines_are_numbered(
    name: str, pack: Callable[[bytes], bytes], folder: Path, registry: plugins.Registry
) -> None:
    make, expected, lines = TYPES[name]
    name += {bytes: "", gzip.compress: ".gz", zstd: ".zst"}[pack]
    (folder / name).write_bytes(pack(make()))
    source = build(registry, "source", name)
    assert isinstance(source, Files)
    assert content(source) == expected == content(source)
    assert [(row.file, row.line) for row in source.rows()] == [(name, line) for line in lines]
    assert source.label() == name.split(".")[0]


@pytest.mark.parametrize("name", [name for name in TYPES if name != "x.parquet"])
def test_an_empty_file_holds_no_row(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    assert content(Files(path=name)) == []


def test_objects_of_parquet_lose_the_nulls_that_arrow_filled_in_and_columns_keep_theirs(folder: Path) -> None:
    rows = [{"m": [{"role": "a", "x": 1}, {"role": "b"}], "n": None}, {"m": [], "n": 3}]
    (folder / "x.parquet").write_bytes(parquet(rows))
    assert content(Files(path="x.parquet")) == rows


def test_a_long_field_of_a_table_is_read_whole(folder: Path) -> None:
    (folder / "x.csv").write_text("text\n" + "y" * 300_000 + "\n")
    assert content(Files(path="x.csv")) == [{"text": "y" * 300_000}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet", "x.jsonl.gz"])
def test_memory_does_not_grow_with_the_file(name: str, folder: Path) -> None:
    rows = [{"text": f"{i:06d} " + "y" * 993} for i in range(6_000)]
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = ("text\n" + "".join(row["text"] + "\n" for row in rows)).encode()
    make = {"x.jsonl": lambda: raw, "x.jsonl.gz": lambda: gzip.compress(raw, 1), "x.csv": lambda: table}
    (folder / name).write_bytes(make[name]() if name in make else parquet(rows))
    next(iter(Files(path=name).rows()))
    tracemalloc.start()
    count = sum(1 for _ in Files(path=name).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6_000
    assert peak < 1_500_000, f"{peak:,} bytes at a time of {len(raw):,}"


# ---------------------------------------------------------------------------------------------- files: faults
def test_a_record_that_cannot_be_read_is_handed_on_with_its_problem(folder: Path) -> None:
    deep = b'{"text":' * 100_000
    (folder / "x.jsonl").write_bytes(
        b'{"text": "a"}\n{"text": "b",}\n["x"]\n{"text": "\xff"}\n{"n": 1, "n": 2}\n' + deep + b"\n"
        b'{"n": ' + b"9" * 5000 + b'}\n{"a": 1} {"b": 2}\n{"text": "b",\n{"text": "z"}'
    )
    rows = list(Files(path="x.jsonl").rows())
    assert [row.line for row in rows] == list(range(1, 11))
    assert [row.line for row in rows if not row.problem] == [1, 10]
    assert not any(row.data for row in rows if row.problem)
    expected = [
        'property name enclosed in double quotes at column 14, near: {"text": "b",}',
        'not a JSON object of columns: ["x"]',
        r'not valid UTF-8: byte 0xff near: {"text": "\xff"}',
        "'n' is there twice in one object",
        "nested too deeply",
        "Exceeds the limit",
        "Extra data at column 10",
        'property name enclosed in double quotes at column 14, near: {"text": "b",',
    ]
    for row, part in zip(rows[1:9], expected, strict=True):
        assert part in row.problem
        assert len(row.problem) < 300 and row.problem.isprintable()


def test_a_bad_record_of_a_table_or_list_spoils_itself_only(folder: Path) -> None:
    (folder / "x.csv").write_bytes(b"text,n\na,1\nb\n\xffq,2\nz,3\n")
    rows = list(Files(path="x.csv").rows())
    assert [(row.line, bool(row.problem)) for row in rows] == [(2, False), (3, True), (4, True), (5, False)]
    assert rows[1].problem == "1 field under 2 columns: b"
    assert rows[2].problem == r"not valid UTF-8: byte 0xff near: \xffq,2"
    (folder / "x.json").write_text('[{"text": "a"}, null, {"text": "b"}]')
    rows = list(Files(path="x.json").rows())
    assert [(row.line, row.problem) for row in rows][1] == (2, "not a JSON object of columns: null")
    (folder / "x.txt").write_bytes(b"a\nb\xe9c\n")
    assert [row.problem for row in Files(path="x.txt").rows()] == [
        r"not valid UTF-8: line 2, byte 0xe9 near: a\nb\xe9c"
    ]


FAULTY = [
    ("x.jsonl", b'[{"text": "a"}]', "is a JSON list, not JSON lines"),
    ("x.jsonl", '{"text": "a"}'.encode("utf-16"), "is UTF-16, not UTF-8"),
    ("x.csv", "text\na".encode("utf-16"), "is UTF-16, not UTF-8"),
    ("x.txt", "a".encode("utf-16"), "is UTF-16, not UTF-8"),
    ("x.json", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ("x.json", b'[{"text": "a"},\n{"text" "b"}]', "':' delimiter at line 2, column 9"),
    ("x.json", b'{"text": "a"}', "neither a list of objects nor an object of columns"),
    ("x.json", b'{"text": ["a"], "n": []}', "of equal length"),
    ("x.json", b"5", "neither a list of objects"),
    ("x.csv", b'text\na\n"b\nc\n', "the row that begins in line 3"),
    ("x.csv", b"a,b,a\n1,2,3\n", "the column 'a' is there twice"),
    ("x.csv", b"a,\xff\n1,2\n", "the header is not valid UTF-8"),
    ("x.parquet", b"PAR1 and then nothing", "is not a valid Parquet file"),
    ("x.jsonl.gz", gzip.compress(os.urandom(5000))[:3000], "is not a whole gzip file"),
    ("x.jsonl.gz", JSONL, "is not a whole gzip file"),
    ("x.jsonl.zst", JSONL, "is not a whole zstd file"),
    ("x.xyz", b"?", "set type"),
]


@pytest.mark.parametrize(("name", "raw", "message"), FAULTY)
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, raw: bytes, message: str, folder: Path) -> None:
    (folder / name).write_bytes(raw)
    with pytest.raises(DataError) as caught:
        list(Files(path=name).rows())
    assert message in str(caught.value) and name in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8


def test_a_zstd_file_that_was_cut_is_refused(folder: Path) -> None:
    (folder / "x.jsonl.zst").write_bytes(zstd(JSONL)[:-4])
    with pytest.raises(DataError, match="not a whole zstd file"):
        list(Files(path="x.jsonl.zst").rows())


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    for read in (lambda source: list(source.rows()), lambda source: source.fingerprint()):
        with pytest.raises(DataError, match=r"(?s)there is no file.*gone\.jsonl"):
            read(Files(path="gone.jsonl"))


# ---------------------------------------------------------------------------------------------- files: which
@pytest.fixture
def tree(folder: Path) -> Path:
    """data/ with b.jsonl, a.txt, sub/c.csv, and hidden entries."""
    data = folder / "data"
    (data / "sub").mkdir(parents=True)
    (data / ".cache").mkdir()
    (data / "b.jsonl").write_text('{"text": "b"}\n')
    (data / "a.txt").write_text("a")
    (data / "sub" / "c.csv").write_text("text\nc\n")
    (data / ".cache" / "x.bin").write_text("x")
    (data / ".DS_Store").write_text("x")
    return folder


@pytest.mark.parametrize("word", ["data", "data/", "./data", "data/**", "data/*", "d*a"])
def test_a_folder_or_glob_is_all_its_files_by_name(word: str, tree: Path, registry: plugins.Registry) -> None:
    source = build(registry, "source", word)
    assert isinstance(source, Files)
    assert [row.data["text"] for row in source.rows()] == ["a", "b", "c"]
    assert source.label() == (tree.name if word == "d*a" else "data")


def test_a_glob_takes_what_it_matches(tree: Path) -> None:
    assert [row.file for row in Files(path="data/*.jsonl").rows()] == ["data/b.jsonl"]
    assert Files(path="data/*.jsonl").label() == "data"
    assert Files.claims("data/*.nothing") is None


def test_files_of_an_unknown_type_are_an_error_unless_the_pattern_or_the_type_says_more(tree: Path) -> None:
    (tree / "data" / "model.bin").write_text("m")
    (tree / "data" / "LICENSE").write_text("l")
    with pytest.raises(DataError, match=r"(?s)2 files.*LICENSE.*no extension \(1\), .bin \(1\).*pattern"):
        list(Files(path="data").rows())
    assert [row.data["text"] for row in Files(path="data", pattern="*.jsonl").rows()] == ["b"]
    assert [row.data["text"] for row in Files(path="data", pattern="sub/*").rows()] == ["c"]
    assert [row.data["text"] for row in Files(path="data", type="text", pattern="[Lm]*").rows()] == ["l", "m"]
    assert content(Files(path="data/model.bin", type="text")) == [{"text": "m"}]


def test_a_pattern_that_cannot_work_is_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"pattern narrows a folder, and data/a\.txt is a file"):
        list(Files(path="data/a.txt", pattern="*.txt").rows())
    with pytest.raises(ConfigError, match="pattern '/x' cannot be used"):
        list(Files(path="data", pattern="/x").rows())
    with pytest.raises(DataError, match=r"no file that matches \*\.md"):
        list(Files(path="data", pattern="*.md").rows())


def test_an_empty_folder_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="the folder holds no file"):
        list(Files(path="empty").rows())


def test_a_name_with_the_letters_of_a_glob_is_a_path_where_it_exists(folder: Path, registry: plugins.Registry) -> None:
    (folder / "a[1].txt").write_text("a")
    assert content(build(registry, "source", "a[1].txt")) == [{"text": "a"}]  # type: ignore[arg-type]  # a Source


def test_the_home_folder_may_be_written_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "x.txt").write_text("a")
    assert Files.claims("~/x.txt") == {"path": "~/x.txt"}
    assert content(Files(path="~/x.txt")) == [{"text": "a"}]


def test_streaming_is_what_the_setting_says() -> None:
    assert [Files(path="x", streaming=flag).streams for flag in (True, False)] == [True, False]
    assert not Files(path="x").streams


# ---------------------------------------------------------------------------------------------- files: content
def test_the_fingerprint_follows_the_content_and_nothing_else(folder: Path) -> None:
    (folder / "x.jsonl").write_bytes(JSONL)
    first = Files(path="x.jsonl").fingerprint()
    (folder / "far").mkdir()
    shutil.copy("x.jsonl", "far/other.jsonl")
    os.utime("far/other.jsonl", (1, 1))
    assert Files(path="far").fingerprint() == Files(path="far/*.jsonl").fingerprint() == first
    (folder / "x.jsonl").write_bytes(JSONL.replace(b"a", b"A"))
    assert Files(path="x.jsonl").fingerprint() != first
    shutil.copy("far/other.jsonl", "x.txt")
    assert Files(path="x.txt").fingerprint() != first, "the same bytes read as text are other rows"


def test_the_fingerprint_of_several_files_follows_their_order_and_borders(folder: Path) -> None:
    def of(**texts: str) -> str:
        shutil.rmtree("d", ignore_errors=True)
        os.mkdir("d")
        for name, text in texts.items():
            Path("d", f"{name}.txt").write_text(text)
        return Files(path="d").fingerprint()

    assert of(a="1", b="2") == of(c="1", d="2")
    assert len({of(a="1", b="2"), of(a="2", b="1"), of(a="12"), of(a="12", b=""), of(a="", b="12")}) == 5


# ---------------------------------------------------------------------------------------------- files: streams
@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    def pipe(raw: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))

    files._kept.cache_clear()
    yield pipe
    files._kept.cache_clear()


@pytest.mark.parametrize(
    "make",
    [lambda: JSONL, lambda: b" " + json.dumps(AB).encode(), lambda: gzip.compress(JSONL), lambda: parquet(AB)],
    ids=["jsonl", "json", "gz", "parquet"],
)
def test_standard_input_is_read_once_and_kept(
    make: Callable[[], bytes], piped: Callable[[bytes], None], registry: plugins.Registry
) -> None:
    piped(make())
    source, again = build(registry, "source", "-"), Files(path="-")
    assert isinstance(source, Files)
    assert content(source) == content(source) == content(again) == AB
    assert source.fingerprint() == again.fingerprint()
    assert (source.label(), next(source.rows()).file) == ("stdin", "standard input")


def test_standard_input_of_another_type_needs_the_type(piped: Callable[[bytes], None]) -> None:
    piped(b"text\na\n")
    assert next(Files(path="-").rows()).problem
    assert content(Files(path="-", type="csv")) == [{"text": "a"}]


def test_a_terminal_is_not_waited_for(piped: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    piped(b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(ConfigError, match="which is a terminal"):
        list(Files(path="-").rows())


def test_a_named_pipe_is_read_once_and_kept(folder: Path) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(JSONL))
    writer.start()
    source = Files(path="pipe")
    assert content(source) == content(source) == AB
    writer.join()
