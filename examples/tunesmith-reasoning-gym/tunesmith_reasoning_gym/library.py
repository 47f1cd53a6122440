"""What is known of reasoning-gym's tasks. The library is imported inside functions: it takes a second."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tunesmith import ConfigError, did_you_mean

COLUMN = "reasoning_gym"
"""Column that holds the name of a task, its settings, and everything that its verifier needs."""
COMBINED = "composite"
"""The library's own mixture; here, several tasks are named instead."""
UNSTABLE = {"isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder"}
"""Tasks that depend on the order of Python's sets, which differs from process to process unless PYTHONHASHSEED is 0."""
EXAMPLES = ("possible_answer", "example_answer", "example_correct_answer")
"""Where tasks without a single right answer keep one that is right."""


def task_names() -> list[str]:
    """All tasks."""
    from reasoning_gym.factory import DATASETS

    return sorted(name for name in DATASETS if name != COMBINED)


def dataset(task: str, config: Mapping[str, Any], seed: int, size: int) -> Any:
    """A data set of one task. Raises `ConfigError` for an unknown task, or settings that it does not take."""
    from reasoning_gym.factory import DATASETS, create_dataset

    if task == COMBINED or task not in DATASETS:
        hint = did_you_mean(task, task_names())
        fix = "name several tasks instead" if task == COMBINED else "see `python -m tunesmith_reasoning_gym`"
        raise ConfigError(f"reasoning-gym has no single task {task!r}{hint}", fix=fix)
    taken = {"seed", "size"} & set(config)
    if taken:
        raise ConfigError(f"{', '.join(sorted(taken))} in config: the source has settings of these names")
    try:
        with quiet():
            return create_dataset(task, seed=seed, size=size, **config)
    except (TypeError, ValueError, AssertionError) as error:
        fields = DATASETS[task][1].__dataclass_fields__
        raise ConfigError(
            f"the settings of the task {task!r} are wrong: {error}",
            fix=f"it takes: {', '.join(name for name in fields if name not in ('seed', 'size'))}",
        ) from None


@lru_cache(maxsize=256)
def verifier(task: str, config: str) -> Any:
    """The data set whose ``score_answer`` judges; ``config`` is JSON."""
    return dataset(task, json.loads(config), 0, 1)


def gold(data: Any, entry: Mapping[str, Any]) -> str | None:
    """A right answer where the library gives one."""
    if isinstance(entry["answer"], str):
        return entry["answer"]
    for name in EXAMPLES:
        example = entry["metadata"].get(name)
        if example is not None:
            text = example if isinstance(example, str) else json.dumps(example)
            return text if data.score_answer(text, entry) == 1.0 else None
    return None


def quiet() -> Any:
    """Some tasks print while they are made; a command's standard output is its result."""
    return contextlib.redirect_stdout(io.StringIO())


# ---------------------------------------------------------------------------------------------- entries as JSON
def packed(value: Any) -> Any:
    """A value as JSON can hold it, so that `unpacked` gives it back: tuples and keys that are no text are marked."""
    if isinstance(value, tuple):
        return {"__tuple__": [packed(item) for item in value]}
    if isinstance(value, list):
        return [packed(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: packed(item) for key, item in value.items()}
        return {"__map__": [[packed(key), packed(item)] for key, item in value.items()]}
    return value


def unpacked(value: Any) -> Any:
    """What `packed` was given."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"__tuple__"}:
        return tuple(unpacked(item) for item in value["__tuple__"])
    if set(value) == {"__map__"}:
        return {unpacked(key): unpacked(item) for key, item in value["__map__"]}
    return {key: unpacked(item) for key, item in value.items()}
