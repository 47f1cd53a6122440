"""The classes of rewards that call a function: for each completion, for all at once, or as coroutines."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter
from typing import Any, ClassVar, NoReturn

from tunesmith.components import Fault, Reward, Rollout
from tunesmith.errors import ConfigError

MOST_AT_ONCE = 64
"""Completions that an async reward works on at the same time."""
Score = float | Fault | None
ONE = ("prompt", "completion", "completion_ids", "truncated", "row", "columns")
MANY = ("prompts", "completions", "completion_ids", "rows", "trainer_state", "log_extra", "log_metric")


class FunctionReward(Reward):
    """A reward that calls a function; its subclasses come from `reward`."""

    function: ClassVar[Callable[..., Any]]
    """The function as it was written."""
    from_function: ClassVar[Any] = None
    """Where no module holds the class: how another process gets it, as ``(callable, (module, name))``."""
    takes: ClassVar[Mapping[str, Parameter]] = {}
    """Its parameters that are fields."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Its parameters that are settings."""
    hints: ClassVar[Mapping[str, Any]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}
    takes_all: ClassVar[bool] = False
    rows_to_check: ClassVar[Any] = ()

    def columns(self) -> Iterable[str]:
        """The columns that the function names and has no default for."""
        known = MANY if self.batched_function() else ONE
        wanted = [name for name, p in self.takes.items() if name not in known and p.default is Parameter.empty]
        return [self.renamed.get(name, name) for name in wanted]

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Rows to check it with, as they were given."""
        rows: Iterable[Mapping[str, Any]] = self.rows_to_check() if callable(self.rows_to_check) else self.rows_to_check
        return rows

    @classmethod
    def batched_function(cls) -> bool:
        """True where the function takes lists."""
        return cls.batched

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """Call the function for each completion. ``True`` and ``False`` count as 1 and 0."""
        return [_number(self.function(*self._positional(r), **self._keywords(r))) for r in rollouts]

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}

    def _positional(self, rollout: Rollout) -> list[Any]:
        return [self._field(name, rollout) for name, p in self.takes.items() if p.kind is Parameter.POSITIONAL_ONLY]

    def _keywords(self, rollout: Rollout) -> dict[str, Any]:
        names = [name for name, p in self.takes.items() if p.kind is not Parameter.POSITIONAL_ONLY]
        return {**{name: self._field(name, rollout) for name in names}, **self._options()}

    def _field(self, name: str, rollout: Rollout) -> Any:
        """Raises `ConfigError` for a field that the completion does not have."""
        default = self.takes[name].default
        match name:
            case "prompt":
                return _as_text(rollout.prompt) if _wants_text(self.hints.get(name)) else rollout.prompt
            case "completion":
                return _as_messages(rollout) if _wants_messages(self.hints.get(name)) else rollout.text
            case "truncated":
                return rollout.truncated
            case "row" | "columns":
                return rollout.columns
            case "completion_ids":
                found = None if rollout.ids is None else list(rollout.ids)
            case _:
                found = rollout.columns.get(self.renamed.get(name, name))
                if found is None and self.renamed.get(name, name) in rollout.columns:
                    return None
        if found is None and default is Parameter.empty:
            raise _absent(self, name, rollout)
        return default if found is None else found


class AsyncFunctionReward(FunctionReward):
    """Calls of a coroutine function run together, each with its own time limit."""

    batched: ClassVar[bool] = True

    @classmethod
    def batched_function(cls) -> bool:
        """False: it is called for each completion."""
        return False

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """Call the function for all completions at once."""
        found = dict(self.stream(rollouts))
        return [found[position] for position in range(len(rollouts))]

    def stream(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[int, Score]]:
        """Scores as they come in. What a call raised is raised again after all others are through."""
        run = _event_loop().run
        tasks: set[asyncio.Task[tuple[int, Score]]] = run(self._start(rollouts))
        failed: list[asyncio.Task[tuple[int, Score]]] = []
        try:
            while tasks:
                done, tasks = run(_next_of(tasks))
                for task in done:
                    if task.exception() is None:
                        yield task.result()
                    else:
                        failed.append(task)
        finally:
            for task in tasks:
                task.cancel()
        for task in failed:
            task.result()

    async def _start(self, rollouts: Sequence[Rollout]) -> set[asyncio.Task[tuple[int, Score]]]:
        turns = asyncio.Semaphore(MOST_AT_ONCE)
        return {asyncio.ensure_future(self._one(i, rollout, turns)) for i, rollout in enumerate(rollouts)}

    async def _one(self, position: int, rollout: Rollout, turns: asyncio.Semaphore) -> tuple[int, Score]:
        async with turns:
            try:
                async with asyncio.timeout(self.timeout) as limit:
                    called = self.function(*self._positional(rollout), **self._keywords(rollout))
                    return position, _number(await called)
            except TimeoutError:
                if limit.expired():
                    return position, Fault("timeout", f"no score within {self.timeout:g} s")
                raise


class BatchFunctionReward(FunctionReward):
    """One call with lists: ``prompts``, ``completions``, and a list for every column."""

    batched: ClassVar[bool] = True

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """Call the function once."""
        given = self._lists(rollouts)
        first = [given.pop(name) for name, p in self.takes.items() if p.kind is Parameter.POSITIONAL_ONLY]
        scores = self.function(*first, **given, **self._options())
        if inspect.isawaitable(scores):
            scores = _event_loop().run(_awaited(scores))
        scores = getattr(scores, "tolist", lambda: scores)()  # of an array or a tensor
        return [_number(score) for score in scores] if isinstance(scores, (list, tuple)) else scores

    def _lists(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        given = {name: self._list(name, rollouts) for name in self.takes if self._has(name, rollouts)}
        if self.takes_all:
            names = [*MANY, *dict.fromkeys(name for rollout in rollouts for name in rollout.columns)]
            hidden = {*given, *self.settings, *ONE, "rows", *self.renamed.values()} - {"completion_ids"}
            given |= {name: self._list(name, rollouts) for name in names if name not in hidden}
        return given

    def _has(self, name: str, rollouts: Sequence[Rollout]) -> bool:
        """False where every row lacks a column that has a default."""
        optional = name not in MANY and self.takes[name].default is not Parameter.empty
        return not optional or any(self.renamed.get(name, name) in rollout.columns for rollout in rollouts)

    def _list(self, name: str, rollouts: Sequence[Rollout]) -> Any:
        match name:
            case "prompts":
                text = _wants_text(self.hints.get(name))
                return [_as_text(rollout.prompt) if text else rollout.prompt for rollout in rollouts]
            case "completions":
                return [self._completion(rollout) for rollout in rollouts]
            case "completion_ids":
                return [None if rollout.ids is None else list(rollout.ids) for rollout in rollouts]
            case "rows":
                return [rollout.columns for rollout in rollouts]
            case "trainer_state":
                return _NoState()
            case "log_extra" | "log_metric":
                return _log_nothing
        column = self.renamed.get(name, name)
        for rollout in rollouts:
            if name in self.takes and self.takes[name].default is Parameter.empty and column not in rollout.columns:
                raise _absent(self, name, rollout)
        return [rollout.columns.get(column) for rollout in rollouts]

    def _completion(self, rollout: Rollout) -> Any:
        """Text or messages: what the annotation says, else what the prompt is."""
        hint = self.hints.get("completions")
        messages = _wants_messages(hint) or (not _wants_text(hint) and not isinstance(rollout.prompt, str))
        return _as_messages(rollout) if messages else rollout.text


class _NoState:
    """Stands for a trainer's state: a reward must give the same score at every step."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigError(
            f"a reward has no trainer_state.{name}",
            why="the same completion gets the same score at any step, or scoring it again would give another one",
            fix="make it a setting of the reward",
        )


def _log_nothing(name: str, value: Any) -> None:
    """Takes what a function logs; the shares of states and the scores are logged anyway."""


def _absent(reward: FunctionReward, name: str, rollout: Rollout) -> ConfigError:
    column = reward.renamed.get(name, name)
    if name == "completion_ids":
        return ConfigError(f"the reward {reward.name!r} needs token ids, which only completions sampled in a run have")
    has = ", ".join(map(repr, rollout.columns)) or "no columns"
    return ConfigError(f"the reward {reward.name!r} needs the column {column!r}; this row has {has}")


def _number(score: Any) -> Any:
    """``True`` is 1 and ``False`` is 0; everything else is checked by whoever asked for scores."""
    score = getattr(score, "tolist", lambda: score)()  # of a number of an array, or a tensor that is one
    return float(score) if isinstance(score, bool) else score


# ---------------------------------------------------------------------------------------------- text and messages
def _wants_text(hint: Any) -> bool:
    """True for ``str`` and ``list[str]``."""
    return hint is str or (typing.get_origin(hint) in (list, Sequence) and typing.get_args(hint) == (str,))


def _wants_messages(hint: Any) -> bool:
    """True for lists of something else than text, and of lists of those."""
    plain = hint in (list, Sequence) or typing.get_origin(hint) in (list, Sequence)
    return plain and not _wants_text(hint) and bool(typing.get_args(hint) or hint is list)


def _as_text(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """A prompt as text: what all of its messages say."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(turn["content"] for turn in prompt if isinstance(turn.get("content"), str))


def _as_messages(rollout: Rollout) -> Sequence[Mapping[str, Any]]:
    if isinstance(rollout.completion, str):
        return [{"role": "assistant", "content": rollout.completion}]
    return rollout.completion


# ---------------------------------------------------------------------------------------------- coroutines
@lru_cache(maxsize=1)
def _event_loop() -> asyncio.Runner:
    """One loop for as long as the process lives: clients that a function keeps belong to the loop they began in."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


async def _next_of(tasks: set[asyncio.Task[Any]]) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _awaited(value: Any) -> Any:
    return await value
