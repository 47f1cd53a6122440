"""Put things in order."""

from __future__ import annotations

import random
from typing import ClassVar, Literal

from pydantic import Field

from tunesmith_plugins.sources.generated import GeneratedTasks, Task

CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
FIRST = {"numbers": "from the smallest to the largest", "words": "in alphabetical order"}
LAST = {"numbers": "from the largest to the smallest", "words": "in reverse alphabetical order"}


class Sorting(GeneratedTasks):
    """Numbers or made-up words to put in order; the reward `exact-match` with extract: final checks the list."""

    name: ClassVar[str] = "sorting"

    of: Literal["numbers", "words", "both"] = "both"
    """What is sorted; of both, each task has one."""
    items: int = Field(default=6, ge=2, le=200)
    """How many."""
    digits: int = Field(default=3, ge=1, le=12)
    """Digits of the numbers, at most."""
    syllables: int = Field(default=3, ge=1, le=6)
    """Syllables of the words, at most; with few of them, words have the same beginnings."""
    order: Literal["ascending", "descending", "both"] = "both"
    """Which order is asked for; of both, each task asks for one."""

    def draw(self, rng: random.Random) -> Task:
        """Items in random order; a number or word may come twice."""
        kind = rng.choice(["numbers", "words"]) if self.of == "both" else self.of
        order = rng.choice(["ascending", "descending"]) if self.order == "both" else self.order
        if kind == "numbers":
            values = [rng.randrange(10 ** rng.randint(1, self.digits)) for _ in range(self.items)]
            items, ordered = list(map(str, values)), list(map(str, sorted(values)))
        else:
            items = [self._word(rng) for _ in range(self.items)]
            ordered = sorted(items)
        answer = ", ".join(ordered if order == "ascending" else reversed(ordered))
        prompt = (
            f"Sort these {kind} {(FIRST if order == 'ascending' else LAST)[kind]}: {', '.join(items)}\n"
            f"End with a line that starts with 'Answer:' followed by the sorted {kind}, separated by commas.\n"
        )
        return Task(sorted(items), prompt, answer)

    def _word(self, rng: random.Random) -> str:
        syllables = range(rng.randint(1, self.syllables))
        return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in syllables) + rng.choice("nrst")
