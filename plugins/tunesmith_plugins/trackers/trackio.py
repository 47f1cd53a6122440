"""Metrics into a local trackio data base."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

from tunesmith import ConfigError, RunInfo

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioSession:
    """One run of a trackio project, in the folder that TRACKIO_DIR names (by default trackio's own)."""

    def __init__(self, run: RunInfo, *, project: str, name: str) -> None:
        for variable in REMOTE:
            if os.environ.get(variable):
                raise ConfigError(
                    f"the environment variable {variable} asks trackio to upload, but this tracker writes locally only",
                    fix=f"unset {variable}; publish a run later with `trackio sync`",
                )
        import trackio

        with redirect_stdout(sys.stderr):  # it prints what it does; stdout is for results
            self._run = trackio.init(
                project=project,
                name=name,
                config=dict(run.settings),
                resume="allow" if run.first_step else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics to trackio's writer thread."""
        self._run.log(dict(metrics), step=step)

    def close(self, error: BaseException | None) -> None:
        """Wait until everything is written."""
        import trackio

        with redirect_stdout(sys.stderr):
            trackio.finish()  # not Run.finish, after which trackio finishes the run once more when Python exits
