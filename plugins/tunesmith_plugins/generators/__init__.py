"""Engines that sample completions from the policy."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import Generator, GeneratorSession

if TYPE_CHECKING:
    from tunesmith.scoring.scorer import Scorer


class Native(Generator):
    """Sampling with the policy's own modules: prompts once, no padding, finished sequences leave the batch."""

    name: ClassVar[str] = "native"
    batch_size: int = Field(default=64, ge=1)
    """Completions that grow at the same time at most; halved when memory runs out."""
    max_batch_tokens: int = Field(default=65_536, ge=1)
    """Tokens that the key-value cache of those completions may hold, prompts included."""

    def open(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> GeneratorSession:
        """Find out which cache is exact for the model."""
        from tunesmith_plugins.generators.native import NativeSession

        return NativeSession(policy, tokenizer, stop_ids, self.batch_size, self.max_batch_tokens)


class TransformersCB(Generator):
    """transformers' continuous batching: a paged cache, flash attention and CUDA graphs where they are to be had.

    A seed repeats a whole call, not a single sample: all of a call's tokens are drawn from one random state. It runs in
    the dtype of the weights, without autocast, and a stop string is looked for only when a completion is done.
    """

    name: ClassVar[str] = "transformers-cb"
    max_batch_tokens: int = Field(default=65_536, ge=1)
    """Tokens that the paged cache holds."""

    def open(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> GeneratorSession:
        """Sample a little, to see that it works for the model."""
        from tunesmith_plugins.generators.continuous import ContinuousSession

        return ContinuousSession(policy, tokenizer, stop_ids, self.max_batch_tokens)


@tunesmith.hookimpl
def tunesmith_register_generators() -> list[type[Generator]]:
    """Register the built-in engines."""
    return [Native, TransformersCB]
