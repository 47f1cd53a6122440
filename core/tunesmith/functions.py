"""Rewards written as functions of the fields that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from tunesmith.function_rewards import FunctionReward


@overload
def reward(name: Callable[..., Any]) -> type[FunctionReward]: ...
@overload
def reward(
    name: str | None = None,
    *,
    batched: bool | None = None,
    columns: Mapping[str, str] | None = None,
    verifies: bool = False,
    best: float | None = None,
    needs: Sequence[str] = (),
    samples: Sequence[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]] = (),
    isolated: bool = True,
) -> Callable[[Callable[..., Any]], type[FunctionReward]]: ...
def reward(name: Any = None, **options: Any) -> Any:
    """Make a reward of a function: ``@reward``, ``@reward("name")`` or ``@reward("name", best=1.0, ...)``.

    Its positional parameters are fields: ``prompt``, ``completion`` (text, or messages where it is annotated as a
    list), ``completion_ids``, ``truncated``, ``row`` (all columns), and any other name is a column; one with a default
    may be missing. Its keyword-only parameters are settings and need an annotation. The docstring is the help; what it
    says about a setting under ``Args:`` is that setting's. It returns a number, True or False for 1 and 0, ``None``
    where it cannot judge, or a `Fault`. It may be ``async``: all completions are then judged at once.

    A function that takes ``prompts`` or ``completions``, or ``**kwargs``, is called once with lists, as trainers of
    the TRL family do: its parameters are then columns, or settings where they are keyword-only with a default.

    The result is a class; its ``function`` is the function, for tests.

    Args:
        name: kebab-case; by default the function's.
        batched: says whether it takes lists, where its parameters do not.
        columns: parameter to the name of the column that it stands for.
        verifies, best, needs, isolated: see `Reward`.
        samples: rows for `Reward.samples`, or what returns them.

    Raises:
        ConfigError: the function cannot be a reward; names its file and line.
    """
    from tunesmith.function_reading import from_function  # it needs asyncio, which takes a while to import

    if callable(name):
        return from_function(name)
    return lambda function: from_function(function, name, **options)
