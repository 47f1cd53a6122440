"""The smallest changes of settings that make a run fit, each computed, with what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tunesmith.config import Run
from tunesmith.errors import TunesmithError
from tunesmith.plan.duration import step_time
from tunesmith.plan.kinds import critic_kind, kind_of
from tunesmith.plan.memory import Estimate, Memory

MOST_TOGETHER = 4
MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rung:
    """A change of settings.

    Attributes:
        settings: by name.
        bytes: of memory with them.
        cost: what is given up, as a phrase.
        slower: time of a step as a multiple of that without them.
    """

    settings: Mapping[str, Any]
    bytes: float
    cost: str
    slower: float = 1.0

    @property
    def flags(self) -> str:
        """As they are written on the command line."""
        return " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            for name, value in self.settings.items()
        )


def changed(run: Run, settings: Mapping[str, Any]) -> Run:
    """A run with other settings, which must be of the right type."""
    own = {name: value for name, value in settings.items() if name in type(run.method).model_fields}
    rest = {name: value for name, value in settings.items() if name not in own}
    return Run(run.settings.model_copy(update=rest), run.method.model_copy(update=own), run.origins)


def options(run: Run, memory: Memory) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Changes that there are for this run, the cheapest first, and what each gives up."""
    settings, fields = run.settings, type(run.method).model_fields
    largest = max((texts.tokens for texts in memory.part), default=1)
    if settings.micro_tokens > largest and settings.micro_tokens >= 256:
        yield {"micro_tokens": max(largest, 128)}, "more and smaller parts, the same result"
    if "reference" in fields and "reference" in run.method.active_roles() and _may_cache(run):
        yield {"reference": "cached"}, "references are computed once, before training"
    if not settings.activation_checkpointing:
        yield {"activation_checkpointing": True}, "activations are computed again"
    trains = sum(held.states.trained for held in memory.held)
    if settings.optimizer == "adamw" and trains > 1e8:
        yield {"optimizer": "adamw-8bit"}, "optimizer states are rounded to 8 bits"
    if settings.adapter == "none" and run.method.adaptable:
        yield {"adapter": "lora"}, "only an adapter trains"
    if "critic" in fields and "value" in run.method.active_roles():
        yield {"adapter": "lora", "critic": "adapter"}, "policy and critic are adapters on one base"
    if settings.quantize != "4bit" and run.method.adaptable:
        yield (
            {"adapter": "lora" if settings.adapter == "none" else settings.adapter, "quantize": "4bit"},
            ("only an adapter trains, on a base rounded to 4 bits"),
        )
    yield from _shorter(run)


def _shorter(run: Run) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Fewer and shorter texts."""
    answers = getattr(run.method, "group_size", 0)
    if answers >= 4:
        yield {"group_size": answers // 2}, f"baselines from {answers // 2} answers are noisier"
    longest = getattr(run.method, "max_new_tokens", 0)
    if longest > 1:
        yield {"max_new_tokens": longest // 2}, "longer answers are cut off"
    elif run.settings.max_length >= 4:
        yield {"max_length": run.settings.max_length // 2}, "longer rows are refused, cut or split (--overlong)"


def _may_cache(run: Run) -> bool:
    """True where the setting has that choice and something is gained by it."""
    choices = str(type(run.method).model_fields["reference"].annotation)
    return "cached" in choices and kind_of(run.method, run.settings)[0] == "copy"


def climb(run: Run, estimate: Estimate, limit: float) -> list[Rung]:
    """The sets of changes that bring a run below so many bytes, of as few changes as possible, cheapest first.

    Where none does, the one that comes nearest.
    """
    memory = estimate.of(run)
    before = step_time(memory, run, estimate.device, estimate.devices).likely
    known = list(options(run, memory))
    nearest: Rung | None = None
    for count in range(1, MOST_TOGETHER + 1):
        fits: list[Rung] = []
        for chosen in combinations(known, count):
            rung = _rung(run, estimate, chosen, before)
            if rung is None:
                continue
            nearest = rung if nearest is None or rung.bytes < nearest.bytes else nearest
            if rung.bytes <= limit:
                fits.append(rung)
        if fits:
            return fits[:MOST_SHOWN]
    return [nearest] if nearest is not None else []


def _rung(run: Run, estimate: Estimate, chosen: Sequence[tuple[Mapping[str, Any], str]], before: float) -> Rung | None:
    """The changes together; ``None`` where they contradict each other, or the run would refuse them."""
    settings = _together([own for own, _ in chosen])
    if settings is None:
        return None
    now = changed(run, settings)
    try:
        if "value" in now.method.active_roles():
            critic_kind(now.method, now.settings)
        memory = estimate.of(now)
    except TunesmithError:
        return None
    slower = step_time(memory, now, estimate.device, estimate.devices).likely / before
    told = {name: value for name, value in settings.items() if _now(run, name) != value}
    return Rung(told, memory.total, "; ".join(dict.fromkeys(cost for _, cost in chosen)), slower)


def _together(changes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """All changes as one; ``None`` where two contradict each other or one says no more than another."""
    settings: dict[str, Any] = {}
    for i, own in enumerate(changes):
        if any(settings.get(name, value) != value for name, value in own.items()):
            return None
        if any(own.items() <= other.items() for j, other in enumerate(changes) if j != i):
            return None
        settings |= own
    return settings


def _now(run: Run, name: str) -> Any:
    return getattr(run.method if name in type(run.method).model_fields else run.settings, name)


def sharded(memory: Memory, devices: int) -> Mapping[str, float]:
    """Bytes of a device where states are spread over ``devices``: stages 1 to 3 of ZeRO (arXiv:1910.02054).

    Computed: runs hold everything on every device. Stage 3 keeps the two largest gathered layers beside its share.
    """
    peak, stages = memory.peak, {}
    kept = 1 - 1 / devices
    saved = 0.0
    for stage, component in ((1, "optimizer"), (2, "gradients"), (3, "weights")):
        saved += kept * peak.of(component)
        gathered = sum(2 * held.states.weights / max(1, held.blueprint.layers) for held in memory.held[:1])
        stages[f"ZeRO-{stage}" + (" (FSDP)" if stage == 3 else "")] = memory.total - saved + (stage == 3) * gathered
    return stages
