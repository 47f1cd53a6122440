"""The model of an export, as it was and as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn

from tunesmith.errors import ResourceError
from tunesmith.models.folders import Found
from tunesmith.models.loading import has_weights

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def load(found: Found, dtype: torch.dtype, *, trust_remote_code: bool = False) -> nn.Module:
    """The model on the CPU, an adapter on its base and not merged.

    Raises:
        ResourceError: weights are missing, damaged, or would start from random numbers.
    """
    model = _whole(found.base or found.name, found, dtype, trust_remote_code)
    if found.base is None:
        return model
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, found.name, autocast_adapter_dtype=False)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ResourceError(
            f"the adapter {found.name} cannot be put on its base {found.base}", why=_line(error)
        ) from None
    return cast(nn.Module, adapted.to(dtype).eval())


def _whole(name: str, found: Found, dtype: torch.dtype, trust_remote_code: bool) -> nn.Module:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    local = Path(name).exists()
    if local and not has_weights(Path(name)):
        raise ResourceError(f"{name} holds no model weights (*.safetensors)", fix="give the folder of a finished run")
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": trust_remote_code}
    family: Any = AutoModelForCausalLM
    if found.scores:
        family, options["num_labels"] = AutoModelForSequenceClassification, 1
    try:
        model, report = family.from_pretrained(name, output_loading_info=True, local_files_only=local, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise ResourceError(f"cannot load the model {name!r}", why=_line(error)) from None
    own = "score.weight" if found.scores and found.base is not None else ""  # the adapter brings its head
    missing = sorted(set(report["missing_keys"]) - {own})
    if missing:
        raise ResourceError(
            f"the weights of {name!r} are not complete: {missing[0]} is missing",
            why=f"{len(missing)} tensors would start from random numbers",
        )
    return cast(nn.Module, model.eval())


def stored_dtype(found: Found) -> torch.dtype:
    """What the weights are written in, as the config (of an adapter's base) says."""
    said = found.config.dtype
    return said if isinstance(said, torch.dtype) else torch.float32


def short(dtype: torch.dtype) -> str:
    """``bf16``, ``fp16``, ``fp32``, or torch's name of another one."""
    known = {value: name for name, value in DTYPES.items()}
    return known.get(dtype, str(dtype).removeprefix("torch."))


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
