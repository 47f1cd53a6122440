"""The files of Python's own standard library, as the two sources made of them see it."""

from __future__ import annotations

import hashlib
import os
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tunesmith import ResourceError

Part = Literal["all", "train", "test"]
TEST_SHARE = 0.1
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__", "__phello__"}
"""Folders at any depth: tests, what was installed beside the library, and examples."""
LEFT_OUT_TOP = {"idlelib", "turtledemo", "lib2to3", "ensurepip", "encodings", "pydoc_data"}
"""Folders at the top: programs, and tables written as Python."""


def folder() -> Path:
    """Where the standard library lies. Raises `ResourceError` where it is not a folder of sources."""
    found = Path(sysconfig.get_path("stdlib"))
    if not (found / "ast.py").is_file():
        raise ResourceError(
            "this Python carries no sources of its standard library",
            where=str(found),
            fix="use a Python from python.org, a Linux distribution, conda or uv",
        )
    return found


def files(part: Part, max_files: int | None, seed: int) -> list[tuple[str, Path]]:
    """Name below the library and path, by name; ``seed`` chooses where there are more than ``max_files``."""
    root = folder()
    names = sorted(path.relative_to(root).as_posix() for path in _walk(root))
    chosen = [name for name in names if in_part(name, part)]
    if max_files is not None and len(chosen) > max_files:
        chosen = sorted(random.Random(seed).sample(chosen, max_files))
    return [(name, root / name) for name in chosen]


def _walk(root: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(root):
        left_out = LEFT_OUT | (LEFT_OUT_TOP if Path(where) == root else set())
        # pruned in place, because thousands of installed files may lie in site-packages
        folders[:] = [name for name in folders if name not in left_out and not name.startswith("config-")]
        for name in names:
            # _sysconfigdata holds paths of the machine that built this Python
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield Path(where, name)


def in_part(name: str, part: Part) -> bool:
    """A tenth of all names, chosen by their hash, is the part test; the rest is train.

    Names and not contents decide, so that the docstrings of a module and its source are in the same part: nothing of
    the one part of either source stands in the other part of the other.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return part == "all" or (part == "test") == (int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32)
