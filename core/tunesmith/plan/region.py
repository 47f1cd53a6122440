"""Where predictions were held against real runs (benchmarks/README.md), and what of a run lies outside."""

from __future__ import annotations

import torch

from tunesmith.config import Run
from tunesmith.plan.account import Memory
from tunesmith.plan.hardware import Device

MODEL_TYPES = ("llama", "qwen3")
LARGEST = 2e8
"""Parameters of the largest model in the measurements."""
TOKENS = (512, 4096)
"""Of a part of an update, from and to."""
LEAST_SHARE = 0.1
"""Parts of fewer tokens than this share of the least measured are reported; what is held then is states alone."""
ADAPTERS = ("none", "lora")


def outside(run: Run, memory: Memory, device: Device, devices: int) -> list[str]:
    """What was never measured, as words."""
    settings, policy = run.settings, memory.held[0]
    tokens = sum(texts.tokens for texts in memory.part)
    kind = str(policy.blueprint.text.model_type)
    parameters = sum(held.states.parameters for held in memory.held)
    found = {
        "a GPU": not device.cpu,
        "several devices": devices > 1,
        "bf16": policy.setup.dtype != torch.float32,
        "a quantised base": settings.quantize != "none",
        f"adapter {settings.adapter}": settings.adapter not in ADAPTERS,
        f"optimizer {settings.optimizer}": settings.optimizer != "adamw",
        f"models of type {kind}": kind not in MODEL_TYPES,
        "models of this size": parameters > LARGEST,
        f"parts of {tokens:,} tokens": tokens > TOKENS[1] or tokens < LEAST_SHARE * TOKENS[0],
        "layers that train alone": policy.setup.trained_layers is not None,
    }
    return [word for word, lies_outside in found.items() if lies_outside]
