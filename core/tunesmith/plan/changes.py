"""Changes of settings that save memory, and what each of them gives up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.config import Run
from tunesmith.plan.account import Memory
from tunesmith.plan.kinds import kind_of

CACHE_TOKENS = "max_batch_tokens"
"""Setting of an engine that limits the tokens of its key-value cache."""
SMALLEST_PART = 128
SHORTEST = 64
"""Tokens below which shorter prompts and answers are of no use to anybody."""


@dataclass(frozen=True, slots=True)
class Change:
    """Settings that change together, those of a component as ``component.setting``, and what they give up."""

    settings: Mapping[str, Any]
    cost: str


def options(run: Run, memory: Memory) -> Iterator[Change]:
    """Changes that there are for this run, the cheapest first."""
    yield from _same_result(run, memory)
    yield from _fewer_weights(run, memory)
    yield from _shorter(run)


def _same_result(run: Run, memory: Memory) -> Iterator[Change]:
    """Those that only take time, or round the optimizer's states."""
    settings, fields = run.settings, type(run.method).model_fields
    largest = max((texts.tokens for texts in memory.part), default=1)
    if settings.micro_tokens > max(largest, SMALLEST_PART):
        yield Change({"micro_tokens": max(largest, SMALLEST_PART)}, "more and smaller parts, the same result")
    if not settings.activation_checkpointing:
        yield Change({"activation_checkpointing": True}, "activations are computed again")
    if "reference" in fields and "reference" in run.method.active_roles() and _may_cache(run):
        yield Change({"reference": "cached"}, "references are computed once, before training")
    generator = getattr(run.method, "generator", None)
    room = getattr(generator, CACHE_TOKENS, None)
    longest = max((phase.texts.longest for phase in memory.workload.phases if phase.does == "sample"), default=0)
    asked = sum(phase.trees * phase.texts.answers for phase in memory.workload.phases if phase.does == "sample")
    if room is not None and longest:
        quarter = max(longest, min(room, asked * longest) // 4)
        if quarter < min(room, asked * longest):
            yield Change({f"generator.{CACHE_TOKENS}": quarter}, "fewer answers are sampled at a time")
    if settings.optimizer == "adamw" and sum(held.states.trained for held in memory.held) > 1e8:
        yield Change({"optimizer": "adamw-8bit"}, "optimizer states are rounded to 8 bits")


def _fewer_weights(run: Run, memory: Memory) -> Iterator[Change]:
    """Adapters, and a base in 4 bits."""
    settings, critic = run.settings, getattr(run.method, "critic", None)
    beside = "value" in run.method.active_roles() and getattr(run.method, "critic_model", None) is None
    whole = settings.adapter == "none"
    own = {"critic": "adapter"} if beside and critic == "model" else {}
    if beside and not whole and own:
        yield Change(own, "the critic is an adapter on the policy's base")
    if not run.method.adaptable:
        return
    adapter = {"adapter": "lora"} if whole else {}
    said = "policy and critic are adapters on one base" if beside else "only an adapter trains"
    if whole:
        yield Change({**adapter, **own}, said)
    if settings.quantize != "4bit":
        base = "whose weights are rounded to 4 bits" if beside else "on a base that is rounded to 4 bits"
        cost = f"{said}, {base}" if whole else "the base is rounded to 4 bits"
        yield Change({**adapter, **own, "quantize": "4bit"} if whole else {"quantize": "4bit"}, cost)


def _shorter(run: Run) -> Iterator[Change]:
    """Fewer and shorter texts."""
    answers = getattr(run.method, "group_size", 0)
    if answers >= 4:
        yield Change({"group_size": answers // 2}, f"baselines from {answers // 2} answers are noisier")
    samples = getattr(run.method, "max_new_tokens", 0)
    longest = run.settings.max_length
    rows = "longer prompts are refused" if samples else "longer rows are refused, cut or split (--overlong)"
    for shorter in (longest // 2, longest // 4):
        if shorter >= SHORTEST:
            yield Change({"max_length": shorter}, rows)
    if samples >= 2 * SHORTEST:
        yield Change({"max_new_tokens": samples // 2}, "longer answers are cut off")


def _may_cache(run: Run) -> bool:
    """True where the setting has that choice and something is gained by it."""
    choices = str(type(run.method).model_fields["reference"].annotation)
    return "cached" in choices and kind_of(run.method, run.settings)[0] == "copy"


def changed(run: Run, settings: Mapping[str, Any]) -> Run:
    """A run with other settings, which must be of the right type."""
    fields = type(run.method).model_fields
    own = {name: value for name, value in settings.items() if name in fields}
    rest = {name: value for name, value in settings.items() if name not in own and "." not in name}
    for name, value in settings.items():
        component, dot, setting = name.partition(".")
        if dot:
            own[component] = getattr(run.method, component).model_copy(update={setting: value})
    return Run(run.settings.model_copy(update=rest), run.method.model_copy(update=own), run.origins)


def now(run: Run, name: str) -> Any:
    """The value of a setting as it is."""
    component, dot, setting = name.partition(".")
    if dot:
        return getattr(getattr(run.method, component), setting)
    return getattr(run.method if name in type(run.method).model_fields else run.settings, name)


def together(changes: Sequence[Change]) -> dict[str, Any] | None:
    """All changes as one; ``None`` where two contradict each other or one says no more than another."""
    settings: dict[str, Any] = {}
    for i, change in enumerate(changes):
        own = change.settings
        if any(settings.get(name, value) != value for name, value in own.items()):
            return None
        if any(own.items() <= other.settings.items() for j, other in enumerate(changes) if j != i):
            return None
        settings |= own
    return settings
