"""Penalty for saying the same again and again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import Fault, Reward, Rollout

UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that put no space between words (Thai, Lao, Tibetan, Burmese, Khmer, kana, Han): a character is a word."""
# An endless word or row of signs is cut into pieces, so that it is a loop of them.
LETTER, SIGN = rf"[^\W{UNSPACED}]", r"[^\w\s]"
WORD = rf"[{UNSPACED}]|{LETTER}{{1,24}}+(?!{LETTER})|{LETTER}{{1,4}}|{SIGN}{{1,24}}+(?!{SIGN})|{SIGN}{{1,4}}"
INVISIBLE = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
SENTENCE = r"[\n\r.!?;\u2026\u3002\uff01\uff1f\u0964\u061f]+"


class Repetition(Reward):
    """The largest penalty times the share of n-grams, or of whole sentences and lines, that were said before."""

    name: ClassVar[str] = "repetition"
    best: ClassVar[float | None] = 0.0
    ngram: int = Field(default=3, ge=1)
    """Length of the sequences that are counted."""
    max_penalty: float = Field(default=-1.0, le=0)
    """Score of a completion that says nothing but the same."""
    unit: Literal["words", "characters", "tokens"] = "words"
    """What sequences consist of. words: in scripts without spaces, a character is a word."""
    allowed: float = Field(default=0.0, ge=0, lt=1)
    """Share of repetition that costs nothing; the penalty grows from there."""

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A short text that repeats nothing."""
        yield {"prompt": "Name three colours.", "completion": "Red, green and blue."}
        yield {"prompt": "Nenne drei Farben.", "completion": "Rot, Gelb sowie ein helles Grau."}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Score every completion, in time that grows with its length and no faster."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float | Fault:
        if self.unit == "tokens":
            if rollout.ids is None:
                return Fault("error", "there are no token ids to count in; set unit: words or characters")
            share = repeated(list(rollout.ids), self.ngram)
        else:
            text = _compiled(INVISIBLE).sub("", rollout.text.lower())
            units = _compiled(WORD).findall(text) if self.unit == "words" else [c for c in text if not c.isspace()]
            share = max(repeated(units, self.ngram), self._loops(text))
        return 0.0 + self.max_penalty * max(0.0, share - self.allowed) / (1 - self.allowed)  # 0.0 + keeps -0.0 away

    def _loops(self, text: str) -> float:
        """Share of sentences and lines that were said before, those left out that are shorter than an n-gram."""
        said = [tuple(_compiled(WORD).findall(part)) for part in _compiled(SENTENCE).split(text)]
        return repeated([words for words in said if len(words) > self.ngram], 1)


@lru_cache(maxsize=8)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when it is needed: listing plugins does without."""
    return re.compile(pattern)


def repeated(units: Sequence[Any], length: int) -> float:
    """Share of the sequences of ``length`` units that are not the first of their kind; 0 where there is none.

    >>> repeated("a b a b a b".split(), 2)
    0.6
    """
    total = len(units) - length + 1
    if total < 1:
        return 0.0
    return 1 - len(set(zip(*(units[start:] for start in range(length)), strict=False))) / total


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Repetition]
