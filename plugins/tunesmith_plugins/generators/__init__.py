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


@tunesmith.hookimpl
def tunesmith_register_generators() -> list[type[Generator]]:
    """Register the built-in engines."""
    return [Native]
