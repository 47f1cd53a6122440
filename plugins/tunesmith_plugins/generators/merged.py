"""The policy's weights as another engine loads them: under the names of the stock model, adapters merged."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tunesmith import ConfigError
from tunesmith.scoring.scorer import Scorer


def merged_weights(policy: Scorer, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of every parameter; what the policy holds is not changed.

    Raises:
        ConfigError: a quantised base, or an adapter that is not made of low-rank matrices.
    """
    model = policy.language_model
    layers = _low_rank_layers(model)
    saved = ".modules_to_save."
    for name, parameter in model.named_parameters():
        if ".original_module." in name or _within(name, layers, "lora_"):
            continue
        if not parameter.is_floating_point():
            raise ConfigError(
                "the weights of a quantised model cannot be sent to another engine",
                where=f"parameter {name}",
                fix="use the engine `native`, or quantize none",
            )
        weight = parameter.detach()
        owner, _, kind = name.rpartition(".base_layer.")
        if kind == "weight":
            layer = layers[owner]
            for adapter in layer.active_adapters:
                weight = weight + layer.get_delta_weight(adapter).to(weight.dtype)
        before, _, after = name.partition(saved)
        # the name of the adapter follows
        plain = f"{before}.{after.partition('.')[2]}" if after else name.replace(".base_layer.", ".")
        yield plain, weight.to(dtype).contiguous()


def _low_rank_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that an adapter wraps, by name."""
    if "peft" not in sys.modules:
        return {}
    from peft.tuners.lora import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    for name, layer in found.items():
        changed = isinstance(layer, Linear) and (
            any(layer.lora_variant.values()) or any(part.bias is not None for part in layer.lora_B.values())
        )
        if changed or not isinstance(layer, Linear):
            raise ConfigError(
                f"the {type(layer).__name__} of an adapter is more than W + BA and cannot be merged for another engine",
                where=f"module {name}",
                fix="use the engine `native`",
            )
    return found


def _within(name: str, layers: dict[str, nn.Module], prefix: str) -> bool:
    """True for a parameter of an adapter's own inside one of the layers."""
    owner, _, rest = name.partition(f".{prefix}")
    return bool(rest) and owner in layers
