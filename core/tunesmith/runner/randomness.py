"""The state of every random generator that training may draw from: python, numpy, torch on all devices."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RandomState:
    """A snapshot: JSON values, and tensors by name."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def snapshot() -> RandomState:
    """The present state."""
    python = random.getstate()
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    values = {"python": [python[0], list(python[1]), python[2]], "numpy": _plain(np.random.get_state(legacy=False))}
    return RandomState(values, tensors)


def restore(state: RandomState) -> None:
    """Go on from a snapshot."""
    python, numpy_state = state.values["python"], dict(state.values["numpy"])
    random.setstate((python[0], tuple(python[1]), python[2]))
    inner = numpy_state["state"]
    numpy_state["state"] = {**inner, "key": np.array(inner["key"], dtype=np.uint32)}
    np.random.set_state(numpy_state)
    torch.set_rng_state(state.tensors["torch"])
    if "cuda" in state.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.tensors["cuda"])


def seed_everything(seed: int) -> None:
    """The state that a run starts from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
