"""Judging that never stops: for looking at completions and at rewards, where a failure is a finding."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tunesmith.components import Reward, Rollout, Verdict
from tunesmith.errors import RewardError
from tunesmith.rollout.panel import Panel

PANEL_LOG = logging.getLogger(Panel.__module__)


class LenientPanel:
    """One reward. Whatever fails is a verdict, however much of it there is, and none is logged.

    Args:
        reward: with its settings; what it says of failures does not matter here.
        workers: processes that judge.

    Raises:
        ConfigError, ResourceError: the reward cannot be made ready.
    """

    def __init__(self, reward: Reward, workers: int | None = None) -> None:
        lenient = reward.model_copy(update={"on_error": "mask"})
        self._panel = Panel([lenient], workers=workers, max_infrastructure=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._panel.close()

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """A verdict for each."""
        if not rollouts:
            return []
        with _quiet():
            try:
                return list(self._panel.judge(rollouts)[0])
            except RewardError as error:  # also where a single completion is all that there is
                why = " ".join((error.why or error.what).split())
                return [Verdict("infrastructure", None, why)] * len(rollouts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Failures are reported with the results, and not by the way."""
    before = PANEL_LOG.disabled
    PANEL_LOG.disabled = True
    try:
        yield
    finally:
        PANEL_LOG.disabled = before
