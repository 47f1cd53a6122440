"""Trackers: where the metrics of a run go, beside its own ``metrics.jsonl``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import RunInfo, Tracker, TrackerSession


class Terminal(Tracker):
    """Progress on stderr: a live view on a terminal, a plain line per log interval elsewhere."""

    name: ClassVar[str] = "terminal"
    always: ClassVar[bool] = True
    view: Literal["auto", "live", "plain"] = "auto"
    """auto: live on a terminal, unless TERM is dumb or CI is set; or always live, or always plain lines."""

    def open(self, run: RunInfo) -> TrackerSession:
        """Start showing the run."""
        from .terminal import LiveSession, PlainSession, stderr_is_live

        live = self.view == "live" or (self.view == "auto" and stderr_is_live())
        return LiveSession(run) if live else PlainSession(run)


class TensorBoard(Tracker):
    """Event files in the run's folder ``tensorboard``; look at them with ``tensorboard --logdir``."""

    name: ClassVar[str] = "tensorboard"
    needs: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def open(self, run: RunInfo) -> TrackerSession:
        """Open an event file; a resumed run hides the steps that it repeats."""
        from .tensorboard import TensorBoardSession

        return TensorBoardSession(run)


class Trackio(Tracker):
    """A local trackio data base; look at it with ``trackio show``. Nothing is uploaded.

    trackio itself asks the Hub for the user's name where a Hub token is stored; HF_HUB_OFFLINE=1 keeps it from that.
    """

    name: ClassVar[str] = "trackio"
    needs: ClassVar[tuple[str, ...]] = ("trackio",)
    elsewhere: ClassVar[str] = "trackio's data base, in the folder that TRACKIO_DIR names or trackio's own"
    project: str = Field(default="tunesmith", min_length=1)
    """Project that the run belongs to."""
    run_name: str | None = None
    """Name of the run; by default that of its folder."""

    def open(self, run: RunInfo) -> TrackerSession:
        """Create the run, or continue it when resumed. Raises `ConfigError` where the environment asks for uploads."""
        from .trackio import TrackioSession

        return TrackioSession(run, project=self.project, name=self.run_name or run.output.name)


@tunesmith.hookimpl
def tunesmith_register_trackers() -> list[type[Tracker]]:
    """Register the built-in trackers."""
    return [Terminal, TensorBoard, Trackio]
