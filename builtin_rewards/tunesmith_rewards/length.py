"""Shorter, longer or just as long as wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

import tunesmith
from tunesmith import AnyReward, Fault, Reward, Rollout

OWN: Mapping[str, frozenset[str]] = {
    "budget": frozenset({"limit", "buffer"}),
    "target": frozenset({"target", "tolerance"}),
    "cosine": frozenset(
        {"limit", "correct", "threshold", "correct_short", "correct_long", "wrong_short", "wrong_long", "exceeded"}
    ),
}
"""The settings of each shape."""
UNITS = {"words": lambda text: len(text.split()), "characters": len}


class Length(Reward):
    """A function of the completion's length: a budget, a target, or a cosine that depends on correctness."""

    name: ClassVar[str] = "length"
    shape: Literal["budget", "target", "cosine"] = "budget"
    """budget: 0 up to limit - buffer, falling to -1 at limit (soft overlong penalty). target: 0 at the target, down to
    -1. cosine: from short to long along half a cosine wave, for right and wrong completions each."""
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """What is counted: the tokens that were sampled, what stands between spaces, or characters."""
    limit: int | None = Field(default=None, ge=1)
    """budget, cosine: the longest length; where completions are sampled, the most new tokens. Must be given."""
    buffer: int | None = Field(default=None, ge=1)
    """budget: length over which the penalty grows from 0 to -1; by default a fifth of the limit."""
    target: int | str | None = None
    """target: the length wanted, or the column that holds it."""
    tolerance: int = Field(default=0, ge=0)
    """target: distance from the target that costs nothing."""
    correct: AnyReward | None = None
    """cosine: the reward that tells whether a completion is right."""
    threshold: float = 1.0
    """cosine: score of that reward from which a completion counts as right."""
    correct_short: float = 1.0
    """cosine: score of a right completion of length 0."""
    correct_long: float = 0.5
    """cosine: score of a right completion of the longest length."""
    wrong_short: float = -1.0
    """cosine: score of a wrong completion of length 0."""
    wrong_long: float = 0.0
    """cosine: score of a wrong completion of the longest length: thinking longer may help where short thoughts fail."""
    exceeded: float = -1.0
    """cosine: score of a completion that reaches the longest length or was cut off."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Some length."""
        return {"limit": 100}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        foreign = frozenset().union(*OWN.values()) - OWN[self.shape]
        changed = sorted(n for n in foreign if getattr(self, n) != type(self).model_fields[n].default)
        if changed:
            raise ValueError(f"{', '.join(changed)} would have no effect with shape: {self.shape}")
        wanted = {"budget": ("limit",), "target": ("target",), "cosine": ("limit", "correct")}[self.shape]
        missing = [name for name in wanted if getattr(self, name) is None]
        if missing:
            raise ValueError(f"shape: {self.shape} needs {' and '.join(missing)}")
        if self.buffer is not None and self.limit is not None and self.buffer > self.limit:
            raise ValueError(f"buffer ({self.buffer}) is larger than limit ({self.limit})")
        if isinstance(self.target, int) and self.target < 1:
            raise ValueError(f"target must be a positive length or a column, not {self.target}")
        if self.correct is not None:
            self._check_nested(self.correct)
        return self

    def _check_nested(self, correct: Reward) -> None:
        if not correct.isolated:
            raise ValueError(f"correct: {correct.name} holds a model in the trainer's process; it cannot be nested")
        if correct.timeout > self.timeout:
            raise ValueError(f"timeout ({self.timeout:g}) covers correct too, whose own is {correct.timeout:g}")

    def columns(self) -> Iterable[str]:
        """The column of the target, and what the nested reward needs."""
        own = (self.target,) if isinstance(self.target, str) else ()
        return (*own, *(self.correct.columns() if self.correct is not None else ()))

    def warm(self) -> None:
        """Prepare the nested reward."""
        if self.correct is not None:
            self.correct.warm()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """The rows of the nested reward, or a text of the right length; of tokens only a tokenizer knows."""
        if self.correct is not None:
            yield from self.correct.samples()
        elif self.unit != "tokens":
            wanted = self.target if isinstance(self.target, int) else 7
            said = " ".join(["word"] * wanted) if self.unit == "words" else "x" * wanted
            column = {self.target: wanted} if isinstance(self.target, str) else {}
            yield {"prompt": "Say something.", "completion": said if self.shape == "target" else "", **column}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Score every completion; in the cosine shape, what the nested reward cannot judge is not judged here."""
        lengths = [self._length(rollout) for rollout in rollouts]
        if self.correct is None:
            return [
                length if isinstance(length, Fault) else self._shaped(length, rollout)
                for length, rollout in zip(lengths, rollouts, strict=True)
            ]
        scores = self.correct(rollouts)
        return [
            length if isinstance(length, Fault) else self._cosine(length, score, rollout.truncated)
            for length, score, rollout in zip(lengths, scores, rollouts, strict=True)
        ]

    def _length(self, rollout: Rollout) -> int | Fault:
        if self.unit != "tokens":
            return UNITS[self.unit](rollout.text)
        if rollout.ids is None:
            return Fault("error", "there are no token ids to count; set unit: words or characters")
        return len(rollout.ids)

    def _shaped(self, length: int, rollout: Rollout) -> float | Fault:
        if self.shape == "target":
            return self._target(length, rollout)
        limit = self.limit or 0
        buffer = self.buffer if self.buffer is not None else max(1, limit // 5)
        # what was cut off would have gone on: its length is not known, but it is over the budget
        return -1.0 if rollout.truncated else max(-1.0, min(0.0, (limit - buffer - length) / buffer))

    def _target(self, length: int, rollout: Rollout) -> float | Fault:
        wanted = self.target
        if isinstance(wanted, str):
            value = rollout.columns.get(wanted)
            whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1
            if not whole or not math.isfinite(value):
                return Fault("error", f"column {wanted!r} holds {str(value)[:40]!r}; a length is a number of 1 or more")
            wanted = value
        if rollout.truncated:
            return -1.0
        return 0.0 - min(1.0, max(0.0, abs(length - wanted) - self.tolerance) / wanted)

    def _cosine(self, length: int, score: float | Fault | None, truncated: bool) -> float | Fault | None:
        if score is None or isinstance(score, Fault):
            return score
        limit = self.limit or 1
        if truncated or length >= limit:
            return self.exceeded
        right = score >= self.threshold
        short, long = (self.correct_short, self.correct_long) if right else (self.wrong_short, self.wrong_long)
        return long + (short - long) * (1 + math.cos(math.pi * length / limit)) / 2


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Length]
