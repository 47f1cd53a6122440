"""Rows that come from no file of the user: arithmetic, and the text that every Python carries."""

from __future__ import annotations

import hashlib
import importlib
import os
import pydoc_data.topics
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith import ConfigError, ResourceError, Source, plugins
from tunesmith.config import build
from tunesmith_plugins.sources import (
    Arithmetic,
    PythonDocs,
    PythonSource,
    python_docs,
    stdlib,
)


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


def content(source: Source) -> list[dict[str, Any]]:
    rows = list(source.rows())
    assert not [row.problem for row in rows if row.problem]
    return [dict(row.data) for row in rows]


# ---------------------------------------------------------------------------------------------- arithmetic
def problems(source: Arithmetic) -> list[tuple[int, str, int]]:
    found = [re.fullmatch(r"What is (\d+) ([+-]) (\d+)\?\n", row["prompt"]) for row in content(source)]
    return [(int(match[1]), match[2], int(match[3])) for match in found if match]


@pytest.mark.parametrize("digits", [1, 2, 5, 12])
def test_every_answer_is_right_and_follows_from_its_lines(digits: int) -> None:
    source = Arithmetic(num_rows=50, digits=digits)
    for (a, sign, b), row in zip(problems(source), content(source), strict=True):
        assert row["answer"] == str(a + b if sign == "+" else a - b)
        *lines, last = row["completion"].split("\n")
        assert last == f"Answer: {row['answer']}"
        assert int("".join(reversed([line.split("write ")[1][0] for line in lines]))) == int(row["answer"])
        for line in lines:
            if " = " in line:
                terms, total = line.split(",")[0].split(" = ")
                first, *rest = [int(number) for number in re.findall(r"\d+", terms)]
                assert int(total) == (first + sum(rest) if sign == "+" else first - sum(rest))


def test_no_problem_comes_twice_and_both_operations_come() -> None:
    drawn = problems(Arithmetic(num_rows=2000))
    assert len(set(drawn)) == len(drawn) == 2000
    assert 800 < sum(sign == "+" for _, sign, _ in drawn) < 1200
    assert all(a >= b for a, sign, b in drawn if sign == "-")


def test_train_and_test_share_no_pair_of_numbers() -> None:
    def pairs(split: Any, seed: int, digits: int) -> set[frozenset[int]]:
        most = {1: 10, 2: 1000}[digits]
        drawn = problems(Arithmetic(num_rows=most, split=split, seed=seed, digits=digits))
        return {frozenset((a, b)) for a, _, b in drawn}

    train = pairs("train", 0, 1) | pairs("train", 1, 2) | pairs("train", 2, 2)
    test = pairs("test", 0, 1) | pairs("test", 1, 2) | pairs("test", 3, 2)
    assert len(test) > 500 and not train & test


def test_rows_follow_from_the_settings_alone() -> None:
    rows = content(Arithmetic(num_rows=100))
    assert rows == content(Arithmetic(num_rows=100)) == content(Arithmetic(num_rows=300))[:100]
    variants = [
        Arithmetic(num_rows=100),
        Arithmetic(num_rows=101),
        Arithmetic(num_rows=100, seed=1),
        Arithmetic(num_rows=100, digits=3),
        Arithmetic(num_rows=100, split="test"),
        Arithmetic(num_rows=100, chat=True),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len({str(content(v)) for v in variants}) == 6
    assert [variants[0].label(), variants[4].label()] == ["arithmetic", "arithmetic-test"]


def test_more_problems_than_there_are_is_refused(registry: plugins.Registry) -> None:
    with pytest.raises(ConfigError, match="num_rows is at most 15 for 1 digits in test"):
        build(registry, "source", {"name": "arithmetic", "rows": 16, "digits": 1, "split": "test"})
    for split, most in (("test", 15), ("train", 62)):
        assert len(content(Arithmetic(num_rows=most, digits=1, split=split))) == most


# ---------------------------------------------------------------------------------------------- the standard library
@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small standard library."""
    texts = {
        "ast.py": '"""About trees."""\n',
        "b/__init__.py": "",
        "b/c.py": (
            '"""Mod\n\n    indented\n    """\nX = "no doc"\nclass K:\n    """Kind."""\n    def f(self):\n'
            '        """Do f."""\n        def g():\n            "Do g."\nif X:\n    async def h(): "Do h: \\d"\n'
        ),
        "plain.py": "x = 1\n",
        "latin.py": "# -*- coding: latin-1 -*-\nname = '\xe9'\n",
        "test/test_x.py": "x",
        "b/tests/t.py": "x",
        "site-packages/p.py": "x",
        "idlelib/i.py": "x",
        "b/idlelib/kept.py": "k = 1\n",
        "config-3.11-x86/c.py": "x",
        "_sysconfigdata__linux.py": "x",
        "lib-dynload/x.so": "x",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(stdlib.sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


def test_sources_of_the_library_leave_out_tests_programs_and_what_was_installed(library: Path) -> None:
    rows = content(PythonSource())
    assert [row["name"] for row in rows] == ["ast.py", "b/c.py", "b/idlelib/kept.py", "latin.py", "plain.py"]
    assert rows[3]["text"].endswith("name = '\u00e9'\n"), "the coding comment is honoured"


def test_docstrings_are_gathered_by_module_without_importing_it(library: Path) -> None:
    modules = {row["name"]: row["text"] for row in content(PythonDocs()) if not row["name"].startswith("topic ")}
    assert modules == {
        "ast": "ast\n\nAbout trees.\n",
        "b.c": "b.c\n\nMod\n\nindented\n\n\nb.c.K\n\nKind.\n\n\nb.c.K.f\n\nDo f.\n\n\nb.c.K.f.g\n\nDo g.\n\n\n"
        "b.c.h\n\nDo h: \\d\n",
    }
    assert "b.c" not in sys.modules


@pytest.mark.parametrize("cls", [PythonDocs, PythonSource])
def test_parts_are_disjoint_and_whole(cls: type[PythonDocs] | type[PythonSource], library: Path) -> None:
    for number in range(40):
        (library / f"m{number}.py").write_text(f'"""Number {number}."""\n')
    names = {part: [row["name"] for row in content(cls(part=part))] for part in ("all", "train", "test")}
    assert sorted(names["train"] + names["test"]) == sorted(names["all"])
    assert 0 < len(names["test"]) < len(names["train"])
    assert [cls(part=part).label() for part in ("all", "test")] == [cls.name, f"{cls.name}-test"]
    assert len({cls(part=part).fingerprint() for part in names}) == 3


def test_no_topic_stands_in_both_parts_under_two_names() -> None:
    rows = content(PythonDocs(max_files=1))
    topics = [(row["name"], row["text"]) for row in rows if row["name"].startswith("topic ")]
    texts = [text for _, text in topics]
    assert len(set(texts)) == len(texts)
    assert topics == sorted(topics)
    assert set(texts) == {text.strip() + "\n" for text in pydoc_data.topics.topics.values()}


@pytest.mark.parametrize("cls", [PythonDocs, PythonSource])
def test_a_part_of_the_files_is_chosen_by_the_seed(cls: type[PythonDocs] | type[PythonSource], library: Path) -> None:
    def modules(**settings: int) -> list[str]:
        return [row.file for row in cls(**settings).rows() if row.file.endswith(".py")]

    for number in range(40):
        (library / f"m{number}.py").write_text(f'"""Number {number}."""\n')
    chosen = [modules(max_files=20, seed=seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] == sorted(chosen[0]) and set(chosen[0]) < set(modules())
    assert modules(max_files=1000) == modules()


@pytest.mark.parametrize("cls", [PythonDocs, PythonSource])
def test_the_fingerprint_follows_the_library(cls: type[PythonDocs] | type[PythonSource], library: Path) -> None:
    first = cls().fingerprint()
    os.utime(library / "ast.py", (1, 1))
    assert cls().fingerprint() == first
    (library / "ast.py").write_text('"""About shrubs."""\n')
    assert cls().fingerprint() != first


def test_a_python_without_its_sources_is_a_missing_resource(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="no help topics"):
        list(PythonDocs().rows())
    (library / "ast.py").unlink()
    with pytest.raises(ResourceError, match="no sources of its standard library"):
        list(PythonSource().rows())


def test_this_python_carries_enough_text_for_a_small_model() -> None:
    docs = [row.data for row in PythonDocs(max_files=30).rows()]
    topics = [row["text"] for row in docs if row["name"].startswith("topic ")]
    assert sum(map(len, topics)) > 200_000 and len(docs) > len(topics)
    assert sum(len(row.data["text"]) for row in PythonSource().rows()) > 4_000_000
    digest = hashlib.sha256(repr([row.data for row in PythonDocs(max_files=30).rows()]).encode())
    assert digest.digest() == hashlib.sha256(repr(docs).encode()).digest(), "rows come in the same order every time"
    assert python_docs.docstrings(b"x = 1\n", "m") == ""
