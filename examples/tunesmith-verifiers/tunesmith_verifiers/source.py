"""Rows out of an environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field
from tunesmith import ConfigError, Row, Source

from tunesmith_verifiers import library

PREFIX = "verifiers:"


class VerifiersTasks(Source):
    """The tasks of an installed environment of verifiers, as chats that wait for an answer; one turn, no tools.

    The reward `verifiers` judges answers to them. The word verifiers:NAME is enough where no argument is needed.
    """

    name: ClassVar[str] = "verifiers"
    needs: ClassVar[tuple[str, ...]] = ("verifiers",)

    environment: str = Field(min_length=1)
    """Name of the environment: that of the module that it is installed as."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the environment is loaded with."""
    size: int | None = Field(default=None, ge=1)
    """How many tasks; by default all. Environments without an end need it."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """``verifiers:NAME``."""
        return {"environment": word.removeprefix(PREFIX)} if word.startswith(PREFIX) else None

    def rows(self) -> Iterator[Row]:
        """Yield the tasks. Raises `ConfigError` for an environment that is not there, or that is not of one turn."""
        found = library.load(self.environment, self.arguments)
        number = 0
        for number, task in enumerate(islice(found.tasks(), self.size), start=1):
            known = {"environment": self.environment, "arguments": self.arguments, "task": dict(task.data)}
            answer = {} if task.answer is None else {"answer": task.answer}
            record = {"prompt": task.prompt, **answer, library.COLUMN: known}
            # JSON and back, so that rows are what a file of them would hold
            yield Row(json.loads(json.dumps(record)), self.label(), number)
        if not number:
            raise ConfigError(f"the verifiers environment {self.environment!r} has no tasks")

    def label(self) -> str:
        """The environment's name."""
        return self.environment
