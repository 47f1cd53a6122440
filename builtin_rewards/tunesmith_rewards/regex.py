"""Patterns that a completion must match."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

import tunesmith
from tunesmith import Fault, Reward, Rollout


def _one_or_more(value: Any) -> Any:
    """A pattern may hold a comma, so text is never split."""
    return (value,) if isinstance(value, str) else value


class Regex(Reward):
    """1 for a completion that matches every pattern (Python's syntax), otherwise 0."""

    name: ClassVar[str] = "regex"
    pattern: Annotated[tuple[str, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...])] = (
        Field(min_length=1)
    )
    """One pattern or a list of them; ^ and $ match at lines with multiline, and . matches them with dotall."""
    match: Literal["search", "fullmatch"] = "search"
    """search: anywhere in the text. fullmatch: the whole text, spaces around it left out."""
    part: Literal["answer", "whole"] = "answer"
    """answer: what follows the reasoning. whole: the completion as it stands, reasoning and its tags too."""
    ignore_case: bool = False
    """Capital letters do not matter, in the comparison with a column neither."""
    multiline: bool = False
    """^ and $ match at the start and end of every line."""
    dotall: bool = False
    """. matches the end of a line too."""
    column: str | None = None
    """Column that the group must equal, spaces around both left out; of several matches, the last one counts."""
    group: int | str = 0
    """Number or name of the group that is compared with the column; it belongs to the first pattern that has it."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Some pattern."""
        return {"pattern": "a+b"}

    @model_validator(mode="after")
    def _valid(self) -> Self:
        found = []
        for pattern in self.pattern:
            try:
                found.append(_compiled(pattern, self._flags))
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"the pattern {pattern!r} cannot be read: {error}") from None
        if self.column is None and self.group != 0:
            raise ValueError("group has an effect only with column: the column to compare it with")
        if self.column is not None and not any(_has(one, self.group) for one in found):
            raise ValueError(f"no pattern has a group {self.group!r}; write one in parentheses, or (?P<name>...)")
        return self

    @property
    def _flags(self) -> int:
        chosen = {re.IGNORECASE: self.ignore_case, re.MULTILINE: self.multiline, re.DOTALL: self.dotall}
        return sum(int(flag) for flag, on in chosen.items() if on)

    def columns(self) -> Iterable[str]:
        """The column that the group is compared with."""
        return (self.column,) if self.column is not None else ()

    def warm(self) -> None:
        """Compile the patterns."""
        for pattern in self.pattern:
            _compiled(pattern, self._flags)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Score every completion."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float | Fault:
        from tunesmith.passages import after_thinking

        wanted = None if self.column is None else rollout.columns.get(self.column)
        if self.column is not None and (wanted is None or not str(wanted).strip()):
            return Fault("error", f"column {self.column!r} is empty; there is nothing to compare the group with")
        text = rollout.text if self.part == "whole" else after_thinking(rollout.text)
        if text is None:
            return 0.0
        compared = self.column is None
        for pattern in self.pattern:
            expression = _compiled(pattern, self._flags)
            match = self._last(expression, text, compared)
            if match is None:
                return 0.0
            if not compared and _has(expression, self.group):
                compared = True
                if not self._equal(match[self.group], str(wanted)):
                    return 0.0
        return 1.0

    def _last(self, expression: re.Pattern[str], text: str, compared: bool) -> re.Match[str] | None:
        """The last match, or, where nothing is left to compare, any."""
        if self.match == "fullmatch":
            return expression.fullmatch(text.strip())
        if compared or not _has(expression, self.group):
            return expression.search(text)
        return next(iter(deque(expression.finditer(text), maxlen=1)), None)

    def _equal(self, found: str | None, wanted: str) -> bool:
        if found is None:
            return False
        one, other = found.strip(), wanted.strip()
        return one.casefold() == other.casefold() if self.ignore_case else one == other


@lru_cache(maxsize=256)
def _compiled(pattern: str, flags: int) -> re.Pattern[str]:
    return re.compile(pattern, flags)


def _has(expression: re.Pattern[str], group: int | str) -> bool:
    return group in expression.groupindex if isinstance(group, str) else 0 <= group <= expression.groups


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Regex]
