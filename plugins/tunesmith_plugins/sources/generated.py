"""What generated tasks have in common: a number of rows, a seed, and two parts that share no task."""

from __future__ import annotations

import hashlib
import json
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field

from tunesmith import ConfigError, Row, Source

TEST_SHARE = 0.2
IN_VAIN = 3000
"""Drawings in a row that give nothing new, after which there is taken to be nothing more."""
ATTEMPTS = 100
"""Attempts at one drawing."""
ANSWER = "Answer:"
"""What stands before an answer, so that rewards find it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One generated task.

    Attributes:
        key: what makes it the task that it is. Two tasks of one key are never in different parts.
        prompt: the task in words, with how to write the answer.
        work: what may be said before the answer.
        answer: one right answer.
        columns: what a reward needs beside it.
    """

    key: Any
    prompt: str
    answer: str
    work: str = field(default="", kw_only=True)
    completion: str = field(default="", kw_only=True)
    columns: Mapping[str, Any] = field(default_factory=dict, kw_only=True)


class GeneratedTasks(Source):
    """Base of sources that make tasks up: rows follow from the settings alone, and no task comes twice.

    Which part a task belongs to follows from the task alone, so train and test share none whatever the other settings
    are.
    """

    revision: ClassVar[int] = 1
    """Grows when the same settings give other rows."""

    num_rows: int = Field(default=1000, ge=1, validation_alias=AliasChoices("num_rows", "rows"))
    """How many tasks; also written ``rows``. Fewer rows are a prefix of more."""
    split: Literal["train", "test"] = "train"
    """Which part of all tasks to draw from: four fifths are for train, the rest for test."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawing."""
    chat: bool = False
    """Write prompt and completion as messages, so that the model's chat template is applied."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A few tasks."""
        return {"num_rows": 20}

    @abstractmethod
    def draw(self, rng: random.Random) -> Task | None:
        """A random task, or ``None`` where this attempt gave none."""

    def rows(self) -> Iterator[Row]:
        """Yield the tasks. Raises `ConfigError` when the settings allow no more of them."""
        rng = random.Random(self._settings())
        seen: set[bytes] = set()
        in_vain = 0
        while len(seen) < self.num_rows:
            task = next((task for task in (self.draw(rng) for _ in range(ATTEMPTS)) if task is not None), None)
            digest = b"" if task is None else _digest([self.name, task.key])
            if task is None or digest in seen or in_test(digest) != (self.split == "test"):
                in_vain += 1
                self._check(in_vain, len(seen))
                continue
            in_vain = 0
            seen.add(digest)
            answered = f"{task.work}\n{ANSWER} {task.answer}" if task.work else f"{ANSWER} {task.answer}"
            completion = task.completion or answered
            data = {"prompt": task.prompt, "completion": completion, "answer": task.answer, **task.columns}
            yield Row(as_messages(data) if self.chat else data, self.label(), len(seen))

    def _check(self, in_vain: int, found: int) -> None:
        if in_vain > IN_VAIN:
            raise ConfigError(
                f"{self.name}: with these settings {self.split} has about {found:,} different tasks, "
                f"not {self.num_rows:,}",
                fix="lower num_rows, or make the tasks harder",
            )

    def _settings(self) -> str:
        """All settings that rows follow from, apart from how many there are."""
        own = self.model_dump(mode="json", exclude={"num_rows", "chat"})
        return json.dumps([self.name, self.revision, own], sort_keys=True)

    def fingerprint(self) -> str:
        """A hash of the settings, from which the rows follow."""
        return hashlib.sha256(f"{self._settings()} {self.num_rows} {self.chat}".encode()).hexdigest()

    def label(self) -> str:
        """The name, and the split where it is not train."""
        return self.name if self.split == "train" else f"{self.name}-{self.split}"


def _digest(key: Any) -> bytes:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()[:16]


def in_test(digest: bytes) -> bool:
    """True for a fifth of all keys."""
    return int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32


def as_messages(data: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its prompt as the user's message and its completion as the assistant's."""
    return {
        **data,
        "prompt": [{"role": "user", "content": data["prompt"].strip()}],
        "completion": [{"role": "assistant", "content": data["completion"]}],
    }


def listed(names: list[str], word: str = "and") -> str:
    """Names as a sentence has them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
