"""The reward of `rl.py`, in the form that both sides take."""

from __future__ import annotations

from typing import Any


def variety(completions: list[list[dict[str, str]]], **columns: Any) -> list[float]:
    """The share of the words of every answer that are different from each other."""
    texts = [messages[0]["content"].split() for messages in completions]
    return [len(set(words)) / max(1, len(words)) for words in texts]
