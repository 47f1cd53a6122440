"""What samples completions from a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from tunesmith.components.base import Component, Settings, named, written_as
from tunesmith.components.workload import EngineMemory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tunesmith.scoring.scorer import Scorer

Stop = Literal["eos", "stop", "length"]
"""Why a completion ended: a token that ends a turn, a stop string, or the longest length allowed."""


class Sampling(Settings):
    """How tokens are drawn."""

    max_new_tokens: int = Field(default=256, ge=1)
    """Tokens of a completion at most."""
    temperature: float = Field(default=1.0, ge=0)
    """Logits are divided by it; 0 takes the most probable token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the most probable tokens that together have this probability."""
    top_k: int = Field(default=0, ge=0)
    """Draw from this many most probable tokens; 0: from all."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Draw from tokens that have at least this share of the most probable one's probability."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a completion; they stay in it."""

    @property
    def whole(self) -> bool:
        """True where tokens are drawn from the model's whole distribution."""
        return self.top_p == 1.0 and self.top_k == 0 and self.min_p == 0.0 and self.temperature > 0


@dataclass(slots=True)
class Sample:
    """A completion.

    Attributes:
        ids: ``[n]`` int32, with the token that ended it where ``stop`` is ``eos``.
        logps: ``[n]`` fp32 natural-log probabilities of the drawn tokens under the model at the sampling temperature,
            over the whole vocabulary also where tokens are drawn from a part of it; at temperature 0 those of
            temperature 1.
        stop: why it ended.
    """

    ids: npt.NDArray[np.int32]
    logps: npt.NDArray[np.float32]
    stop: Stop


class GeneratorSession(Protocol):
    """An engine that is ready to sample."""

    def generate(
        self, prompts: Sequence[npt.NDArray[np.int32]], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[Sample]]:
        """One sample for every seed of every prompt.

        The same prompt, seed and weights give the same completion, whatever else is generated in the same call (up to
        rounding of the logits).
        """

    def sync(self) -> None:
        """The weights of the policy have changed."""

    def close(self) -> None:
        """Give back what the engine holds."""


class Generator(Component):
    """An engine that samples from the policy."""

    kind: ClassVar[str] = "generator"
    repeats: ClassVar[Literal["sample", "call"]] = "sample"
    """What a seed repeats: its sample, or only a whole call with the same prompts and seeds."""

    @abstractmethod
    def open(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int]) -> GeneratorSession:
        """Make the engine ready; ``stop_ids`` are the tokens that end a completion."""

    def memory_needed(self, answers: int, longest: int) -> EngineMemory:
        """What it holds while it samples, for `tunesmith plan`; by default a cache of all answers at once.

        Args:
            answers: sampled by this process in a step.
            longest: tokens of a prompt and its answer at most.
        """
        return EngineMemory(cache_tokens=answers * longest)


AnyGenerator = Annotated[Generator, named("generator"), written_as("generator")]
