"""Before training: which layers are copied, and what each of their tensors means to general text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith import ConfigError
from tunesmith.scoring.probe import scoring

from . import selection, surgery
from .probe import Probe, layer_importance, unit_importance
from .rates import STATE, general_text, keep, trainable

if TYPE_CHECKING:
    from tunesmith.runner.context import Context

    from . import ADEPT

log = logging.getLogger(__name__)
SUPPORTED = (
    "decoder-only models whose layers add what their modules put out to their input, such as Llama, Qwen 2 and 3, "
    "Gemma 2 and 3, OLMo 2, Mistral, Mixtral, Qwen-MoE, gpt-oss, Phi, GPT-2 and GPT-NeoX"
)


def prepare(method: ADEPT, model: Any, ctx: Context) -> None:
    """Deepen the model, or find the copies of a checkpoint again, and freeze everything else.

    Raises:
        ConfigError: an architecture that cannot be deepened, layers that are not there, a model that is deepened
            already, or no general text.
    """
    known = getattr(model.config, surgery.RECORD, None) or {}
    path = _stack(model).path
    if not ctx.resumed:
        deepened = bool(known.get("copy_indices"))
        if deepened and method.on_expanded == "refuse":
            raise _deepened(model, known)
        if deepened and method.on_expanded == "continue":
            _go_on(method, model, ctx, known)
        else:
            known = _deepen(method, model, ctx, known)
    surgery.freeze_but(model, [model.get_submodule(f"{path}.{place}") for place in trained_places(known)])


def trained_places(known: Mapping[str, Any]) -> list[int]:
    """The layers that are trained, from what the config says: the copies, or the chosen layers where none were made."""
    return list(known["copy_indices"] or known["source_layers"])


def _stack(model: Any) -> surgery.Stack:
    try:
        return surgery.find_stack(model)
    except ValueError as error:
        raise _unsupported(model, error) from None


def _deepen(method: ADEPT, model: Any, ctx: Context, known: Mapping[str, Any]) -> dict[str, Any]:
    stack, probe = _stack(model), general_text(method, ctx)
    count, policy = len(stack.layers), ctx.models.policy
    state: dict[str, Any] = {"selection": method.selection, "layer_importance": None, "base_loss": None}
    _check_layers(method, count)
    chosen: list[int] = []
    found: dict[str, float] = {}
    losses: list[float] = []
    with scoring(policy):
        if method.selection == "importance":
            assert probe is not None
            state["layer_importance"], state["base_loss"] = layer_importance(policy, list(stack.layers), probe)
        chosen = choose(method, count, state["layer_importance"])
        if probe is not None and method.rates == "importance" and method.initial_importance == "source-layer":
            found, losses = _measured(model, ctx, stack.path, chosen, probe)
    places = chosen
    if method.expand:
        places = surgery.copy_places(count, chosen)
        _expand(model, chosen)
    state |= {"chosen": chosen, "copies": places if method.expand else [], "refreshes": []}
    ctx.state[STATE] = state
    _say(state, count, probe)
    if found:
        moved = dict(zip(chosen, places, strict=True))
        renamed = {_moved(name, stack.path, moved): value for name, value in found.items()}
        keep(method, model, ctx, 0, renamed, losses)
    written = {"source_layers": chosen, "copy_indices": state["copies"]}
    if known.get("copy_indices"):
        written["earlier_copies"] = _shifted(known, count, chosen if method.expand else [])
    setattr(model.config, surgery.RECORD, written)
    return written


def _go_on(method: ADEPT, model: Any, ctx: Context, known: Mapping[str, Any]) -> None:
    """Train the copies that the model has already."""
    state: dict[str, Any] = {"selection": "given", "layer_importance": None, "base_loss": None, "refreshes": []}
    ctx.state[STATE] = {**state, "chosen": known["source_layers"], "copies": known["copy_indices"]}
    log.info("copies   layers %s of the model are copies already and go on", _listed(known["copy_indices"]))
    probe = general_text(method, ctx)
    if probe is not None and method.rates == "importance":
        with scoring(ctx.models.policy):
            found, losses = _measured(model, ctx, _stack(model).path, trained_places(known), probe)
        keep(method, model, ctx, 0, found, losses)


def choose(method: ADEPT, count: int, importance: Sequence[float] | None) -> list[int]:
    """The layers to copy, of ``count``. Raises `ConfigError` when there are not enough."""
    try:
        if method.selection == "manual":
            return sorted(method.layers)
        if method.selection == "uniform":
            return selection.uniform(count, method.copies)
        if method.selection == "top":
            return selection.top(count, method.copies, method.exclude)
        assert importance is not None
        least = selection.least_important_run if method.contiguous else selection.least_important
        return least(importance, method.copies, method.exclude)
    except ValueError as error:
        raise ConfigError(f"copies: {error}", fix="lower copies, or exclude fewer layers") from None


def _check_layers(method: ADEPT, count: int) -> None:
    for key in ("layers", "exclude"):
        wrong = [layer for layer in getattr(method, key) if not 0 <= layer < count]
        if wrong:
            raise ConfigError(f"{key}: there is no layer {wrong[0]}; the model has layers 0 to {count - 1}")


def _measured(
    model: Any, ctx: Context, path: str, layers: Sequence[int], probe: Probe
) -> tuple[dict[str, float], list[float]]:
    surgery.freeze_but(model, [model.get_submodule(f"{path}.{layer}") for layer in layers])
    return unit_importance(ctx.models.policy, trainable(model), probe)


def _expand(model: Any, chosen: Sequence[int]) -> None:
    try:
        surgery.expand(model, chosen)
    except ValueError as error:
        raise _unsupported(model, error) from None


def _moved(name: str, path: str, places: Mapping[int, int]) -> str:
    """The name of a tensor of a chosen layer in its copy."""
    layer, _, rest = name.removeprefix(f"{path}.").partition(".")
    return f"{path}.{places[int(layer)]}.{rest}"


def _shifted(known: Mapping[str, Any], count: int, chosen: Sequence[int]) -> list[int]:
    """Where the copies that there were before stand now."""
    earlier = {*known["copy_indices"], *known.get("earlier_copies", ())}
    new = set(surgery.copy_places(count, chosen))
    order = surgery.new_order(count, chosen)
    return [place for place, old in enumerate(order) if old in earlier and place not in new]


# ---------------------------------------------------------------------------------------------- words
def _say(state: Mapping[str, Any], count: int, probe: Probe | None) -> None:
    chosen, importance = state["chosen"], state["layer_importance"]
    if importance is not None and probe is not None:
        shown = ", ".join(f"{layer} ({importance[layer]:+.2g})" for layer in chosen)
        log.info("layers   nats lost on general text without each of %d; chosen: %s", count, shown)
    if state["copies"]:
        now = count + len(chosen)
        log.info("copies   of layers %s; %d layers now, which compute what %d did", _listed(chosen), now, count)


def _listed(places: Sequence[int]) -> str:
    return ", ".join(map(str, places))


def _unsupported(model: Any, error: ValueError) -> ConfigError:
    return ConfigError(
        f"model: a {type(model).__name__} cannot be deepened",
        why=str(error),
        fix=f"supported are {SUPPORTED}",
    )


def _deepened(model: Any, known: Mapping[str, Any]) -> ConfigError:
    return ConfigError(
        f"model: it has copied layers already, {_listed(known['copy_indices'])}",
        why="they may go on learning, or new copies may be added on top of them",
        fix="choose with --on-expanded continue or --on-expanded add",
    )
