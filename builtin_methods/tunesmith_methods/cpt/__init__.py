"""Continued pre-training with replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

import tunesmith
from tunesmith import AnyObjective, Card, EmbeddingsFirstMethod, Method, ReplayMethod, Text, TokenLogps, Volume


class CPT(EmbeddingsFirstMethod, ReplayMethod):
    """Continue pre-training on a domain with general text mixed in, and report what is forgotten."""

    name: ClassVar[str] = "cpt"
    consumes: ClassVar[type] = Text
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(
        paper="Simple and Scalable Strategies to Continually Pre-train Large Language Models (arXiv:2403.08763)",
        use_when="Facts or a domain must get into the weights: medicine, law, a code base, a language.",
        data="5B-20B tokens for a vertical domain, 10B-50B and more for a new language, 1B-5B for internal "
        "knowledge; 10-20% general text among them (25-50% for a new language).",
        memory="16 bytes per parameter (weights, gradients, AdamW states) and activations.",
        volumes=(
            Volume(
                "vertical domain",
                "tokens",
                5_000_000_000,
                20_000_000_000,
                source="strategy guide, section 5.1",
                note="mix in 10-20% general text",
                goals=("domain",),
            ),
            Volume(
                "new language",
                "tokens",
                10_000_000_000,
                50_000_000_000,
                source="strategy guide, section 5.1",
                note="update the tokenizer first",
                goals=("language",),
                open_ended=True,
            ),
            Volume(
                "internal knowledge",
                "tokens",
                1_000_000_000,
                5_000_000_000,
                source="strategy guide, section 5.1",
                note="dense text: code bases, manuals",
                goals=("facts",),
            ),
        ),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-4,
        "schedule": {"name": "cosine", "warmup": 0.01},
        "weight_decay": 0.1,
        "batch_size": 64,
        "max_length": 1024,
        "overlong": "split",
        "holdout": 0.02,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-4}

    objective: AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""

    @model_validator(mode="after")
    def _replay_has_rows(self) -> CPT:
        if self.replay_share > 0 and not self.replay:
            raise ValueError(
                f"replay_share is {self.replay_share:g}, but there is no general text to replay: give it with "
                "--replay PATH, or set --replay-share 0 and accept that the model forgets"
            )
        return self


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [CPT]
