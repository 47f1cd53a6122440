"""English prose that every Python carries."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from tunesmith import ResourceError, Row, Source
from tunesmith_plugins.sources import stdlib

REVISION = 2
"""Grows when the same files give other rows."""
NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class PythonDocs(Source):
    """Python's language reference and docstrings, about 2 MB of English: one row (text, name) a document, no download.

    The documents are the help topics of pydoc, then the docstrings of each module of the standard library (found by
    parsing the files; nothing is imported). The text depends on the Python that runs.
    """

    name: ClassVar[str] = "python-docs"

    part: stdlib.Part = "all"
    """all, or a tenth of the documents (test), or the others (train); a module is in the same part of python-source."""
    max_files: int | None = Field(default=None, ge=1)
    """Read the docstrings of at most this many modules."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice that max_files makes."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Few modules, in which the part without help topics has documents."""
        return {"max_files": 20, "part": "test"}

    def rows(self) -> Iterator[Row]:
        """Yield the topics by name, then the modules by name."""
        for topic, text in _topics().items():
            name = f"topic {topic}"
            if stdlib.in_part(name, self.part):
                yield Row({"text": text, "name": name}, name, 1)
        for name, path in stdlib.files(self.part, self.max_files, self.seed):
            text = docstrings(path.read_bytes(), _module(name))
            if text:
                yield Row({"text": text, "name": _module(name)}, name, 1)

    def fingerprint(self) -> str:
        """A hash of the topics, of the modules' bytes, and of the Python that parses them."""
        digest = hashlib.sha256(repr((REVISION, sys.version_info[:2], self.part, sorted(_topics().items()))).encode())
        for name, path in stdlib.files(self.part, self.max_files, self.seed):
            digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def label(self) -> str:
        """The name, and the part where it is not all of it."""
        return self.name if self.part == "all" else f"{self.name}-{self.part}"


def _topics() -> dict[str, str]:
    if importlib.util.find_spec("pydoc_data") is None:
        raise ResourceError("this Python carries no help topics (the package pydoc_data)", fix="use a full CPython")
    from pydoc_data.topics import topics

    first: dict[str, str] = {}
    for name in sorted(topics):  # some are one text under two names, which would put it into both parts
        first.setdefault(topics[name].strip() + "\n", name)
    return {name: text for text, name in first.items()}


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def docstrings(source: bytes, module: str) -> str:
    """All docstrings of a module in the order of the file, each under its dotted name; empty where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in strings of old modules
        tree = ast.parse(source)
    found: list[str] = []

    def visit(node: ast.AST, name: str) -> None:
        if isinstance(node, (ast.Module, *NAMED)):
            text = ast.get_docstring(node)
            if text and text.strip():
                found.append(f"{name}\n\n{text.strip()}\n")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, NAMED):
                visit(child, f"{name}.{child.name}")
            elif not isinstance(child, ast.expr):
                visit(child, name)

    visit(tree, module)
    return "\n\n".join(found)
