"""The hook specifications: everything a plugin may implement.

Registration hooks are called once per plugin when it is loaded, on every rank, before any model exists; a plugin
whose hook raises becomes a row with that cause in ``tunesmith plugins``. Notification hooks are called on the main
process only; a listener that raises is detached with one warning and the run goes on. A specification may gain an
argument, it never loses one: implementations name only the arguments they use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from tunesmith.components import (
        DataFormat,
        Generator,
        Method,
        Objective,
        Reward,
        RunInfo,
        Scheduler,
        Source,
        Tracker,
    )
    from tunesmith.report.markup import Markup

PROJECT = "tunesmith"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def tunesmith_register_methods() -> Iterable[type[Method]]:  # type: ignore[empty-body]
    """Return the training methods of this plugin."""


@hookspec
def tunesmith_register_objectives() -> Iterable[type[Objective]]:  # type: ignore[empty-body]
    """Return the losses of this plugin."""


@hookspec
def tunesmith_register_rewards() -> Iterable[type[Reward]]:  # type: ignore[empty-body]
    """Return the reward functions (verifiers) of this plugin."""


@hookspec
def tunesmith_register_data_formats() -> Iterable[type[DataFormat]]:  # type: ignore[empty-body]
    """Return the row formats of this plugin."""


@hookspec
def tunesmith_register_sources() -> Iterable[type[Source]]:  # type: ignore[empty-body]
    """Return the row sources of this plugin."""


@hookspec
def tunesmith_register_schedulers() -> Iterable[type[Scheduler]]:  # type: ignore[empty-body]
    """Return the schedules of this plugin."""


@hookspec
def tunesmith_register_generators() -> Iterable[type[Generator]]:  # type: ignore[empty-body]
    """Return the generation engines of this plugin."""


@hookspec
def tunesmith_register_trackers() -> Iterable[type[Tracker]]:  # type: ignore[empty-body]
    """Return the metric trackers of this plugin."""


@hookspec
def tunesmith_register_commands(cli: click.Group) -> None:
    """Add commands to the command line. A command whose name is taken is refused, with the owner's name."""


@hookspec
def tunesmith_run_started(run: RunInfo) -> None:
    """Called after the models are loaded and before the first step."""


@hookspec
def tunesmith_step_ended(run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
    """Called after every optimizer step; ``step`` counts from 1, ``metrics`` is what is written to the log."""


@hookspec
def tunesmith_checkpoint_saved(run: RunInfo, step: int, path: Path) -> None:
    """Called after a checkpoint folder is complete under its final name."""


@hookspec
def tunesmith_run_ended(run: RunInfo, error: BaseException | None) -> None:
    """Called once at the end, also after an error or a signal."""


@hookspec
def tunesmith_report_sections(folder: Path) -> Iterable[tuple[str, Sequence[Markup | str]]]:  # type: ignore[empty-body]
    """Return sections for the page of the run in ``folder``: a heading each, and blocks of `tunesmith.report`.

    Called whenever a page is written, on the main process, for every run: return nothing for one that is not yours.
    Texts are escaped. One that raises is named on the page in place of its section.
    """
