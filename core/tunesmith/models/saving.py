"""Model folders that transformers and peft load as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import DivergedError
from tunesmith.models.expanded import mark_trained
from tunesmith.scoring.scorer import base_of


def check_finite(module: nn.Module) -> None:
    """Raises `DivergedError` naming the first trained parameter that holds a NaN or an infinity."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise DivergedError(
                f"the weights of {name} are not finite; nothing was saved",
                fix="go on from the last checkpoint with a lower learning_rate (`tunesmith resume`)",
            )


def save_model(module: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights in safetensors, config, tokenizer and chat template. Raises `DivergedError`, see `check_finite`."""
    check_finite(module)
    mark_trained(base_of(module))
    several = len(getattr(module, "peft_config", ())) > 1
    module.save_pretrained(folder, **({"selected_adapters": [module.active_adapter]} if several else {}))
    tokenizer.save_pretrained(folder)
