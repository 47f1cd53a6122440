"""Answers judged by the environment that asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import tunesmith
from pydantic import Field
from tunesmith import Fault, Rollout

from tunesmith_verifiers import library


class VerifiersReward(tunesmith.Reward):
    """What the rewards (the rubric) of a verifiers environment say of an answer, weighted and summed as it does.

    Rows come from the source of the same name. A reward of the environment that raises is a fault, and never a 0.
    """

    name: ClassVar[str] = "verifiers"
    needs: ClassVar[tuple[str, ...]] = ("verifiers",)

    timeout: float = Field(default=60.0, gt=0)
    """Seconds that judging one completion may take; the first one in a process loads the environment as well."""

    def columns(self) -> Iterable[str]:
        """What the source wrote for the environment."""
        return (library.COLUMN,)

    def warm(self) -> None:
        """Import the library, which takes seconds."""
        library.warm()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Judge every answer."""
        return [self._judged(rollout) for rollout in rollouts]

    def _judged(self, rollout: Rollout) -> float | Fault:
        known = rollout.columns.get(library.COLUMN)
        if not isinstance(known, Mapping) or not {"environment", "arguments", "task"} <= set(known):
            return Fault("error", f"column {library.COLUMN!r} is not as the source verifiers writes it")
        prompt = rollout.prompt
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
        try:
            environment = library.load(known["environment"], known["arguments"])
        except (tunesmith.ConfigError, tunesmith.ResourceError) as error:
            return Fault("error", str(error))
        return environment.score(known["task"], turns, rollout.text)
