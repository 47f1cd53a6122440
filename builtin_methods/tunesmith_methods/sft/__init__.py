"""Supervised fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    Completion,
    Conversation,
    Demonstration,
    Example,
    Method,
    OfflineMethod,
    Preset,
    TokenLogps,
    Volume,
)

if TYPE_CHECKING:
    from tunesmith.data.trees import Tree


class SFT(OfflineMethod):
    """Supervised fine-tuning on demonstrations; only the assistant's tokens are trained on."""

    name: ClassVar[str] = "sft"
    consumes: ClassVar[type] = Demonstration
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(
        paper="LIMA: Less Is More for Alignment (arXiv:2305.11206); DeepSeek-R1 (arXiv:2501.12948) for distillation",
        use_when="The model knows it but does not say it that way: chat, a task, a format, a reasoning style. "
        "Not for new facts: those need cpt or retrieval.",
        data="1k-10k curated conversations for chat, 500-2k for one task, 2k-5k as a cold start before RL, "
        "100k-1M reasoning traces for distillation.",
        memory="16 bytes per parameter in full; about 2 per parameter with lora, 0.6 with a 4-bit base.",
        volumes=(
            Volume(
                "general chat",
                "rows",
                1_000,
                10_000,
                source="strategy guide, section 5.2; arXiv:2305.11206",
                note="curated by hand and diverse",
                goals=("style", "safety"),
            ),
            Volume(
                "one task",
                "rows",
                500,
                2_000,
                source="strategy guide, section 5.2",
                note="extraction, classification; avoid over-fitting",
                goals=("task", "format", "tool-use"),
            ),
            Volume(
                "deep reasoning",
                "rows",
                100_000,
                1_000_000,
                source="strategy guide, section 5.2; arXiv:2501.12948",
                note="distilled chains of thought",
                goals=("reasoning",),
            ),
            Volume(
                "cold start before RL",
                "rows",
                2_000,
                5_000,
                source="strategy guide, section 5.2; arXiv:2501.12948",
                note="only the format of reasoning",
                goals=("reasoning", "tool-use"),
            ),
        ),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-5,
        "schedule": {"name": "cosine", "warmup": 0.03},
        "batch_size": 64,
        "epochs": 2,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4, "batch_size": 32}
    presets: ClassVar[Mapping[str, Preset]] = {
        "lima": Preset(
            "About 1,000 hand-picked samples, many epochs (arXiv:2305.11206).",
            {
                "epochs": 15,
                "batch_size": 32,
                "learning_rate": 1e-5,
                "schedule": {"name": "linear", "warmup": 0.0, "final": 0.1},
                "betas": [0.9, 0.95],
                "weight_decay": 0.1,
            },
        ),
        "distill": Preset(
            "100k and more reasoning traces of a stronger model (arXiv:2501.12948).",
            {
                "epochs": 2,
                "batch_size": 64,
                "learning_rate": 5e-5,
                "schedule": {"name": "cosine", "warmup": 0.01},
                "max_length": 32768,
                "micro_tokens": 32768,
                "overlong": "drop",
            },
        ),
        "cold-start": Preset(
            "2k-5k chains of thought between <thinking> tags, before RL; a malformed row is refused.",
            {
                "epochs": 3,
                "batch_size": 64,
                "learning_rate": 1e-5,
                "schedule": {"name": "cosine", "warmup": 0.03},
                "max_length": 8192,
                "micro_tokens": 8192,
                "overlong": "drop",
                "thinking_tag": "thinking",
            },
        ),
    }

    objective: AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""
    train_on: Literal["all", "last"] = "all"
    """Assistant turns to train on: all of them, or the last one only."""
    thinking_tag: str | None = Field(default=None, pattern=r"^[A-Za-z][\w-]*$")
    """Refuse answers without exactly one <TAG>...</TAG> block before a non-empty answer."""

    def encoder_options(self) -> Mapping[str, Any]:
        """Which assistant turns are trained on."""
        return {"train_on": self.train_on}

    def check(self, example: Example, tree: Tree) -> str | None:
        """Refuse an answer that would teach a broken thinking format."""
        if self.thinking_tag is None:
            return None
        for answer in _answers(example, self.train_on):
            problem = thinking_problem(answer, self.thinking_tag)
            if problem:
                return problem
        return None


def _answers(example: Example, train_on: str) -> list[str]:
    """The texts that are trained on."""
    if isinstance(example, Completion):
        return [example.completion]
    if not isinstance(example, Conversation):
        return []
    turns = [str(m.get("content") or "") for m in example.messages if m.get("role") == "assistant"]
    return turns[-1:] if train_on == "last" else turns


def thinking_problem(answer: str, tag: str) -> str | None:
    """Why an answer is not one ``<tag>...</tag>`` block followed by text, or ``None`` when it is.

    >>> thinking_problem("<thinking>2+2 is 4</thinking>4", "thinking") is None
    True
    >>> thinking_problem("4", "thinking")
    'the answer has 0 <thinking> and 0 </thinking> tags; exactly one block is wanted'
    """
    opened, closed = answer.count(f"<{tag}>"), answer.count(f"</{tag}>")
    if (opened, closed) != (1, 1):
        return f"the answer has {opened} <{tag}> and {closed} </{tag}> tags; exactly one block is wanted"
    match = re.fullmatch(rf"\s*<{tag}>(.*)</{tag}>(.*)", answer, flags=re.DOTALL)
    if match is None:
        return f"the answer must start with <{tag}>"
    if not match[1].strip():
        return f"the <{tag}> block is empty"
    return None if match[2].strip() else f"nothing follows </{tag}>"


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [SFT]
