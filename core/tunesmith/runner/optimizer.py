"""The optimizer: one torch parameter group for every group of the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tunesmith.components import ParamGroup
from tunesmith.errors import ConfigError
from tunesmith.settings import RunSettings


def make_optimizer(groups: Sequence[ParamGroup], settings: RunSettings) -> torch.optim.Optimizer:
    """AdamW over the method's groups; states in fp32, or in 8 bits through bitsandbytes.

    Raises:
        ConfigError: nothing is trainable.
    """
    if not any(group.params for group in groups):
        raise ConfigError("no parameter is trainable", fix="check the method's freezing, or the adapter settings")
    torch_groups: list[dict[str, Any]] = [
        {"params": group.params, "weight_decay": settings.weight_decay if group.weight_decay else 0.0}
        for group in groups
        if group.params
    ]
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.eps}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(torch_groups, fused=True, **options)
    import bitsandbytes

    cls = {"adamw-8bit": bitsandbytes.optim.AdamW8bit, "paged-adamw-8bit": bitsandbytes.optim.PagedAdamW8bit}
    return cls[settings.optimizer](torch_groups, **options)  # type: ignore[no-any-return]


def set_rates(optimizer: torch.optim.Optimizer, groups: Sequence[ParamGroup], rate: float) -> None:
    """Give every group its share of the learning rate of this step."""
    for torch_group, group in zip(optimizer.param_groups, [g for g in groups if g.params], strict=True):
        torch_group["lr"] = rate * group.lr_scale
