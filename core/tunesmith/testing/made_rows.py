"""Rows of every kind of example, made up for checks; and the source and format that hand examples over as they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunesmith.components import DataFormat, DataSpec, Row, Source
from tunesmith.examples import (
    Completion,
    Conversation,
    Example,
    Message,
    Passage,
    Preference,
    Prompt,
    Ranking,
    Text,
    Unpaired,
)

GOOD, BAD = ("Yes, gladly. ", "Of course. ", "Here it is. "), ("No. ", "Never, go away. ", "I refuse. ")


def turn(role: str, text: str) -> list[Message]:
    """A chat of one message."""
    return [{"role": role, "content": text}]


def _asked(number: int, chance: random.Random) -> str:
    return f"Question {number}? " + "Please. " * chance.randrange(3)


def _answer(words: Sequence[str], number: int, chance: random.Random) -> str:
    return chance.choice(words) * chance.randrange(1, 3) + f"{number}."


def _passages(number: int, prompt: str, *answers: str) -> tuple[Passage, list[Passage]]:
    """Messages and plain text in turns."""
    if number % 2:
        return prompt, list(answers)
    return turn("user", prompt), [turn("assistant", answer) for answer in answers]


def _text(number: int, chance: random.Random) -> Example:
    return Text(f"{number}: " + _answer(GOOD, number, chance) + _asked(number, chance))


def _completion(number: int, chance: random.Random) -> Example:
    return Completion(_asked(number, chance), _answer(GOOD, number, chance))


def _conversation(number: int, chance: random.Random) -> Example:
    first = turn("user", _asked(number, chance)) + turn("assistant", _answer(GOOD, number, chance))
    more = turn("user", "And now? ") + turn("assistant", _answer(GOOD, number, chance))
    return Conversation(first + (more if number % 4 == 0 else []))


def _prompt(number: int, chance: random.Random) -> Example:
    asked = _asked(number, chance)
    return Prompt(asked if number % 2 else turn("user", asked), {"number": number})


def _preference(number: int, chance: random.Random) -> Example:
    answers = _answer(GOOD, number, chance), _answer(BAD, number, chance)
    prompt, (chosen, rejected) = _passages(number, _asked(number, chance), *answers)
    return Preference(prompt, chosen, rejected)


def _ranking(number: int, chance: random.Random) -> Example:
    answers = _answer(GOOD, number, chance), "Perhaps. ", _answer(BAD, number, chance)
    prompt, passages = _passages(number, _asked(number, chance), *answers)
    return Ranking(prompt, passages, [2.0, 1.0, 0.0])


def _unpaired(number: int, chance: random.Random) -> Example:
    good = number // 2 % 2 == 0
    prompt, (answer,) = _passages(number, _asked(number, chance), _answer(GOOD if good else BAD, number, chance))
    return Unpaired(prompt, answer, good)


MAKERS: Mapping[type[Example], Callable[[int, random.Random], Example]] = {
    Text: _text,
    Completion: _completion,
    Conversation: _conversation,
    Prompt: _prompt,
    Preference: _preference,
    Ranking: _ranking,
    Unpaired: _unpaired,
}


def made_examples(kind: type[Example], count: int, seed: int = 0) -> list[Example]:
    """So many examples of a kind, of all its kinds in turns; none where the kind is somebody's own.

    Half of those that are good or bad are good, and the same number of rows gives the same rows.
    """
    fitting = [make for cls, make in MAKERS.items() if issubclass(cls, kind)]
    chance = random.Random(seed)
    return [fitting[number % len(fitting)](number, chance) for number in range(count)] if fitting else []


class MadeSource(Source):
    """Numbers of rows that were made for a check."""

    name: ClassVar[str] = "made-rows"
    count: int
    """How many."""

    def rows(self) -> Iterator[Row]:
        """One row a number."""
        return (Row({"number": number}, self.name, number + 1) for number in range(self.count))


class MadeFormat(DataFormat):
    """The example that stands for a number."""

    name: ClassVar[str] = "made-rows"
    produces: ClassVar[type[Example]] = Text
    columns: ClassVar[tuple[str, ...]] = ("number",)
    _examples: Sequence[Example] = PrivateAttr(default=())

    def __call__(self, row: Mapping[str, Any]) -> Example:
        """The example."""
        number: int = row["number"]
        return self._examples[number]


def handed_over(examples: Sequence[Example], kind: type[Example]) -> DataSpec:
    """Examples as a source of training rows."""
    cls: type[MadeFormat] = type("MadeFormat", (MadeFormat,), {"produces": kind, "__module__": __name__})
    made = cls()
    made._examples = examples
    return DataSpec(source=MadeSource(count=len(examples)), format=made, label="made")
