"""Several rewards over the same completions: who failed, who abstained, and the weighted sum of the rest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, get_args

from tunesmith.components import Reward, Rollout, State, Verdict
from tunesmith.errors import ConfigError, RewardError, nearest
from tunesmith.rollout.judging import Report, judged
from tunesmith.rollout.workers import Workers

STATES: tuple[State, ...] = get_args(State)
EXCERPT = 200
log = logging.getLogger(__name__)


class Panel:
    """Judges completions with every reward; a context manager that ends its processes.

    Rewards that are `isolated` run in worker processes: one that hangs or dies costs a completion its score, never
    the run. The others run here.

    Args:
        rewards: at least one; several may be of the same class.
        workers: processes that judge; by default one for each core, from 2 to 8.
        max_infrastructure: share of the completions of a call that may stay without a score because workers,
            endpoints or a sandbox failed; one completion may in any case, unless it is the only one.

    Attributes:
        rewards: as given.
        labels: see `labels_of`.

    Raises:
        ConfigError, ResourceError: a reward cannot be made ready.
    """

    def __init__(
        self, rewards: Sequence[Reward], *, workers: int | None = None, max_infrastructure: float = 0.1
    ) -> None:
        self.rewards = list(rewards)
        self.labels = labels_of(self.rewards)
        self._max_infrastructure = max_infrastructure
        self._apart = [index for index, reward in enumerate(self.rewards) if reward.isolated]
        self._here = [index for index, reward in enumerate(self.rewards) if not reward.isolated]
        self._warned: set[tuple[int, State]] = set()
        for index in self._here:
            self.rewards[index].warm()
        apart, labels = [self.rewards[i] for i in self._apart], [self.labels[i] for i in self._apart]
        self._workers = Workers(apart, labels, workers) if apart else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()

    def judge(self, rollouts: Sequence[Rollout]) -> list[list[Verdict]]:
        """A verdict for ``[reward][completion]``; the same whatever their order and number.

        Raises:
            RewardError: a reward failed and its ``on_error`` is ``stop``, or too much of what rewards rely on failed.
        """
        if not rollouts:
            return [[] for _ in self.rewards]
        found: list[dict[int, Verdict]] = [{} for _ in self.rewards]

        def put(index: int, report: Report) -> None:
            position, state, score, why, trace = report
            why, trace = _printable(why), _printable(trace)
            found[index][position] = Verdict(state, score, why)
            if state == "error" and self.rewards[index].on_error == "stop":
                raise self._failed(index, rollouts[position], why, trace)
            if state == "infrastructure":
                self._check_infrastructure(index, found[index].values(), len(rollouts))

        if self._workers is not None:
            self._workers.judge(rollouts, lambda index, report: put(self._apart[index], report))
        for index in self._here:
            for report in judged(self.rewards[index], rollouts, caught=Exception):
                if not isinstance(report, str):
                    put(index, report)
        verdicts = [[by_position[i] for i in range(len(rollouts))] for by_position in found]
        self._warn(verdicts)
        return verdicts

    def totals(self, verdicts: Sequence[Sequence[Verdict]]) -> list[float | None]:
        """The weighted sum of the scores of every completion.

        ``None`` where a reward failed on it, or where all abstained. Rewards of weight 0 are only watched.
        """
        return [self._total(column) for column in zip(*verdicts, strict=True)]

    def _total(self, column: Sequence[Verdict]) -> float | None:
        counted = [(r.weight, verdict) for r, verdict in zip(self.rewards, column, strict=True) if r.weight]
        if any(verdict.state not in ("score", "abstained") for _, verdict in counted):
            return None
        scores = [weight * verdict.score for weight, verdict in counted if verdict.score is not None]
        return sum(scores) if scores else None

    def _failed(self, index: int, rollout: Rollout, why: str, trace: str) -> RewardError:
        columns = ", ".join(f"{_printable(name)}={_excerpt(value, 60)}" for name, value in rollout.columns.items())
        return RewardError(
            f"the reward {self.labels[index]!r} failed: {why}",
            where=f"completion {_excerpt(rollout.completion)}; row {_excerpt_text(columns) or 'without columns'}",
            why=trace or None,
            fix="put the reward or the row right; `on_error: mask` leaves such completions out and counts them",
        )

    def _check_infrastructure(self, index: int, found: Iterable[Verdict], total: int) -> None:
        """As soon as it is certain, since every further failure may take its time."""
        failed = [verdict for verdict in found if verdict.state == "infrastructure"]
        # a single one in a small batch is no trend
        allowed = max(self._max_infrastructure * total, 1 if self._max_infrastructure else 0)
        if self._max_infrastructure >= 1 or (len(failed) <= allowed and len(failed) < total):
            return
        ((why, _),) = Counter(verdict.why for verdict in failed).most_common(1)
        raise RewardError(
            f"what the reward {self.labels[index]!r} relies on failed for {len(failed)} of {total} completions",
            why=why,
            fix=f"put that right and resume; a run stops where more than {self._max_infrastructure:.0%} fail",
        )

    def _warn(self, verdicts: Sequence[Sequence[Verdict]]) -> None:
        """Once for every reward and state; the shares are in the metrics."""
        for index, found in enumerate(verdicts):
            for verdict in found:
                key = (index, verdict.state)
                if verdict.state not in ("score", "abstained") and key not in self._warned:
                    self._warned.add(key)
                    log.warning(
                        "the reward %s gave no score (%s): %s; from now on this is only counted",
                        self.labels[index], verdict.state, verdict.why,
                    )  # fmt: skip


def labels_of(rewards: Sequence[Reward]) -> list[str]:
    """A name for each reward that no other has: its label or name, then name-2, ..."""
    """A name for each reward that no other has: its label or name, then name-2, ..."""
    labels: list[str] = []
    for reward in rewards:
        wanted = reward.label or reward.name
        number, label = 1, wanted
        while label in labels:
            number += 1
            label = f"{wanted}-{number}"
        labels.append(label)
    return labels


def _printable(text: str) -> str:
    """Without characters that could steer a terminal: messages of exceptions often quote the completion."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def _excerpt(value: Any, length: int = EXCERPT) -> str:
    return _excerpt_text(ascii(value) if not isinstance(value, str) else repr(value), length)


def _excerpt_text(text: str, length: int = 2 * EXCERPT) -> str:
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


def shares(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, float]:
    """The share of every state among all verdicts; all zero where there are none."""
    counts = Counter(verdict.state for found in verdicts for verdict in found)
    return {state: counts[state] / max(1, counts.total()) for state in STATES}


def missing_columns(rewards: Sequence[Reward], columns: Collection[str]) -> None:
    """Refuse rows that lack a column which a reward needs.

    Raises:
        ConfigError: names the reward, the column, and those that exist.
    """
    for reward, label in zip(rewards, labels_of(rewards), strict=True):
        missing = [name for name in reward.columns() if name not in columns]
        if missing:
            # the right answer is in neither of these, however alike the names are
            match = nearest(missing[0], [name for name in columns if name not in ("prompt", "completion")])
            raise ConfigError(
                f"the reward {label!r} needs the column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}",
                why=f"the rows have {', '.join(map(repr, columns)) or 'no columns beside the prompt'}",
                fix=(
                    f"did you mean {match!r}? Rename it in the rows, or by the reward's settings"
                    if match
                    else f"add it to the rows, or see the settings of the reward: `tunesmith show {reward.selector}`"
                ),
            )
