"""Rewards named by where their code is: ``my_rewards.py:length_under`` or ``package.module:length_under``."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith.components import Reward
from tunesmith.errors import ConfigError, ResourceError, TunesmithError, did_you_mean, nearest
from tunesmith.plugins import article, import_file, local_module

_CHANGED: dict[str, int] = {}
"""When the files were changed that were imported, in nanoseconds."""
_POINTER = re.compile(r"(?P<where>.+):(?P<name>[A-Za-z_]\w*)")


def points_to_code(word: str) -> bool:
    """True for ``file.py:name`` and ``module:name``; names of components have no colon."""
    return _POINTER.fullmatch(word) is not None


def load_reward(pointer: str) -> type[Reward]:
    """The reward that a function, or a class, in a file or module is.

    Raises:
        ConfigError: no such file, module or name, or it is no reward.
        ResourceError: a package that the module imports is missing.
    """
    found = _POINTER.fullmatch(pointer)
    assert found is not None, pointer
    where = found["where"]
    if where.endswith(".py"):
        path = Path(where).expanduser()
        if not path.is_file():
            raise _no_file(pointer, path)
        return _load(str(path.resolve()), found["name"], where, path.stat().st_mtime_ns)
    return _load(where, found["name"], where)


@lru_cache(maxsize=64)
def _load(where: str, name: str, shown: str, changed: int = 0) -> type[Reward]:
    """One class for one function, until its file is changed."""
    module = _module(where, changed)
    try:
        value = getattr(module, name)
    except AttributeError:
        raise _no_name(shown, name, module) from None
    if isinstance(value, type) and issubclass(value, Reward):
        return value
    if not callable(value) or isinstance(value, type):
        raise ConfigError(
            f"{name!r} is {_a(value)}, not a function or a tunesmith.Reward",
            where=shown,
            fix=_choice(shown, module),
        )
    return _made(value, module.__name__, name)


def _made(function: Any, module: str, name: str) -> type[Reward]:
    from tunesmith.function_reading import from_function  # only where a function is named

    made = from_function(function, name.strip("_").lower().replace("_", "-"))
    made.from_function = (made_again, (module, name))
    return made


def made_again(module: str, name: str) -> type[Reward]:
    """The reward of a function that a module holds, in another process."""
    return _made(getattr(importlib.import_module(module), name), module, name)


def which_function(path: str) -> ConfigError:
    """What to say to a file without a function behind it."""
    module = _module(str(Path(path).resolve()), os.stat(path).st_mtime_ns)
    return ConfigError(f"which function of {path}?", fix=_choice(path, module))


def _module(where: str, changed: int) -> ModuleType:
    """Import a file or a module; what it prints does not end up in our output."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if not where.endswith(".py"):
                return importlib.import_module(where)
            known = sys.modules.get(local_module(Path(where)))
            if known is None or _CHANGED.setdefault(where, changed) != changed:
                known = import_file(Path(where))
            _CHANGED[where] = changed
            return known
    except TunesmithError:
        raise
    except ModuleNotFoundError as error:
        if not where.endswith(".py") and f"{where}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"there is no module {where!r}",
                why="a reward is written as its name, as file.py:function or as module:function",
                fix="see `tunesmith list reward`, or check the spelling",
            ) from None
        raise ResourceError(
            f"{where} needs a package that is not installed: {error.name}", fix=f"pip install {error.name}"
        ) from None
    except Exception as error:  # it is anybody's code
        raise ConfigError(f"cannot import {where}", why=_last_lines(error)) from None


def _last_lines(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    said = "".join(traceback.format_exception_only(error)).strip()
    return f"{said} (line {frames[-1].lineno} of {frames[-1].filename})" if frames else said


def _rewards_of(module: ModuleType) -> list[str]:
    """Functions that a file defines itself, and rewards."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith(("_", "tunesmith_"))
        and getattr(value, "__module__", None) == module.__name__
        and (issubclass(value, Reward) if isinstance(value, type) else callable(value))
    ]


def _choice(where: str, module: ModuleType) -> str:
    names = _rewards_of(module)
    return f"one of: {', '.join(f'{where}:{name}' for name in names)}" if names else f"{where} defines no function"


def _no_file(pointer: str, path: Path) -> ConfigError:
    folder = path.parent
    match = nearest(path.name, [entry.name for entry in folder.glob("*.py")]) if folder.is_dir() else None
    return ConfigError(
        f"there is no file {str(path)!r}{f'; did you mean {str(folder / match)!r}?' if match else ''}",
        where=f"reward {pointer!r}",
        why=None if folder.is_dir() else f"there is no folder {str(folder)!r}",
        fix="the path counts from the folder that the command is run in",
    )


def _no_name(where: str, name: str, module: ModuleType) -> ConfigError:
    return ConfigError(
        f"{where} has no {name!r}{did_you_mean(name, _rewards_of(module))}",
        fix=_choice(where, module),
    )


def _a(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else article(type(value).__name__)
