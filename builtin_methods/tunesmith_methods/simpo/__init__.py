"""Simple preference optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, OfflineMethod, PairLogps, Preference, Volume


class SimPO(OfflineMethod):
    """Simple preference optimisation: log-probability per token as the reward, without a reference."""

    name: ClassVar[str] = "simpo"
    consumes: ClassVar[type] = Preference
    supplies: ClassVar[type] = PairLogps
    card: ClassVar[Card] = Card(
        paper="SimPO: Simple Preference Optimization with a Reference-Free Reward (arXiv:2405.14734)",
        use_when="Pairs, a fine-tuned model and little memory; chosen answers that are longer than rejected ones. "
        "The learning rate is the critical setting: 1e-5 breaks a model.",
        data="10k-60k pairs, best sampled from the model itself and ranked by a strong reward model.",
        memory="16 bytes per parameter in full: one model.",
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
        "learning_rate": 6e-7,
        "schedule": {"name": "cosine", "warmup": 0.1},
        "batch_size": 128,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-6}

    objective: AnyObjective = Field(default="simpo")  # type: ignore[assignment]
    """Loss: any that reads pairs and no reference."""


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [SimPO]
