"""What advice is given on: a goal, the data at hand, the model, the machine. Plain numbers, read from files or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ONLINE = ("grpo", "rloo", "ppo", "iterative-dpo", "iterative-kto")
"""Methods that sample their answers from prompts."""
PAIRED = ("dpo", "orpo", "simpo")
"""Methods that learn from pairs at hand."""
LONGEST = 2048
"""``max_length`` of a run by default."""
ASSETS = {
    "rm": "a reward model",
    "own-pairs": "pairs sampled from the model itself",
    "general": "text like what the model was trained on",
}
"""What may be at hand beside the data."""
DEMANDS = {
    "in-weights": "the knowledge must be in the weights",
    "keep-general": "what the model knows must stay",
}
"""What ``--must`` may say."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to train on; ``None``: not known.

    Attributes:
        devices: GPUs.
        gigabytes: of each, in 10^9 bytes.
        peak: of each, in bf16 FLOPs per second.
        hours: that may be spent.
    """

    devices: int = 1
    gigabytes: float | None = None
    peak: float | None = None
    hours: float | None = None

    @property
    def total(self) -> float | None:
        """Gigabytes of all GPUs."""
        return None if self.gigabytes is None else self.devices * self.gigabytes


@dataclass(frozen=True, slots=True)
class Case:
    """A case to advise on. Amounts of data are ``None`` where there is no such data.

    Attributes:
        goal: what training is for.
        text_tokens: tokens of raw text.
        demos: prompts with an answer to imitate, and ``traces`` the share whose answers reason step by step.
        pairs: prompts with a better and a worse answer, and ``longer`` the share whose better answer is the longer.
        good: single answers with a thumb up, and ``bad`` those with a thumb down.
        prompts: to sample answers to, and ``checkable`` the share with what a program needs to check them.
        others: rows of shapes that only installed methods know, by the name of the shape.
        duplicates, empty, identical, overlong, overlap: shares of rows with the fault (copies; blank fields; the same
            answer as better and worse; longer than the limit; that stand in the evaluation data too).
        unended: True where the template ends the assistant's turn with no token that a model can stop at.
        refused: rows that a run would refuse, and ``conflicts`` judgements that another row contradicts.
        fertility: tokens per word against the same tokenizer's on English.
        parameters: of the model, and ``start`` whether it was fine-tuned (``tuned``) or not (``base``).
        adapter: ``auto``, ``none`` (all weights), ``lora`` or ``4bit``.
        machine: what there is to train on.
        have: of `ASSETS`; ``must``: of `DEMANDS`.
        verifier: the reward that the user named.
        pass_rate: share of prompts that the model solves, where it was measured.
        train_tokens: tokens of one pass over the data, where known.
        measured: gigabytes by method, where they were computed from the model's shape.
    """

    goal: str
    text_tokens: float | None = None
    demos: int | None = None
    traces: float = 0.0
    pairs: int | None = None
    longer: float | None = None
    good: int | None = None
    bad: int | None = None
    prompts: int | None = None
    checkable: float = 0.0
    others: Mapping[str, int] = field(default_factory=dict)
    duplicates: float = 0.0
    empty: float = 0.0
    identical: float = 0.0
    overlong: float = 0.0
    overlap: float | None = None
    unended: bool = False
    refused: int = 0
    conflicts: int = 0
    fertility: float | None = None
    parameters: float | None = None
    start: str | None = None
    adapter: str = "auto"
    machine: Machine = Machine()
    have: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    verifier: str | None = None
    pass_rate: float | None = None
    train_tokens: float | None = None
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def labels(self) -> int | None:
        """Answers with a thumb."""
        return None if self.good is None and self.bad is None else (self.good or 0) + (self.bad or 0)

    @property
    def nothing(self) -> bool:
        """True where no data is at hand."""
        amounts = (self.text_tokens, self.demos, self.pairs, self.labels, self.prompts)
        return all(amount is None for amount in amounts) and not self.others

    @property
    def can_check(self) -> bool:
        """True where a program can tell right answers from wrong ones."""
        return self.verifier is not None or self.checkable >= 0.5

    def amount(self, consumes: str, unit: str) -> float | None:
        """How much there is of what a method takes; ``None`` where there is none."""
        if unit == "tokens":
            return self.text_tokens if consumes == "text" else None
        amounts: Mapping[str, float | None] = {
            "text": None,
            "demonstration": self.demos,
            "pair": self.pairs,
            "label": self.labels,
            "prompt": self.prompts,
        }
        return amounts[consumes] if consumes in amounts else self.others.get(consumes)


def count(number: float | None) -> str:
    """``3,000`` or ``2.1B``: exact below a million."""
    if number is None:
        return "no"
    if number < 1e6:
        return f"{number:,.0f}"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:,.0f}"


def span(hours: float) -> str:
    """``40 seconds``, ``12 minutes``, ``3.5 hours`` or ``6.2 days``."""
    seconds = 3600 * hours
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.2g} {name}" if seconds < 100 * size else f"{seconds / size:,.0f} {name}"
    return f"{seconds:.2g} seconds"
