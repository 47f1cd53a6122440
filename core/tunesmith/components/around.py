"""What stands around training: what is known of a run, and where its metrics go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from tunesmith.components.base import Component, named, written_as


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
    elsewhere: ClassVar[str] = ""
    """Where it writes beside the run's folder, if it does: such as ``the data base in ~/.runs``."""

    @abstractmethod
    def open(self, run: RunInfo) -> TrackerSession:
        """Start tracking; called once, before the first step."""


AnyTracker = Annotated[Tracker, named("tracker"), written_as("tracker")]
