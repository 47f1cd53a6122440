"""``tunesmith score``: what rewards say of completions, without training anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.components import Reward, Rollout
    from tunesmith.plugins import Registry

BLOCKS = " ▁▂▃▄▅▆▇█"
BINS = 10


@dataclass(slots=True)
class Verdicts:
    """What one reward said: scores in the order of the completions, and how long it took."""

    label: str
    scores: list[float | None]
    seconds: float
    numbers: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = [score for score in self.scores if score is not None]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "reward": self.label,
            "completions": len(self.scores),
            "abstained": len(self.scores) - len(self.numbers),
            "mean": statistics.fmean(self.numbers) if self.numbers else None,
            "std": statistics.pstdev(self.numbers) if self.numbers else None,
            "min": min(self.numbers, default=None),
            "max": max(self.numbers, default=None),
            "ms_per_completion": 1000 * self.seconds / len(self.scores),
            "scores": self.scores,
        }


@click.command()
@click.argument("words", metavar="REWARD...", nargs=-1, required=True)
@click.option("--data", "data", metavar="DATA", required=True, help="Rows with a prompt and its completions.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Judge at most this many rows.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with every score.")
@plugin_options
def score(words: tuple[str, ...], data: str, limit: int | None, as_json: bool) -> None:
    """Judge completions with rewards: names, {name: ..., settings}, or the folder of a reward model.

    Rows may hold one completion or several (preference pairs, rankings): each is judged.
    """
    registry = load_registry()
    rewards = [_reward(registry, word) for word in words]
    rollouts = _rollouts(registry, data, limit)
    verdicts = [_judged(reward, word, rollouts) for reward, word in zip(rewards, words, strict=True)]
    if as_json:
        terminal.print_json([verdict.as_dict() for verdict in verdicts])
    else:
        _print(verdicts)


def _reward(registry: Registry, word: str) -> Reward:
    import yaml

    from tunesmith.config import build

    spec = yaml.safe_load(word) if word.lstrip().startswith("{") else word
    return cast("Reward", build(registry, "reward", spec))


def _rollouts(registry: Registry, data: str, limit: int | None) -> list[Rollout]:
    from tunesmith.components import DataSpec
    from tunesmith.config import build
    from tunesmith.data.detect import SAMPLE, Taker, choose_format
    from tunesmith.data.rows import Intake
    from tunesmith.rollout.judge import rollouts_of

    spec = DataSpec.model_validate({"path": data}, context={"build": partial(build, registry)})
    rows = islice(spec.source.rows(), limit)
    sample = list(islice(rows, SAMPLE))
    if not sample:
        raise DataError(f"{data} holds no rows")
    found = choose_format(spec, sample, registry, Taker()).format
    intake = Intake(found, columns=spec.map, taker=Taker())
    rollouts: list[Rollout] = []
    for outcome in intake.outcomes(chain(sample, rows)):
        if outcome.status == "bad":
            raise DataError("a row cannot be judged", where=outcome.row.where, why=outcome.reason)
        if outcome.example is None:
            continue
        try:
            rollouts += rollouts_of(outcome.example, outcome.row.data)
        except ValueError as error:
            raise DataError("a row cannot be judged", where=outcome.row.where, why=str(error)) from None
    return rollouts


def _judged(reward: Reward, word: str, rollouts: Sequence[Rollout]) -> Verdicts:
    from tunesmith.rollout.judge import judge

    judge(reward, rollouts[:1])  # loads what it needs, which is not the time of a completion
    start = time.perf_counter()
    scores = judge(reward, rollouts)
    return Verdicts(word, scores, time.perf_counter() - start)


def _print(verdicts: Sequence[Verdicts]) -> None:
    header = ("reward", "completions", "mean", "std", "min", "max", "abstained", "ms each", "histogram")
    rows = []
    for verdict in verdicts:
        facts = verdict.as_dict()
        numbers = [f"{facts[k]:.3f}" if facts[k] is not None else "-" for k in ("mean", "std", "min", "max")]
        count = len(verdict.scores)
        share, each = f"{facts['abstained'] / count:.0%}", f"{facts['ms_per_completion']:.2f}"
        rows.append((verdict.label, f"{count:,}", *numbers, share, each, histogram(verdict.numbers)))
    for line in terminal.table(rows, header=header, wrap=0):
        click.echo(line)


def histogram(numbers: Sequence[float]) -> str:
    """Ten bars from the least to the greatest number.

    >>> histogram([0.0, 0.0, 1.0])
    '█        ▅'
    """
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    width = (high - low) or 1.0
    counts = [0] * BINS
    for number in numbers:
        counts[min(BINS - 1, int((number - low) / width * BINS))] += 1
    return "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // max(counts))] for count in counts)
