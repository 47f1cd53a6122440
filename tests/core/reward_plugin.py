"""A reward that keeps its promises, and the ways in which it breaks each: tests load this file as a plugin."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import tunesmith
from tunesmith import Fault, Reward, Rollout

calls = 0


class Sums(Reward):
    """Right when the last number of the answer is the sum in its row."""

    name: ClassVar[str] = "toy-sums"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0
    fault: str = ""
    """The way in which it is wrong."""

    def columns(self) -> Iterable[str]:
        return ("total",) if self.fault != "reads a column in secret" else ()

    def samples(self) -> Iterable[dict[str, Any]]:
        if self.fault == "no rows":
            return
        for a, b in ((120, 3), (200, 17), (310, 31)):
            yield {"prompt": f"What is {a} + {b}?", "total": a + b, "completion": f"It is {a + b}."}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Any]:
        scores = [self.score(rollout) for rollout in rollouts]
        if self.fault == "depends on the batch":
            known = [score for score in scores if isinstance(score, float)]
            return [score / len(known) if isinstance(score, float) else score for score in scores]
        return scores

    def score(self, rollout: Rollout) -> Any:
        text, total = rollout.text, rollout.columns.get("total")
        if total is None and self.fault == "takes null for an answer":
            return 0.0
        if total is None and self.fault == "names no column":
            raise ValueError("bad row")
        if total is None:
            return Fault("error", "the column 'total' is empty")
        found = re.findall(r"(?a:\d)+", text[-1000:])
        right = bool(found) and found[-1] == str(total)
        return self.wrong(rollout, text, str(total), right)

    def wrong(self, rollout: Rollout, text: str, total: str, right: bool) -> Any:
        faults = {
            "gold is not best": lambda: 0.9 * right,
            "abstains on gold": lambda: None if right else 0.0,
            "abstains on nothing": lambda: float(right) if text else None,
            "nothing is right": lambda: float(right or not text),
            "the question is right": lambda: float(right or text == rollout.prompt),
            "a number is right": lambda: float(right or bool(re.search(r"\b\d{1,3}\b", text[:50]))),
            "tags are worth something": lambda: max(float(right), 0.2 * text.startswith("<answer>")),
            "the form is right": lambda: float(right or text.startswith("It is")),
            "length is right": lambda: float(right or 50_000 < len(text) < 1_000_000),
            "words are right": lambda: float(right or bool(re.fullmatch("[a-z ]{20,200}", text))),
            "better than best": lambda: 1.5 * (len(text) == 9_999) or float(right),
            "hangs": lambda: _sleep(text),
            "recurses": lambda: _nested(text) or float(right),
            "dies": lambda: _end(text) or float(right),
            "raises": lambda: (text.encode("utf-8"), float(right))[1],
            "no number": lambda: float("nan") if "\x00" in text else float(right),
            "text only": lambda: float(rollout.completion.strip().endswith(f"{total}.")),
            "counts its calls": lambda: _counted(right),
            "differs in every process": lambda: float(right) or (hash(text) % 1000) / 1e6,
            "reads a column in secret": lambda: float(right),
        }
        return faults[self.fault]() if self.fault in faults else float(right)


def _sleep(text: str) -> float:
    if text.count("a") == 50_000:
        time.sleep(60)
    return float("It is" in text)


def _nested(text: str) -> None:
    if text.startswith("["):
        json.loads(text)


def _end(text: str) -> None:
    if "\ud800" in text:
        os._exit(3)


def _counted(right: bool) -> float:
    global calls
    calls += 1
    return float(right) - calls / 1e6 * (not right)


class BatchedSums(Sums):
    """The same for all answers in one call."""

    name: ClassVar[str] = "toy-batched-sums"
    batched: ClassVar[bool] = True


class Tone(Reward):
    """Polite answers; it has no rows of its own and reads no columns."""

    name: ClassVar[str] = "toy-tone"

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        return [float("please" in rollout.text) for rollout in rollouts]


class Elsewhere(Reward):
    """Asks something that is not there."""

    name: ClassVar[str] = "toy-elsewhere"

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Fault]:
        return [Fault("infrastructure", "nobody answers on port 9")] * len(rollouts)


class Absent(Tone):
    """Needs something that is not installed."""

    name: ClassVar[str] = "toy-absent"

    def warm(self) -> None:
        raise tunesmith.ResourceError("the toy box is not installed")


class Marked(Tone):
    """Cannot do without a setting."""

    name: ClassVar[str] = "toy-marked"
    mark: str
    """What to look for."""


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    return [Sums, BatchedSums, Tone, Elsewhere, Absent, Marked]
