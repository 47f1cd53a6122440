"""What stands around training: trackers, rewards, engines that sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from tunesmith.components.base import Component, named, written_as

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker or a listener may know about a run.

    Attributes:
        output: the run's folder.
        method: name of the method.
        settings: the resolved run file.
        total_steps: optimizer steps of the whole run.
        first_step: steps done before this start, when resumed.
    """

    output: Path
    method: str
    settings: Mapping[str, Any]
    total_steps: int
    first_step: int = 0


class TrackerSession(Protocol):
    """An open tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of an optimizer step (or of an evaluation at that step)."""

    def close(self, error: BaseException | None) -> None:
        """Called once at the end of the run."""


class Tracker(Component):
    """Where metrics go, beside the run's own ``metrics.jsonl``. Opened on the main process only."""

    kind: ClassVar[str] = "tracker"
    always: ClassVar[bool] = False
    """True for a tracker that is opened without being asked for."""

    @abstractmethod
    def open(self, run: RunInfo) -> TrackerSession:
        """Start tracking; called once, before the first step."""


AnyTracker = Annotated[Tracker, named("tracker"), written_as("tracker")]


@dataclass(slots=True)
class Rollout:
    """A completion of a prompt, as a reward sees it.

    Attributes:
        prompt: text, or the messages before the answer.
        completion: text, or the messages of the answer.
        columns: the row that it came from, by column.
    """

    prompt: str | Sequence[Mapping[str, Any]]
    completion: str | Sequence[Mapping[str, Any]]
    columns: Mapping[str, Any] = field(default_factory=dict)


class Reward(Component):
    """Judges completions."""

    kind: ClassVar[str] = "reward"
    weight: float = 1.0
    """Factor in the sum over rewards."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """The settings that a plain word such as a path stands for, or ``None`` when it is not for this reward."""
        return None

    @abstractmethod
    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One score per rollout, in order; ``None`` where it cannot judge."""


class Generator(Component):
    """An engine that samples from the policy."""

    kind: ClassVar[str] = "generator"

    @abstractmethod
    def open(self, policy: nn.Module, tokenizer: Any) -> Any:
        """Make the engine ready to sample from the policy."""
