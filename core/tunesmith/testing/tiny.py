"""A model small enough to train for a few steps in a moment, with its tokenizer; made on the spot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

SENTENCES = (
    "Yes, gladly. Of course, here it is. No, never, go away.",
    "Question and answer, word by word, please.",
    "The quick brown fox jumps over the lazy dog 0123456789.",
    "A general text says that water is wet, and fire is hot.",
)
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
POSITIONS = 256


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """Where models lie until this process ends."""
    return tempfile.TemporaryDirectory(prefix="tunesmith-tiny-")


@cache
def tiny_model(*, uniform: bool = False) -> Path:
    """A folder with a two-layer model of random weights, a tokenizer and a chat template.

    Args:
        uniform: its head is zero, so that all tokens are equally likely whatever came before.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.data.encoding import train_tokenizer
    from tunesmith.models.loading import quiet_transformers

    quiet_transformers()
    folder = Path(_kept().name) / ("uniform" if uniform else "random")
    tokenizer: Any = train_tokenizer(SENTENCES * 3, 300)
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,  # the usual 0.02 gives almost the same logits everywhere, which hides mistakes
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    if uniform:
        with torch.no_grad():
            model.lm_head.weight.zero_()
    model.save_pretrained(folder)
    return folder


@contextmanager
def own_cache() -> Iterator[None]:
    """What is computed once per model and kept goes where the models lie, not into the user's cache."""
    before = os.environ.get("TUNESMITH_CACHE")
    os.environ["TUNESMITH_CACHE"] = str(Path(_kept().name) / "cache")
    try:
        yield
    finally:
        del os.environ["TUNESMITH_CACHE"]
        if before is not None:
            os.environ["TUNESMITH_CACHE"] = before
