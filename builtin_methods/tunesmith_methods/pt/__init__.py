"""Pre-training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, OfflineMethod, Text, TokenLogps, Volume


class PT(OfflineMethod):
    """Pre-train a model from a config: next-token prediction on raw text."""

    name: ClassVar[str] = "pt"
    consumes: ClassVar[type] = Text
    supplies: ClassVar[type] = TokenLogps
    starts_from_config: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        paper="Training Compute-Optimal Large Language Models (arXiv:2203.15556)",
        use_when="No base model speaks the language or domain, and there are tokens and compute for one.",
        data="About 20 tokens per parameter for the least compute; far more (1,000+) for a model that serves long. "
        "Trillions of tokens at 7B and above.",
        memory="16 bytes per parameter (weights, gradients, AdamW states) and activations.",
        volumes=(
            Volume(
                "least compute",
                "tokens",
                140_000_000_000,
                1_400_000_000_000,
                source="strategy guide, section 1; arXiv:2203.15556",
                note="20 tokens per parameter of a 7B-70B model",
            ),
            Volume(
                "a model that serves long",
                "tokens",
                1_000_000_000_000,
                15_000_000_000_000,
                source="strategy guide, section 1",
                note="Llama 3 saw more than 15T",
                open_ended=True,
            ),
        ),
        goals=("pretrain",),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine", "warmup": 0.02},
        "weight_decay": 0.1,
        "batch_size": 64,
        "max_length": 1024,
        "overlong": "split",
    }

    objective: AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""
    vocab_size: int | None = Field(default=None, ge=300)
    """Train a byte-level BPE tokenizer of this many pieces on the training rows, instead of using the model's."""

    def build_tokenizer(self, texts: Iterable[str]) -> Any | None:
        """Train the tokenizer when `vocab_size` asks for one."""
        if self.vocab_size is None:
            return None
        from tunesmith.data.encoding import train_tokenizer

        return train_tokenizer(texts, self.vocab_size)


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [PT]
