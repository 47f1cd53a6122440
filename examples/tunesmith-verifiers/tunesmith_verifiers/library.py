"""Which of its two interfaces the installed library has. It is imported inside functions: that takes seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from tunesmith import ConfigError, Fault, ResourceError

COLUMN = "verifiers"
"""Column with the name of the environment, its arguments, and the task as the environment wrote it."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an environment.

    Attributes:
        prompt: the messages that the model is to answer.
        data: what its scoring needs, as JSON can hold it.
        answer: the gold answer, where the environment has one.
    """

    prompt: list[dict[str, Any]]
    data: Mapping[str, Any]
    answer: Any = None


class Environment(Protocol):
    """An environment of one turn."""

    def tasks(self) -> Iterator[Task]:
        """Its tasks, in their order."""

    def score(self, data: Mapping[str, Any], prompt: list[dict[str, Any]], reply: str) -> float | Fault:
        """What its own rewards say of a reply, weighted and summed."""


def load(name: str, arguments: Mapping[str, Any]) -> Environment:
    """The environment, loaded once. Raises `ConfigError` for one that is not installed or takes more than a turn."""
    return _load(name, json.dumps(arguments, sort_keys=True))


@lru_cache(maxsize=16)
def _load(name: str, arguments: str) -> Environment:
    installed = _installed()
    given = json.loads(arguments)
    if installed.startswith("0.1."):
        from tunesmith_verifiers.environments import load_environment

        return load_environment(name, given)
    if installed.startswith("0.4."):
        from tunesmith_verifiers.tasksets import load_taskset

        return load_taskset(name, given)
    raise ResourceError(
        f"verifiers {installed} is installed, whose interface this package does not know",
        fix="pip install 'verifiers==0.4.*', or 'verifiers>=0.1.14,<0.2' for environments with load_environment",
    )


def refuse(name: str, why: str) -> ConfigError:
    """The error for an environment that is not there, is not given what it takes, or needs more than one answer."""
    return ConfigError(f"the verifiers environment {name!r} cannot be used", why=" ".join(why.split())[:300])


def warm() -> None:
    """Import the library."""
    import_module("verifiers.v1" if _installed().startswith("0.4.") else "verifiers")


def _installed() -> str:
    try:
        return version("verifiers")
    except PackageNotFoundError:
        raise ResourceError("the library verifiers is not installed", fix="pip install verifiers") from None
