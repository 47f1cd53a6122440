"""The command that serves an export."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that the server's ``--max-lora-rank`` takes."""
NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def serving_line(folder: Path, config: Any, dtype: str, *, scores: bool) -> str:
    """The command for a whole model."""
    words = ["vllm", "serve", str(folder), *_common(config, dtype)]
    return shlex.join([*words, "--runner", "pooling"] if scores else words)


def adapter_line(folder: Path, base: str, config: Any, adapter: dict[str, Any], dtype: str) -> str:
    """The command for a base with an adapter beside it; requests name the adapter."""
    name = re.sub(r"[^\w.-]+", "-", folder.name).strip("-") or "adapter"
    ranks = [int(adapter["r"]), *(int(rank) for rank in (adapter.get("rank_pattern") or {}).values())]
    rank = next((allowed for allowed in RANKS if allowed >= max(ranks)), max(ranks))
    words = ["vllm", "serve", base, *_common(config, dtype), "--enable-lora", "--max-lora-rank", str(rank)]
    return shlex.join([*words, "--lora-modules", f"{name}={folder}"])


def not_served(adapter: dict[str, Any]) -> str:
    """Why the server takes no such adapter; empty where it does."""
    if adapter.get("use_dora"):
        return "it serves no DoRA adapters"
    if adapter.get("modules_to_save"):
        return "it serves no adapters with whole modules, and this one has " + ", ".join(adapter["modules_to_save"])
    return ""


def _common(config: Any, dtype: str) -> list[str]:
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    length = [] if most is None else ["--max-model-len", str(most)]
    return ["--dtype", NAMES.get(dtype, "auto"), *length]
