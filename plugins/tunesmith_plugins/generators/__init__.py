"""Engines that sample completions from the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import EngineMemory, Generator, GeneratorSession

if TYPE_CHECKING:
    from tunesmith.scoring.scorer import Scorer


class Native(Generator):
    """Sampling with the policy's own modules: prompts once, no padding, finished sequences leave the batch."""

    name: ClassVar[str] = "native"
    batch_size: int = Field(default=64, ge=1)
    """Completions that grow at the same time at most; halved when memory runs out."""
    max_batch_tokens: int = Field(default=65_536, ge=1)
    """Tokens that the key-value cache of those completions may hold, prompts included."""

    def memory_needed(self, answers: int, longest: int) -> EngineMemory:
        """Room for the completions that grow at the same time, each as long as the longest."""
        width = max(1, min(self.batch_size, self.max_batch_tokens // max(1, longest), answers))
        return EngineMemory(width * longest)

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
    repeats: ClassVar[Literal["sample", "call"]] = "call"
    max_batch_tokens: int = Field(default=65_536, ge=1)
    """Tokens that the paged cache holds."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A cache that is cleared in a moment."""
        return {"max_batch_tokens": 4096}

    def memory_needed(self, answers: int, longest: int) -> EngineMemory:
        """Pages for all completions, or as many as may be held."""
        return EngineMemory(max(longest, min(answers * longest, self.max_batch_tokens)))

    def open(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> GeneratorSession:
        """Sample a little, to see that it works for the model."""
        from tunesmith_plugins.generators.continuous import ContinuousSession

        return ContinuousSession(policy, tokenizer, stop_ids, self.max_batch_tokens)


class VLLM(Generator):
    """vLLM, beside the trainer on its GPU or as a server. Not run in the tests: there it meets a recorded interface.

    Written for vLLM 0.33, which is not installed with tunesmith. Log-probabilities are vLLM's own where tokens are
    drawn from the whole distribution; where they are truncated, the policy computes them again.
    """

    name: ClassVar[str] = "vllm"
    needs: ClassVar[tuple[str, ...]] = ("vllm",)
    mode: Literal["colocate", "server"] = "colocate"
    """Where it runs: in a process of its own on the GPU of the policy, or wherever `url` says."""
    gpu_memory: float = Field(default=0.3, gt=0, lt=1)
    """Share of the GPU's memory for a colocated engine, weights included."""
    url: str = "http://127.0.0.1:8000"
    """Of the server, which needs a GPU of its own. It is started with VLLM_SERVER_DEV_MODE=1 and `vllm serve MODEL
    --logprobs-mode processed_logprobs --weight-transfer-config '{"backend": "nccl"}'`."""
    address: str = "127.0.0.1"
    """Of this machine, for the server's workers to fetch the weights from."""
    port: int = Field(default=51_216, ge=1, le=65_535)
    """On which the weights are sent."""
    requests: int = Field(default=128, ge=1)
    """Requests to the server at the same time."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that a request to the server may take."""

    def needed_from_outside(self) -> Iterable[tuple[Literal["dataset", "address"], str]]:
        """The server, where there is one."""
        return (("address", self.url),) if self.mode == "server" else ()

    def memory_needed(self, answers: int, longest: int) -> EngineMemory:
        """Its share of the device where it is colocated; nothing where a server has a device of its own."""
        if self.mode == "server":
            return EngineMemory(0)
        return EngineMemory(answers * longest, weight_copies=1.0, device_share=self.gpu_memory)

    def open(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> GeneratorSession:
        """Start the engine or find the server, send it the weights and sample a little."""
        from tunesmith_plugins.generators.vllm_engine import VLLMSession

        return VLLMSession(self, policy, tokenizer, stop_ids)


@tunesmith.hookimpl
def tunesmith_register_generators() -> list[type[Generator]]:
    """Register the built-in engines."""
    return [Native, TransformersCB, VLLM]
