"""What a reward is checked with, and how it is asked the same in several ways."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tunesmith.components import Fault, Reward, Rollout, Verdict
from tunesmith.rollout.lenient import LenientPanel
from tunesmith.testing.answers import Answered, Row

SAME = 1e-9
"""Scores that differ by less are the same."""
ROUNDING = 1e-4
"""How far scores of a reward that computes on tensors may differ when it is asked again."""


@dataclass(slots=True)
class Subject:
    """A reward and what it is checked with.

    Attributes:
        reward: with its settings.
        rows: each with a prompt, a completion that is best, and columns.
        columns: that the reward declares.
        panel: where it judges.
        policies: ways of answering without knowing anything, by name; each in variants.
        own: True where the rows are the reward's own or the author's, False for a stand-in.
        seen: all verdicts so far, each with what was judged.
        again: what was different when it was asked in other ways; ``None`` before that.
    """

    reward: Reward
    rows: Sequence[Row]
    columns: Sequence[str]
    panel: LenientPanel
    policies: Mapping[str, Sequence[Answered]] = field(default_factory=dict)
    own: bool = True
    again: str | None = None
    seen: list[tuple[str, Rollout, Verdict]] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The score of a perfect answer; 1 where the reward does not say."""
        return 1.0 if self.reward.best is None else self.reward.best

    def judge(self, what: str, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Judge and remember."""
        verdicts = self.panel.judge(rollouts)
        self.seen += [(what, rollout, verdict) for rollout, verdict in zip(rollouts, verdicts, strict=True)]
        return verdicts

    def rollout(self, index: int, text: str) -> Rollout:
        """An answer to the prompt of a row."""
        return answered(self.rows[index]["prompt"], text, columns_of(self.rows[index]))

    def gold(self) -> list[Rollout]:
        """The right answers, each to its own row."""
        return [answered(row["prompt"], row["completion"], columns_of(row)) for row in self.rows]


def answered(prompt: Any, completion: Any, columns: Mapping[str, Any]) -> Rollout:
    """A completion as if it had been sampled: its bytes stand for its token ids."""
    rollout = Rollout(prompt, completion, columns)
    rollout.ids = rollout.text.encode("utf-8", "surrogatepass")
    return rollout


def columns_of(row: Row) -> dict[str, Any]:
    """What a reward may compare an answer with."""
    return {name: value for name, value in row.items() if name not in ("prompt", "completion")}


# ---------------------------------------------------------------------------------------------- batches
class Repeating(Reward):
    """Asks another reward for the same answers in several ways, and is 1 where it always says the same."""

    name: ClassVar[str] = "repeating"
    inner: Any
    """The other reward."""

    def warm(self) -> None:
        """As the other reward."""
        self.inner.warm()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault]:
        """Each rollout's columns: the ``answers``, and the ``ways`` to ask about them: batches of their positions."""
        return [self._compare(**rollout.columns) for rollout in rollouts]

    def _compare(self, answers: Sequence[Rollout], ways: Mapping[str, Sequence[Sequence[int]]]) -> float | Fault:
        everything = list(range(len(answers)))
        first = self._asked(answers, [everything])
        for how, batches in ways.items():
            again = self._asked(answers, batches)
            for position in everything:
                if not same(first[position], again[position], SAME if self.inner.isolated else ROUNDING):
                    told = f"{plain(first[position])}, then {plain(again[position])}"
                    return Fault("error", f"{how}: {told} for {answers[position].text[:60]!r}")
        return 1.0

    def _asked(self, answers: Sequence[Rollout], batches: Sequence[Sequence[int]]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for batch in batches:
            found |= zip(batch, self.inner([answers[i] for i in batch]), strict=True)
        return found


class RepeatingHere(Repeating):
    """The same for a reward that judges in the process that trains."""

    isolated: ClassVar[bool] = False


def repeating(reward: Reward, answers: int) -> Reward:
    """The reward that asks another one several times about so many answers, with time enough for that."""
    cls = Repeating if reward.isolated else RepeatingHere
    return cls(inner=reward, timeout=8 * reward.timeout * max(1, answers))


def shuffled(count: int, size: int) -> list[list[int]]:
    """Positions in an order without meaning, in batches."""
    order = random.Random(0).sample(range(count), count)
    return [order[start : start + size] for start in range(0, count, size)]


def same(a: Any, b: Any, tolerance: float = SAME) -> bool:
    """True for equal scores, and for equal reasons why there is none."""
    if isinstance(a, Fault) or isinstance(b, Fault):
        return isinstance(a, Fault) and isinstance(b, Fault) and a.state == b.state
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def plain(score: Any) -> str:
    """A score, or what stands in its place, in words."""
    if isinstance(score, Fault):
        return score.state
    return "abstained" if score is None else f"{score:g}"
