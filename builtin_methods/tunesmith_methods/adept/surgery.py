"""Copies of layers behind their originals that change nothing at first (arXiv:2401.02415, arXiv:2510.10071)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .branches import Call, Recorder, out_maps, plain_attributes

PROBE_TOKENS = 48
RECORD = "adept"
LEADING = ("first_k_dense_replace",)
"""Settings of a config that count layers from the first."""
"""The key of a model's config that says which layers are copies."""


@dataclass(slots=True)
class Stack:
    """The layers of a model: the list, and the module that holds it under ``name``."""

    parent: nn.Module
    name: str
    layers: nn.ModuleList
    path: str


@dataclass(frozen=True, slots=True)
class Expansion:
    """What was done to a model.

    Attributes:
        sources: layers of the model as it was that have a copy.
        copies: where the copies stand now.
        zeroed: names of the tensors that make each copy the identity.
    """

    sources: list[int]
    copies: list[int]
    zeroed: list[str]


def text_config(model: Any) -> Any:
    """The part of the config that describes the language model."""
    return model.config.get_text_config()


def find_stack(model: Any) -> Stack:
    """The list of layers that hidden states pass one after the other.

    Raises:
        ValueError: there is none as long as the config says, or more than one.
    """
    count = getattr(text_config(model), "num_hidden_layers", None)
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and count:
            parent, _, name = path.rpartition(".")
            found.append(Stack(model.get_submodule(parent), name, module, path))
    found = [one for one in found if not any(one.path.startswith(f"{other.path}.") for other in found)]  # experts
    if len(found) > 1:  # such as an image tower of the same depth
        calls = _calls(model, [stack.layers[0] for stack in found])
        found = [stack for stack in found if stack.layers[0] in calls]
    if len(found) != 1:
        raise ValueError(f"it has {len(found) or 'no'} lists of {count} layers that text passes")
    return found[0]


def freeze_but(model: nn.Module, trained: Sequence[nn.Module]) -> None:
    """Only the parameters of these modules get gradients."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in trained:
        for parameter in module.parameters():
            parameter.requires_grad_(True)


def new_order(count: int, chosen: Sequence[int]) -> list[int]:
    """For every layer of the deeper model, the old one that it is or copies.

    >>> new_order(4, [1, 3])
    [0, 1, 1, 2, 3, 3]
    """
    return [i for i in range(count) for _ in range(1 + (i in set(chosen)))]


def copy_places(count: int, chosen: Sequence[int]) -> list[int]:
    """Where the copies stand.

    >>> copy_places(4, [1, 3])
    [2, 5]
    """
    return [layer + 1 + before for before, layer in enumerate(sorted(chosen))]


def expand(model: Any, chosen: Sequence[int]) -> Expansion:
    """Put a copy behind each chosen layer; the model computes exactly what it did, and its config says so.

    Args:
        model: a causal language model of transformers; changed in place.
        chosen: layers, counted from 0; none is allowed.

    Raises:
        ValueError: the architecture cannot be deepened this way; the model must not be used any more.
    """
    stack, chosen = find_stack(model), sorted(set(chosen))
    was_training = model.training
    model.eval()
    before, again = _logits(model), _logits(model)
    calls = _calls(model, [stack.layers[i] for i in chosen])
    copies, zeroed = {}, []
    for place, i in zip(copy_places(len(stack.layers), chosen), chosen, strict=True):
        if stack.layers[i] not in calls:
            raise ValueError(f"layer {i} takes no part in a forward pass")
        copies[i], names = identity_copy(stack.layers[i], calls[stack.layers[i]], model.config)
        zeroed += [f"{stack.path}.{place}.{name}" for name in names]
    order = new_order(len(stack.layers), chosen)
    layers = [layer for i, old in enumerate(stack.layers) for layer in (old, copies.get(i)) if layer is not None]
    deepen_config(text_config(model), order)
    setattr(stack.parent, stack.name, nn.ModuleList(layers))
    number_layers(layers)
    _check_config(model, layers, stack.path)
    difference, noise = float((_logits(model) - before).abs().max()), float((again - before).abs().max())
    if not difference <= noise:
        raise ValueError(f"its logits would change by {difference:.1e} before the first step")
    model.train(was_training)
    return Expansion(list(chosen), copy_places(len(order) - len(chosen), chosen), zeroed)


def identity_copy(layer: nn.Module, call: Call, config: Any) -> tuple[nn.Module, list[str]]:
    """A copy of a layer that hands on its input exactly, and the names of its tensors that were zeroed."""
    # attention modules hold the config itself: a copy of that would not follow when the attention is replaced
    shared: dict[int, Any] = {id(part): part for part in {id(c): c for c in _configs(config, layer)}.values()}
    twin = copy.deepcopy(layer, shared)
    maps = out_maps(twin, call)
    twin.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for name, value in maps.items():
            twin.get_parameter(name).fill_(value)
    return twin, list(maps)


def _configs(config: Any, layer: nn.Module) -> Iterator[Any]:
    yield config
    yield config.get_text_config()
    for module in layer.modules():
        own = vars(module).get("config")
        if own is not None:
            yield own


def number_layers(layers: Sequence[nn.Module]) -> None:
    """Give every layer its place: the cache of keys and values is kept by it."""
    for place, layer in enumerate(layers):
        for module in layer.modules():
            if isinstance(vars(module).get("layer_idx"), int):
                module.layer_idx = place  # type: ignore[assignment]


# ---------------------------------------------------------------------------------------------- the config
def deepen_config(config: Any, order: Sequence[int]) -> None:
    """Write the new depth down, and what the config says of single layers: lists by layer, and lists of layers."""
    count = int(config.num_hidden_layers)
    changed: dict[str, Any] = {}
    for key, value in vars(config).items():
        if not isinstance(value, (list, tuple)) or not value or not _about_layers(key):
            continue
        if _are_places(value, count):
            changed[key] = [place for place, old in enumerate(order) if old in set(value)]
        elif len(value) == count:
            changed[key] = [value[old] for old in order]
    for key in LEADING:
        if isinstance(getattr(config, key, None), int):
            changed[key] = sum(old < getattr(config, key) for old in order)
    config.num_hidden_layers = len(order)
    for key, value in changed.items():
        setattr(config, key, value)


def _about_layers(key: str) -> bool:
    return any(word in key for word in ("layer", "block", "pattern"))


def _are_places(value: Sequence[Any], count: int) -> bool:
    """True for ascending places of layers, such as those that have no experts."""
    numbers = [item for item in value if isinstance(item, int) and not isinstance(item, bool)]
    ascending = all(a < b for a, b in pairwise(numbers))
    return len(numbers) == len(value) and ascending and numbers[0] >= 0 and numbers[-1] < count


def _check_config(model: Any, layers: Sequence[nn.Module], path: str) -> None:
    """Raises `ValueError` unless a model built from the config has these layers."""
    with torch.device("meta"):
        rebuilt = type(model)(copy.deepcopy(model.config))
    others = rebuilt.get_submodule(path)
    if len(others) != len(layers):
        raise ValueError(f"its config gives {len(others)} layers where there are {len(layers)}")
    for place, (ours, theirs) in enumerate(zip(layers, others, strict=True)):
        wrong = _difference(_structure(ours), _structure(theirs))
        if wrong:
            raise ValueError(f"its config cannot say that layer {place} is a copy: {wrong} would be another")


def _structure(layer: nn.Module) -> dict[str, Any]:
    shapes = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    return {**shapes, **dict(plain_attributes(layer)), "class": type(layer).__name__}


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    return next((key for key in sorted({*one, *other}) if one.get(key, ...) != other.get(key, ...)), None)


# ---------------------------------------------------------------------------------------------- looking at it
def _ids(model: Any) -> Tensor:
    config = text_config(model)
    limit = min(PROBE_TOKENS, getattr(config, "max_position_embeddings", None) or PROBE_TOKENS)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (1, limit), generator=generator)
    return ids.to(next(model.parameters()).device)


def _logits(model: Any) -> Tensor:
    with torch.no_grad():
        logits = model(input_ids=_ids(model), use_cache=False).logits
    assert isinstance(logits, Tensor)
    return logits


def _calls(model: Any, layers: Sequence[nn.Module]) -> dict[nn.Module, Call]:
    recorder = Recorder()
    with recorder.watch(*layers):
        _logits(model)
    return recorder.calls
