"""Weights, gradients and optimizer states in bytes: counted on a model without memory, parameter by parameter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.loading import with_adapter
from tunesmith.plan.model import Blueprint, layer_list, shell
from tunesmith.scoring.scorer import base_of
from tunesmith.settings import RunSettings

BLOCK_4BIT, NESTED_BLOCK, CODE = 64, 256, 256
"""Weights that share a scale, scales that share one, entries of the table of an 8-bit code (arXiv:2305.14314)."""
BLOCK_8BIT_STATES, SMALLEST_8BIT_STATE = 256, 4096
"""Numbers of an 8-bit optimizer state that share a scale; tensors smaller than that keep states in fp32."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model is held.

    Attributes:
        dtype: of the computation.
        trained: False for one that only computes.
        adapter: an adapter is what trains.
        quantize: of the base: none, 8bit or 4bit.
        optimizer: as in the settings of a run.
        checkpointing: activations are computed again in the backward pass.
        score: one output a text or token, instead of probabilities.
        new_layers, trained_layers: see `tunesmith.Workload`.
        own_base: False for an adapter on a base that is counted elsewhere.
    """

    dtype: torch.dtype
    trained: bool = True
    adapter: bool = False
    quantize: str = "none"
    optimizer: str = "adamw"
    checkpointing: bool = False
    score: bool = False
    new_layers: int = 0
    trained_layers: tuple[int, ...] | None = None
    own_base: bool = True

    @property
    def weight_dtype(self) -> torch.dtype:
        """What weights are stored in: trained ones in fp32, and so is every model without an adapter."""
        return self.dtype if self.adapter else torch.float32

    @property
    def autocast(self) -> bool:
        """The model runs in bf16."""
        return self.dtype == torch.bfloat16


@dataclass(frozen=True, slots=True)
class States:
    """Bytes that a model holds all the time.

    Attributes:
        weights: with the buffers.
        gradients: when all of them are there.
        optimizer: its states after the first step.
        head_gradient: the part of the gradients that never goes away, as the head writes it in place.
        parameters, trained: numbers of parameters.
        unpacked: of the largest quantised weight, as it is while it computes.
    """

    weights: int
    gradients: int = 0
    optimizer: int = 0
    head_gradient: int = 0
    parameters: int = 0
    trained: int = 0
    unpacked: int = 0

    def __add__(self, other: States) -> States:
        return States(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


def skeleton(blueprint: Blueprint, setup: Setup, settings: RunSettings, layers: int | None = None) -> nn.Module:
    """The model on the meta device as a run has it: adapter on, frozen what is frozen.

    ``layers``: a depth other than the model's; trained layers beyond it are left out.
    """
    depth = blueprint.layers + setup.new_layers if layers is None else layers
    model = shell(blueprint.config, layers=depth, score=setup.score, dtype=setup.weight_dtype)
    if setup.adapter:
        with torch.device("meta"):
            model = with_adapter(model, settings.model_copy(update={"quantize": "none"}), None, score=setup.score)
    elif setup.trained_layers is not None:
        model.requires_grad_(False)
        found = layer_list(model)
        for place in setup.trained_layers:
            found[place].requires_grad_(True)
    if not setup.trained:
        model.requires_grad_(False)
    return model


def states_of(model: nn.Module, setup: Setup) -> States:
    """Bytes of a model's weights, gradients and optimizer states; ``model``: its `skeleton`."""
    quantised = {id(weight) for weight in _quantised(model)} if setup.quantize != "none" else set()
    weights = parameters = trained = gradients = optimizer = largest = 0
    for parameter in model.parameters():
        if parameter.requires_grad or setup.own_base:
            weights += _stored(parameter, setup, id(parameter) in quantised)
            parameters += parameter.numel()
        if parameter.requires_grad:
            trained += parameter.numel()
            gradients += parameter.nbytes
            optimizer += optimizer_bytes(parameter, setup.optimizer)
        if id(parameter) in quantised:
            largest = max(largest, parameter.numel())
    if setup.own_base:
        weights += sum(buffer.nbytes for buffer in model.buffers())
    return States(
        weights, gradients, optimizer, _head_gradient(model, setup), parameters, trained, largest * setup.dtype.itemsize
    )


def _head_gradient(model: nn.Module, setup: Setup) -> int:
    head: Any = None if setup.score else base_of(model).get_output_embeddings()
    return sum(p.nbytes for p in head.parameters() if p.requires_grad) if head is not None else 0


def _quantised(model: nn.Module) -> Iterator[Tensor]:
    """The weights that bitsandbytes stores in few bits: of every linear map of the base but the model's head."""
    base = base_of(model)
    kept = {base.get_output_embeddings(), getattr(base, "score", None)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".lora_" not in name and module not in kept:
            yield module.weight


def _stored(parameter: nn.Parameter, setup: Setup, quantised: bool) -> int:
    """Bytes of a weight as it is stored. Beside quantised weights, what is left of the base is kept in fp32."""
    count = parameter.numel()
    if not quantised:
        return parameter.nbytes if setup.quantize == "none" or parameter.requires_grad else 4 * count
    if setup.quantize == "8bit":
        return count + 4 * parameter.shape[0]
    blocks = -(-count // BLOCK_4BIT)
    scales = blocks + 4 * -(-blocks // NESTED_BLOCK)
    return -(-count // 2) + scales + 4 * CODE + 4 * 16 + 4


def optimizer_bytes(parameter: nn.Parameter, name: str) -> int:
    """AdamW's states of a parameter: two moments, and where they are fp32 the number of its steps."""
    count = parameter.numel()
    if name == "adamw":
        return 2 * parameter.nbytes + 4
    if count < SMALLEST_8BIT_STATE:
        return 2 * 4 * count
    return 2 * (count + 4 * -(-count // BLOCK_8BIT_STATES))
