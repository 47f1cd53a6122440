"""What can be plugged in. A component *is* its own configuration: its fields are the settings, its methods the
behaviour. The docstring under a field is its help text; defaults are the recommended settings.

Declaring a component costs no torch: tensors appear here only as types.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.components.around import AnyTracker, Generator, Reward, Rollout, RunInfo, Tracker, TrackerSession
from tunesmith.components.base import COMPONENT_MARK, Build, Component, Settings
from tunesmith.components.rows import (
    AnyFormat,
    AnyScheduler,
    AnySource,
    BadField,
    DataFormat,
    DataSpec,
    Row,
    Scheduler,
    Source,
)
from tunesmith.components.training import AnyObjective, Card, Method, Objective, ParamGroup, Preset, Role

KINDS: Mapping[str, type[Component]] = {
    base.kind: base for base in (Method, Objective, Reward, DataFormat, Source, Scheduler, Generator, Tracker)
}

__all__ = [
    "COMPONENT_MARK",
    "KINDS",
    "AnyFormat",
    "AnyObjective",
    "AnyScheduler",
    "AnySource",
    "AnyTracker",
    "BadField",
    "Build",
    "Card",
    "Component",
    "DataFormat",
    "DataSpec",
    "Generator",
    "Method",
    "Objective",
    "ParamGroup",
    "Preset",
    "Reward",
    "Role",
    "Rollout",
    "Row",
    "RunInfo",
    "Scheduler",
    "Settings",
    "Source",
    "Tracker",
    "TrackerSession",
]
