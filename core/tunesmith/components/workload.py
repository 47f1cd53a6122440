"""What a step of a run computes, as a method declares it: which models work, on how much text, in what order.

`tunesmith plan` reads nothing else of a method: memory and time follow from this, the model's shape and the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Does = Literal["sample", "score", "train"]
"""Sample completions; run a model without gradient; run it with gradient and update it."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """What a run says of the rows of a step, before any of them is read.

    Attributes:
        rows: drawn for a step, over all processes.
        longest: tokens of a row at most, or of a prompt where answers are sampled (``max_length``).
        prompt: tokens that the answers of a row share, where that is known; else 0.
    """

    rows: int
    longest: int
    prompt: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """The largest tree that a method computes on in one piece: a prompt and the answers that share it.

    Attributes:
        prompt: tokens that are computed once and not trained on.
        answer: tokens of one answer.
        answers: how many.
    """

    prompt: int = 0
    answer: int = 1
    answers: int = 1

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass computes."""
        return self.prompt + self.answers * self.answer

    @property
    def scored(self) -> int:
        """Tokens whose probability is asked for."""
        return self.answers * self.answer

    @property
    def longest(self) -> int:
        """Tokens of the longest text that the model sees."""
        return self.prompt + self.answer


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a step.

    Attributes:
        name: for people, such as ``score references``.
        does: see `Does`.
        roles: the models that work in it, at the same time. What trains with the policy is listed after it.
        texts: what they compute on.
        trees: how many such trees a step has, over all processes.
        passes: how often they are gone through.
        updates: optimizer updates on them; only where ``does`` is ``train``.
    """

    name: str
    does: Does
    roles: tuple[Literal["policy", "reference", "reward", "value"], ...]
    texts: Texts
    trees: int
    passes: float = 1.0
    updates: int = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """A step, and what a method does to the model before the first one.

    Attributes:
        phases: in order.
        new_layers: layers that the method adds to the policy.
        trained_layers: which layers of the policy, new ones counted, train and nothing else does; ``None``: all of it.
        notes: what was assumed, as sentences for people.
    """

    phases: tuple[Phase, ...]
    new_layers: int = 0
    trained_layers: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """What an engine that samples holds beside the policy.

    Attributes:
        cache_tokens: tokens of its key-value cache.
        weight_copies: copies of the policy's weights in the dtype of the computation, in the trainer's memory.
        device_share: share of the device that it takes for itself; its cache and copies are then within it.
    """

    cache_tokens: int
    weight_copies: float = 0.0
    device_share: float = 0.0
