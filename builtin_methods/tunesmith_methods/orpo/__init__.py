"""Odds ratio preference optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, OfflineMethod, PairLogps, Preference


class ORPO(OfflineMethod):
    """Odds ratio preference optimisation: fine-tuning and alignment in one, without a reference."""

    name: ClassVar[str] = "orpo"
    consumes: ClassVar[type] = Preference
    supplies: ClassVar[type] = PairLogps
    card: ClassVar[Card] = Card(
        paper="ORPO: Monolithic Preference Optimization without Reference Model (arXiv:2403.07691)",
        use_when="Pairs and a base model that was not fine-tuned yet, or too little memory for a reference.",
        data="10k-60k pairs.",
        memory="16 bytes per parameter in full: one model.",
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 8e-6,
        "schedule": {"name": "inverse-sqrt", "warmup": 0.1},
        "batch_size": 64,
        "epochs": 3,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-5}

    objective: AnyObjective = Field(default="orpo")  # type: ignore[assignment]
    """Loss: any that reads pairs and no reference."""


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [ORPO]
