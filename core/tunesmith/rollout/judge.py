"""Rewards over completions: from typed rows to scores that were checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.components import Reward, Rollout
from tunesmith.errors import DataError, TunesmithError
from tunesmith.examples import Completion, Conversation, Example, Judged


def rollouts_of(example: Example, row: Mapping[str, Any]) -> list[Rollout]:
    """The prompt with each of its answers. Raises `ValueError` for an example that holds no answer."""
    if isinstance(example, Judged):
        return [Rollout(example.prompt, answer.passage, row) for answer in example.answers()]
    if isinstance(example, Completion):
        return [Rollout(example.prompt, example.completion, row)]
    if isinstance(example, Conversation):
        *before, last = example.messages
        if last.get("role") == "assistant":
            return [Rollout(before, [last], row)]
        raise ValueError("the last message is not the assistant's")
    raise ValueError(f"a {type(example).__name__} holds no answer to judge")


def judge(reward: Reward, rollouts: Sequence[Rollout]) -> list[float | None]:
    """The reward's scores, one per rollout.

    Raises:
        TunesmithError: the reward returned something else than a finite number or ``None`` for each rollout.
    """
    scores = reward(rollouts)
    if not isinstance(scores, list) or len(scores) != len(rollouts):
        what = f"{len(scores)} scores" if isinstance(scores, list) else f"a {type(scores).__name__}"
        raise TunesmithError(
            f"the reward {reward.name!r} returned {what} for {len(rollouts)} completions",
            fix="return a list with one number (or None) per completion",
        )
    for score, rollout in zip(scores, rollouts, strict=True):
        number = isinstance(score, (int, float)) and not isinstance(score, bool)
        if score is not None and not (number and math.isfinite(score)):
            raise DataError(
                f"the reward {reward.name!r} returned {score!r}",
                where=f"completion {str(rollout.completion)[:80]!r}",
                why="a score is a finite number, or None where it cannot judge",
            )
    return [None if score is None else float(score) for score in scores]
