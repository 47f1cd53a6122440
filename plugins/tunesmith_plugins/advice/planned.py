"""Memory: model states of every option at once, and of the run file what `tunesmith plan` computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunesmith import ConfigError, ResourceError
from tunesmith_plugins.advice.engine import Advice, Methods, Verdict
from tunesmith_plugins.advice.memory import FORMS, needed

if TYPE_CHECKING:
    from tunesmith.commands import Registry
    from tunesmith_plugins.advice.case import Case
    from tunesmith_plugins.advice.recipe import Recipe

BAR = 24
"""Characters of a bar that fills the memory there is."""
MARGIN = 1.1
"""So much more than was computed has to fit. Ours; `tunesmith plan` says what was checked."""
CHANGES: tuple[dict[str, Any], ...] = ({}, {"activation_checkpointing": True}, {"micro_tokens": 1024})
"""Settings that save memory and change no result, one added to the other."""
CALLED = {"none": "all weights", "lora": "lora", "4bit": "lora on 4 bits"}


@dataclass(frozen=True, slots=True)
class Planned:
    """What the plan of a run file says.

    Attributes:
        gigabytes: at the peak, and of the device in ``there_are``.
        phase: of the peak.
        fits: with a margin for what was not computed.
    """

    gigabytes: float
    there_are: float
    phase: str
    fits: bool


def plan(
    registry: Registry, made: Recipe, case: Case, gpu: str | None, model: str | None
) -> tuple[Recipe, Planned | None]:
    """The run file with the settings that make it fit without another result, and what the plan says of it.

    Nothing is planned where the model, the GPU or the run file is not known, or for several GPUs, as there it depends
    on how they share.
    """
    if made.settings is None or gpu is None or model is None or case.machine.devices > 1:
        return made, None
    from tunesmith.commands import resolve
    from tunesmith.models.loading import quiet_transformers
    from tunesmith.plan.hardware import find
    from tunesmith.plan.memory import Estimate

    quiet_transformers()
    device = find(gpu)
    estimate = Estimate(device, 1)
    settings, found = dict(made.settings), None
    for change in CHANGES:
        settings |= change
        try:
            memory = estimate.of(resolve(registry, {**settings, "model": model}))
        except (ConfigError, ResourceError):  # a model that cannot be planned for: the advice stands without
            return made, None
        found = Planned(
            memory.total / 1e9, device.memory / 1e9, memory.peak.name, MARGIN * memory.total <= device.memory
        )
        if found.fits:
            return replace(made, settings=settings), found
    return replace(made, settings=settings), found


def lines(case: Case, advice: Advice, methods: Methods) -> list[str]:
    """Model states of the options against the memory there is."""
    from tunesmith.commands import table

    total = case.machine.total
    if total is None:
        return []
    rows = []
    for option in advice.options:
        if option.verdict == Verdict.NO:
            continue
        for form in FORMS:
            size = needed(case, methods, option.name, form)
            if size is not None:
                bar = "#" * min(BAR, round(BAR * size / total)) + ("  too much" if size > total else "")
                trained = CALLED[form] if methods[option.name].adaptable else "its own part"
                rows.append((option.name, trained, f"{size:.3g} GB", bar))
    return table(rows, header=("method", "trained", "model states", f"of {total:g} GB"), wrap=3, indent=2)
