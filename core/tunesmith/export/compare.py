"""Does the exported model say what its source said? Greedy completions token by token, and the logits under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.data.encoding import Encoder
from tunesmith.errors import ConfigError
from tunesmith.examples import Prompt

PROMPTS = (
    "The quick brown fox",
    "What is 17 + 25? Explain your answer.",
    "Write a function that reverses a list.",
    "Once upon a time, in a village by the sea,",
)
"""What is completed where no prompts are given."""

SCORE_ROUNDING = 1e-4
"""Scores closer than this, absolutely or relatively, are the same."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a model says to a prompt.

    Attributes:
        prompt: its token ids.
        ids: most probable tokens after it; none of a model that scores.
        logits: ``[n, V]`` fp32 that they were chosen from, or ``[1, 1]`` with the score.
    """

    prompt: list[int]
    ids: list[int]
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Compared:
    """Source and export on the same prompts.

    Attributes:
        prompts: how many.
        same: of how many the completions are the same, token by token, or the scores up to rounding.
        tokens: compared, up to the first difference in each.
        first: in words, where the first difference is; empty where there is none.
        gap: how far apart the two best tokens of the source are there, in logits.
        largest: difference of two logits (or scores) that belong together.
        mean: the mean of these differences.
    """

    prompts: int
    same: int
    tokens: int
    first: str
    gap: float | None
    largest: float
    mean: float

    @property
    def identical(self) -> bool:
        """True where no completion differs."""
        return self.same == self.prompts


def prompt_ids(encoder: Encoder, prompts: Sequence[str]) -> list[list[int]]:
    """Prompts as the model would be asked them: as a user's message where there is a chat template.

    Raises:
        ConfigError: a prompt without tokens, or one that the template refuses.
    """
    found = []
    for text in prompts:
        asked: Any = [{"role": "user", "content": text}] if encoder.tokenizer.chat_template else text
        try:
            ids = [int(i) for i in encoder.prompt(Prompt(asked, {})).trunk]
        except ValueError as error:
            raise ConfigError(f"--prompt {text!r} cannot be asked", why=str(error)) from None
        if not ids:
            raise ConfigError(f"--prompt {text!r} has no tokens")
        found.append(ids)
    return found


def scores(model: nn.Module, prompts: Sequence[Sequence[int]]) -> list[Said]:
    """The score of every prompt."""
    found = []
    for ids in prompts:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([list(ids)])).logits
        found.append(Said(list(ids), [], logits.float().reshape(1, -1)))
    return found


def completions(model: Any, prompts: Sequence[Sequence[int]], count: int, stop_ids: frozenset[int]) -> list[Said]:
    """The most probable tokens after every prompt, ``count`` at most; computed without a cache, as nothing else is."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    found = []
    for prompt in prompts:
        ids = list(prompt)
        chosen, logits = list[int](), list[Tensor]()
        while len(chosen) < count and (most is None or len(ids) < most):
            with torch.inference_mode():
                last = model(input_ids=torch.tensor([ids])).logits[0, -1].float()
            logits.append(last)
            chosen.append(int(last.argmax()))
            ids.append(chosen[-1])
            if chosen[-1] in stop_ids:
                break
        found.append(Said(list(prompt), chosen, torch.stack(logits) if logits else torch.empty(0, 0)))
    return found


def compare(before: Sequence[Said], after: Sequence[Said], tokenizer: Any) -> Compared:
    """Hold what an export says against what its source said."""
    same, tokens, first, gap = 0, 0, "", None
    differences: list[Tensor] = []
    for number, (one, other) in enumerate(zip(before, after, strict=True), start=1):
        place = _first_difference(one.ids, other.ids)
        common = min(len(one.logits), len(other.logits), len(one.ids) if place is None else place + 1) or 1
        tokens += common if one.ids else 0
        differences.append((one.logits[:common] - other.logits[:common]).abs().flatten())
        if place is None and (one.ids or _close(one, other)):
            same += 1
        elif place is None:
            first = first or f"prompt {number}: {float(one.logits):.5g} became {float(other.logits):.5g}"
        elif not first:
            first = _words(number, place, one, other, tokenizer)
            best = one.logits[place].topk(2).values
            gap = float(best[0] - best[1])
    every = torch.cat(differences)
    return Compared(len(before), same, tokens, first, gap, float(every.max()), float(every.mean()))


def _close(one: Said, other: Said) -> bool:
    """Scores that differ by rounding in fp32 only."""
    return torch.allclose(one.logits, other.logits, rtol=SCORE_ROUNDING, atol=SCORE_ROUNDING)


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    if list(one) == list(other):
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)) - 1)


def _words(number: int, place: int, one: Said, other: Said, tokenizer: Any) -> str:
    was, now = (tokenizer.decode([said.ids[place]]) for said in (one, other))
    return f"prompt {number}, token {place + 1}: {was!r} became {now!r}"
