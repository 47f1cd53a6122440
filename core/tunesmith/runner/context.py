"""What a method may know about the run that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tunesmith.components import ParamGroup
from tunesmith.data.corpus import Corpus
from tunesmith.models.roles import Models


@dataclass(slots=True)
class Context:
    """The state of a run.

    Attributes:
        models: the models by role.
        tokenizer: the policy's tokenizer.
        step: optimizer steps done.
        total: optimizer steps of the whole run.
        groups: the live parameter groups; their ``lr_scale`` is read again at every step.
        state: JSON values and tensors by name, saved in every checkpoint and restored on resume. It must be the
            same on every process.
        metrics: what the last step reported.
        samples: what was written down of the completions that were sampled for it, on all processes.
        seed: of the run.
        rank: number of this process; 0 is the main one.
        processes: how many there are.
        output: folder of the run.
        corpora: the rows that were read whole, by data group; a sequence of trees each.
        resumed: True where the models come from a checkpoint of this run.
        sum_tensors: adds up tensors over all processes in place; each must hand in the same shapes.
        services: what `Method.opened` opened, by name.
        closing: closes them when the run ends.
    """

    models: Models
    tokenizer: Any
    total: int
    step: int = 0
    groups: list[ParamGroup] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    rank: int = 0
    processes: int = 1
    output: Path | None = None
    corpora: Mapping[str, Sequence[Corpus]] = field(default_factory=dict)
    resumed: bool = False
    sum_tensors: Callable[[Iterable[Tensor]], None] = lambda tensors: None
    services: dict[str, Any] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)
