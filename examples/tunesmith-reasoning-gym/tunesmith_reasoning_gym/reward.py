"""Answers judged by the task's own verifier."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from tunesmith import ConfigError, Fault, Reward, Rollout
from tunesmith_reasoning_gym import guard, library

SAMPLES = ("chain_sum", "basic_arithmetic", "word_sorting", "leg_counting")


class ReasoningGymReward(Reward):
    """What the task's own verifier says of the answer between <answer> and </answer>, from 0 to 1.

    Rows come from the source of the same name. Answers that a verifier would evaluate as Python are looked at first;
    anything but plain lists and arithmetic scores 0 without being evaluated.
    """

    name: ClassVar[str] = "reasoning-gym"
    needs: ClassVar[tuple[str, ...]] = ("reasoning_gym",)
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    credit: Literal["partial", "full"] = "partial"
    """partial: as the verifier says; many give 0.01 for any answer, or a share for a part of it. full: 1 or 0."""

    def columns(self) -> Iterable[str]:
        """What the source wrote for the verifier."""
        return (library.COLUMN,)

    def warm(self) -> None:
        """Import the library."""
        library.task_names()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """One row of each of a few tasks."""
        from tunesmith_reasoning_gym.source import ReasoningGym

        for task in SAMPLES:
            yield next(ReasoningGym(task=(task,), size=1).records())

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Judge every answer."""
        return [self._judged(rollout) for rollout in rollouts]

    def _judged(self, rollout: Rollout) -> float | Fault:
        known = rollout.columns.get(library.COLUMN)
        if not isinstance(known, Mapping) or not {"task", "config", "entry"} <= set(known):
            return Fault("error", f"column {library.COLUMN!r} is not as the source reasoning-gym writes it")
        try:
            data = library.verifier(known["task"], json.dumps(known["config"], sort_keys=True))
        except ConfigError as error:
            return Fault("error", f"column {library.COLUMN!r}: {error}")
        answer = _answer(rollout.text)
        if answer is None or not guard.harmless(known["task"], answer):
            return 0.0
        score = _score(data, answer, library.unpacked(known["entry"]))
        if isinstance(score, Fault):
            return score
        return score if self.credit == "partial" else float(score >= 1.0)


def _answer(text: str) -> str | None:
    from tunesmith.passages import after_thinking, tagged

    found = tagged(after_thinking(text) or "", "answer")
    return found[-1] if found else None


def _score(data: Any, answer: str, entry: Mapping[str, Any]) -> float | Fault:
    """The verifier's score. One that raises has met an answer that it cannot read, if it can read a right one."""
    try:
        with library.quiet():
            return float(data.score_answer(answer, entry))
    except Exception as error:  # a hundred verifiers by others, none of which says what it raises
        right = entry["answer"]
        if isinstance(right, str) and (answer == right or isinstance(_score(data, right, entry), Fault)):
            return Fault("error", f"the verifier raised {type(error).__name__}: {error}"[:200])
        return 0.0
