"""Reward models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Comparison, Method, OfflineMethod, RankedScores, Volume


class RM(OfflineMethod):
    """Train a reward model: one score for a whole answer, from pairs or rankings."""

    name: ClassVar[str] = "rm"
    consumes: ClassVar[type] = Comparison
    supplies: ClassVar[type] = RankedScores
    head: ClassVar[Literal["lm", "score"]] = "score"
    card: ClassVar[Card] = Card(
        paper="Training language models to follow instructions with human feedback (arXiv:2203.02155)",
        use_when="Answers must be judged where no rule can: as the reward of PPO, to label pairs of a newer model, to "
        "pick the best of n.",
        data="100k-1M pairs, as diverse as possible; a smaller clean set can beat a larger one.",
        memory="16 bytes per parameter in full.",
        volumes=(
            Volume(
                "reward model",
                "pairs",
                100_000,
                1_000_000,
                source="strategy guide, section 5.3",
                note="diverse; 80k curated pairs have won as well (arXiv:2410.18451)",
            ),
        ),
        goals=("style", "safety"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-5,
        "schedule": {"name": "cosine", "warmup": 0.05},
        "batch_size": 64,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4}

    objective: AnyObjective = Field(default="bradley-terry")  # type: ignore[assignment]
    """Loss: any that reads scores."""


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RM]
