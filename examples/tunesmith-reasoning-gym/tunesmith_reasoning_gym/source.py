"""Rows made by reasoning-gym."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from tunesmith import ConfigError, ResourceError, Row, Source
from tunesmith_reasoning_gym import library

REVISION = 1
TEST_SHARE = 0.2
CHUNK = 1000
"""Items of one data set of the library; its item i follows from its seed plus i."""
IN_VAIN = 1000
"""Items in a row that give nothing new, after which there is taken to be nothing more."""
INSTRUCTION = "Write the final answer alone between <answer> and </answer>, in the form that the question asks for."


class ReasoningGym(Source):
    """Generated tasks of reasoning-gym, one or several; the reward of the same name judges answers to them.

    Rows have prompt, answer and completion (where the library knows a right answer), task, and what the verifier
    needs. Whether a question is in train or test follows from the question alone: they never share one.
    """

    name: ClassVar[str] = "reasoning-gym"
    needs: ClassVar[tuple[str, ...]] = ("reasoning_gym",)

    task: tuple[str, ...] = Field(min_length=1)
    """One or more tasks, such as chain_sum, or all; `python -m tunesmith_reasoning_gym` lists them."""
    size: int = Field(default=500, ge=1, validation_alias=AliasChoices("size", "num_rows", "rows"))
    """How many rows; fewer are a prefix of more."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task; where there are several tasks, settings by task."""
    weights: dict[str, float] = Field(default_factory=dict)
    """How often each of several tasks comes, relative to the others; 1 where it is not named."""
    split: Literal["train", "test"] = "train"
    """Which part of all questions to draw from: four fifths are for train, the rest for test."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawing."""
    instruction: str = INSTRUCTION
    """What follows every question; the reward looks for the answer between these tags."""
    chat: bool = False
    """Write prompt and completion as messages, so that the model's chat template is applied."""

    @field_validator("task", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _belong_together(self) -> ReasoningGym:
        if len(set(self.task)) < len(self.task):
            raise ValueError("task names one twice")
        if self.task != ("all",):
            strangers = set(self.weights) - set(self.task)
            strangers |= set(self.config) - set(self.task) if len(self.task) > 1 else set()
            if strangers:
                raise ValueError(f"weights or config name {', '.join(sorted(strangers))}, which task does not")
        if any(not 0 < weight < float("inf") for weight in self.weights.values()):
            raise ValueError("weights should be above 0")
        return self

    def tasks(self) -> list[str]:
        """The tasks by name."""
        return library.task_names() if self.task == ("all",) else list(self.task)

    def config_of(self, task: str) -> dict[str, Any]:
        """The settings of one task."""
        return dict(self.config if len(self.tasks()) == 1 else self.config.get(task, {}))

    def rows(self) -> Iterator[Row]:
        """Yield the rows. Raises `ConfigError` for an unknown task, wrong settings, or where there are no more."""
        unstable = library.UNSTABLE & set(self.tasks())
        here = not unstable or os.environ.get("PYTHONHASHSEED") == "0"
        for number, record in enumerate(self.records() if here else self._elsewhere(), start=1):
            yield Row(record, self.label(), number)

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows as plain dictionaries, made in this process."""
        tasks = self.tasks()
        items = {task: self._items(task) for task in tasks}
        rng = random.Random(f"{self.seed}/{self.split}/{','.join(tasks)}")
        shares = [self.weights.get(task, 1.0) for task in tasks]
        for _ in range(self.size):
            yield next(items[rng.choices(tasks, shares)[0]])

    def _items(self, task: str) -> Iterator[dict[str, Any]]:
        """Different questions of one task in this part, without end."""
        config = self.config_of(task)
        seen: set[bytes] = set()
        index = in_vain = 0
        while True:
            if index % CHUNK == 0:
                data = library.dataset(task, config, self.seed + index, CHUNK)
            with library.quiet():
                entry = data[index % CHUNK]
            index += 1
            digest = hashlib.sha256(f"{task}\n{entry['question']}".encode()).digest()
            in_test = int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32
            if digest in seen or in_test != (self.split == "test"):
                in_vain += 1
                if in_vain > IN_VAIN:
                    raise ConfigError(
                        f"{task}: with these settings {self.split} has about {len(seen):,} different questions",
                        fix="lower size, or choose harder settings in config",
                    )
                continue
            in_vain = 0
            seen.add(digest)
            yield self._record(task, config, data, entry)

    def _record(self, task: str, config: dict[str, Any], data: Any, entry: dict[str, Any]) -> dict[str, Any]:
        question = f"{entry['question'].strip()}\n\n{self.instruction}".strip()
        answer = library.gold(data, entry)
        record = {"prompt": f"{question}\n", "task": task, "answer": answer}
        if answer is not None:
            record["completion"] = f"<answer>{answer}</answer>"
        if self.chat:
            record["prompt"] = [{"role": "user", "content": question}]
            if answer is not None:
                record["completion"] = [{"role": "assistant", "content": record["completion"]}]
        # JSON and back, so that rows are the same whether they were made here or in another process
        known = {"task": task, "config": config, "entry": library.packed(entry)}
        return {**record, library.COLUMN: json.loads(json.dumps(known))}

    def _elsewhere(self) -> Iterator[dict[str, Any]]:
        """The rows, made in a process in which sets have the same order every time."""
        child = subprocess.Popen(
            [sys.executable, "-m", "tunesmith_reasoning_gym", "--rows"],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert child.stdin and child.stdout
        try:
            child.stdin.write(self.model_dump_json())
            child.stdin.close()
            for line in child.stdout:
                found = json.loads(line)
                if "error" in found:
                    raise ConfigError(found["error"])
                yield found["row"]
            if child.wait():
                raise ResourceError(f"the process that makes rows of reasoning-gym ended with code {child.returncode}")
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def fingerprint(self) -> str:
        """A hash of the settings and of the library's version, from which the rows follow."""
        settings = self.model_dump_json()
        return hashlib.sha256(f"{REVISION} {version('reasoning-gym')} {settings}".encode()).hexdigest()

    def label(self) -> str:
        """The task where there is one only, and the split where it is not train."""
        name = self.task[0] if len(self.task) == 1 and self.task != ("all",) else self.name
        return name if self.split == "train" else f"{name}-{self.split}"
