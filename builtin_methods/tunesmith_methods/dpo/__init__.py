"""Direct preference optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, Preference, ReferencedMethod, ReferencedPairLogps, Volume


class DPO(ReferencedMethod):
    """Direct preference optimisation: raise chosen over rejected answers, measured against a reference."""

    name: ClassVar[str] = "dpo"
    consumes: ClassVar[type] = Preference
    supplies: ClassVar[type] = ReferencedPairLogps
    card: ClassVar[Card] = Card(
        paper="Direct Preference Optimization (arXiv:2305.18290)",
        use_when="Style, helpfulness, safety: pairs say which of two answers is better. The standard for alignment. "
        "Start from a model that was fine-tuned on such answers.",
        data="10k-60k pairs; a clear gap between chosen and rejected counts for more than their number.",
        memory="18 bytes per parameter in full (16 with a cached reference); with lora the reference is free.",
        volumes=(
            Volume(
                "alignment",
                "pairs",
                10_000,
                60_000,
                source="strategy guide, section 5.3",
                note="a clear gap between the answers counts for more than scale",
            ),
        ),
        goals=("style", "safety"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 5e-7,
        "schedule": {"name": "cosine", "warmup": 0.1},
        "batch_size": 64,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-6}

    objective: AnyObjective = Field(default="sigmoid")  # type: ignore[assignment]
    """Loss: any that reads pairs."""


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [DPO]
