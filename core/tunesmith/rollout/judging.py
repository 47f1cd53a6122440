"""One reward over some completions, in whichever process: every answer becomes a state, exceptions too."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

import tunesmith
from tunesmith.components import Fault, Reward, Rollout, State
from tunesmith.errors import TunesmithError

FAULTS = ("timeout", "error", "infrastructure")
EACH = "each"
"""Says that from here on completions are judged one after the other, in order."""
TRACE_FRAMES = 3
_OWN = (os.path.dirname(__file__), os.path.join(os.path.dirname(tunesmith.__file__), "function_"), "<frozen")
LONGEST = 2000
Report = tuple[int, State, float | None, str, str]
"""Position, state, score, why there is no score, and where it was raised."""


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A return value that is no list of scores."""

    why: str


def judged(
    reward: Reward, rollouts: Sequence[Rollout], *, caught: type[BaseException] = BaseException
) -> Iterator[Report | str]:
    """A report for every completion as soon as it is known; `EACH` where a batch is taken apart.

    ``caught`` are the exceptions that count as the reward's own.
    """
    left = dict.fromkeys(range(len(rollouts)))
    if (reward.batched or not reward.isolated) and len(rollouts) > 1:
        for report in _together(reward, rollouts, caught):
            del left[report[0]]
            yield report
        if left:
            yield EACH
    for position in left:
        yield (position, *_alone(reward, rollouts[position], caught))


def _together(reward: Reward, rollouts: Sequence[Rollout], caught: type[BaseException]) -> Iterator[Report]:
    """Reports of one call; they end early when it raises, so that the culprit can be found one by one."""
    waiting = set(range(len(rollouts)))
    try:
        if type(reward).stream is Reward.stream:
            scores = _checked(reward(rollouts), len(rollouts))
            if isinstance(scores, _Wrong):
                yield from ((position, "error", None, scores.why, "") for position in sorted(waiting))
                return
            stream: Iterator[tuple[int, Any]] = iter(enumerate(scores))
        else:
            stream = reward.stream(rollouts)
        for position, score in stream:
            if position not in waiting:
                break
            waiting.remove(position)
            yield (position, *_stated(score))
    except GeneratorExit:
        raise
    except caught:  # a reward is anybody's code; each completion is tried by itself next
        return
    yield from ((position, "error", None, "the reward gave no score for it", "") for position in sorted(waiting))


def _alone(reward: Reward, rollout: Rollout, caught: type[BaseException]) -> tuple[State, float | None, str, str]:
    try:
        scores = _checked(reward([rollout]), 1)
        return ("error", None, scores.why, "") if isinstance(scores, _Wrong) else _stated(scores[0])
    except MemoryError:
        return "infrastructure", None, "there is not enough memory", ""
    except TunesmithError as error:
        return "error", None, "; ".join(filter(None, (error.what, error.where, error.why, error.fix)))[:LONGEST], ""
    except caught as error:  # a reward is anybody's code, and may raise SystemExit as well
        return "error", None, said(error), raised_at(error)


def _checked(scores: Any, count: int) -> Sequence[Any] | _Wrong:
    if isinstance(scores, (str, bytes, Mapping, Set)) or not isinstance(scores, Sequence):
        return _Wrong(f"the reward returned {_a(scores)} instead of a list with one score per completion")
    if len(scores) != count:
        return _Wrong(f"the reward returned {len(scores)} scores for {count} completion{'s' * (count != 1)}")
    return scores


def _stated(score: Any) -> tuple[State, float | None, str, str]:
    if score is None:
        return "abstained", None, "", ""
    if isinstance(score, Fault):
        return (score.state if score.state in FAULTS else "error"), None, str(score.why)[:LONGEST], ""
    if isinstance(score, bool) or not isinstance(score, Real):
        return "error", None, f"the reward returned {_a(score)}; a score is a finite number, or None to abstain", ""
    try:
        number = float(score)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return "error", None, f"the reward returned {number}; a score is a finite number, or None to abstain", ""
    return "score", number, "", ""


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"{value!r:.80}" if isinstance(value, (bool, str, bytes)) else f"a{'n' * (name[0] in 'aeiou')} {name}"


def said(error: BaseException) -> str:
    """The last line of a traceback: the exception and its message."""
    return "".join(traceback.format_exception_only(error)).strip()[:LONGEST]


def raised_at(error: BaseException) -> str:
    """Where it was raised, the innermost place first, without the frames of the judging itself."""
    found = traceback.TracebackException.from_exception(error).stack
    frames = [frame for frame in found if not frame.filename.startswith(_OWN)]
    places = [f"{f.filename}, line {f.lineno}, in {f.name}: {(f.line or '').strip()}" for f in frames[-TRACE_FRAMES:]]
    return "\ncalled from ".join(reversed(places))[:LONGEST]


def checked(message: Any, count: int) -> Report:
    """A report as it arrived from another process. Raises `ValueError` for what is none."""
    fits = isinstance(message, list) and len(message) == 5 and all(isinstance(text, str) for text in message[3:])
    if fits:
        index, state, score, why, trace = message
        number = isinstance(score, float) and abs(score) < float("inf")
        fits = type(index) is int and 0 <= index < count and state in get_args(State)
        fits = fits and (number if state == "score" else score is None)
    if not fits:
        raise ValueError(f"{message!r:.100}")
    return index, state, score, why, trace
