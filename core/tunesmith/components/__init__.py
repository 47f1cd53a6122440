"""What can be plugged in. A component *is* its own configuration: its fields are the settings, its methods the
behaviour. The docstring under a field is its help text; defaults are the recommended settings.

Declaring a component costs no torch: tensors appear here only as types.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.components.around import AnyTracker, RunInfo, Tracker, TrackerSession
from tunesmith.components.base import COMPONENT_MARK, Build, Component, Settings
from tunesmith.components.cards import GOALS, Card, Unit, Volume
from tunesmith.components.rewards import AnyReward, Fault, Reward, Rollout, State, Verdict
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
from tunesmith.components.sampling import AnyGenerator, Generator, GeneratorSession, Sample, Sampling, Stop
from tunesmith.components.training import AnyObjective, Method, Objective, ParamGroup, Preset, Role
from tunesmith.components.workload import EngineMemory, Phase, StepSize, Texts, Workload

KINDS: Mapping[str, type[Component]] = {
    base.kind: base for base in (Method, Objective, Reward, DataFormat, Source, Scheduler, Generator, Tracker)
}

__all__ = [
    "COMPONENT_MARK",
    "GOALS",
    "KINDS",
    "AnyFormat",
    "AnyGenerator",
    "AnyObjective",
    "AnyReward",
    "AnyScheduler",
    "AnySource",
    "AnyTracker",
    "BadField",
    "Build",
    "Card",
    "Component",
    "DataFormat",
    "DataSpec",
    "EngineMemory",
    "Fault",
    "Generator",
    "GeneratorSession",
    "Method",
    "Objective",
    "ParamGroup",
    "Phase",
    "Preset",
    "Reward",
    "Role",
    "Rollout",
    "Row",
    "RunInfo",
    "Sample",
    "Sampling",
    "Scheduler",
    "Settings",
    "Source",
    "State",
    "StepSize",
    "Stop",
    "Texts",
    "Tracker",
    "TrackerSession",
    "Unit",
    "Verdict",
    "Volume",
    "Workload",
]
