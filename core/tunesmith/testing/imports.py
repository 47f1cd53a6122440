"""What importing the module of a component loads."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.machinery import PathFinder

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "numpy")
"""Packages that a command which only lists components must not wait for."""
PATIENCE_S = 60
_SCRIPT = """
import importlib, importlib.util, sys
name, path = sys.argv[1:]
if path:
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
else:
    importlib.import_module(name)
print("loaded", *(name for name in {heavy} if name in sys.modules))
"""


class ImportProblemError(Exception):
    """The module cannot be imported by itself; the message says why."""


def heavy_imports(cls: type) -> tuple[str, list[str]]:
    """The module of a class, or its file where it is no part of a package, and what it loads.

    The packages are those among `HEAVY` that a fresh interpreter loads with it. Raises `ImportProblemError` where the
    module cannot be found or imported.
    """
    name = cls.__module__
    try:
        file = inspect.getsourcefile(cls) or ""
    except (TypeError, OSError):
        file = ""
    if not file:
        raise ImportProblemError(f"there is no file of the module {name}")
    return _loaded(name, file)


@lru_cache(maxsize=256)
def _loaded(name: str, file: str) -> tuple[str, list[str]]:
    """Asked once per module: an interpreter takes a while to start."""
    importable = _is_found(name, file)
    shown = name if importable else os.path.basename(file)
    script = _SCRIPT.replace("{heavy}", repr(HEAVY))
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", path + script, name, "" if importable else file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise ImportProblemError(f"importing {shown} takes more than {PATIENCE_S} s") from None
    words = done.stdout.splitlines()[-1].split() if done.stdout.strip() else []
    if done.returncode or words[:1] != ["loaded"]:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ImportProblemError(f"importing {shown} by itself fails: {last}")
    return shown, words[1:]


def _is_found(name: str, file: str) -> bool:
    """True where a plain import in another process finds this very file; not so for plugins that are files."""
    where: Iterable[str] | None = None
    found = None
    for end in (i for i, char in enumerate(f"{name}.") if char == "."):
        found = PathFinder.find_spec(name[:end], None if where is None else list(where))
        if found is None:
            return False
        where = found.submodule_search_locations or []
    return found is not None and found.origin is not None and os.path.realpath(found.origin) == os.path.realpath(file)
