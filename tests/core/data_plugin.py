"""Sources, formats and methods for the tests of the data pipeline, which must work without any built-in."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tunesmith
from tunesmith import (
    AnyObjective,
    BadField,
    Card,
    Completion,
    Conversation,
    DataFormat,
    DataSpec,
    Demonstration,
    Example,
    Loss,
    Objective,
    OfflineMethod,
    Row,
    Source,
    Text,
    TokenLogps,
)

CARD = Card(paper="-", use_when="-", data="-", memory="-")


class Lines(Source):
    """JSON lines."""

    name: ClassVar[str] = "toy-lines"
    path: Path
    """The file."""
    known: bool = True
    """False: the content has no fingerprint."""
    stream: bool = False
    """Read while training."""

    @classmethod
    def claims(cls, word):
        return {"path": word} if word.endswith(".jsonl") else None

    def rows(self):
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            if line == "UNREADABLE":
                raise tunesmith.DataError("the disk is on fire", where=f"{self.path}, line {number}")
            try:
                yield Row(json.loads(line), str(self.path), number)
            except json.JSONDecodeError as error:
                yield Row({}, str(self.path), number, problem=f"not valid JSON: {error.msg}")

    def fingerprint(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.known else None

    @property
    def streams(self):
        return self.stream

    def label(self):
        return self.path.stem


class Documents(DataFormat):
    """A document."""

    name: ClassVar[str] = "toy-text"
    produces: ClassVar[type[Text]] = Text
    columns: ClassVar[tuple[str, ...]] = ("text",)

    def __call__(self, row):
        if row["text"] == "SKIP":
            return None
        if not isinstance(row["text"], str):
            raise BadField("text", "is not text")
        return Text(row["text"])


class Chats(DataFormat):
    """A chat."""

    name: ClassVar[str] = "toy-chat"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("messages",)

    def __call__(self, row):
        if row.get("messages") is None:
            raise BadField("messages", "is null")
        return Conversation(row["messages"], row.get("tools"))


class Questions(DataFormat):
    """A question and its answer."""

    name: ClassVar[str] = "toy-qa"
    produces: ClassVar[type[Completion]] = Completion
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")

    def __call__(self, row):
        return Completion(row["question"] + "", row["answer"])


@dataclass(frozen=True)
class Numbers(Example):
    """Token ids as they are, none of them trained on when `mute`."""

    ids: Sequence[int]
    mute: bool = False

    def encode(self, encoder):
        import numpy as np

        from tunesmith.data.trees import Branch, Tree

        ids = np.array(self.ids, dtype=np.int32)
        return Tree(ids[:1], (Branch(ids[1:], np.full(len(ids) - 1, not self.mute)),))


class Ids(DataFormat):
    """Token ids."""

    name: ClassVar[str] = "toy-ids"
    produces: ClassVar[type[Numbers]] = Numbers
    columns: ClassVar[tuple[str, ...]] = ("ids",)

    def __call__(self, row):
        return Numbers(row["ids"], row.get("mute", False))


class Zero(Objective):
    """Nothing."""

    name: ClassVar[str] = "toy-zero"
    inputs: ClassVar[type] = TokenLogps

    def __call__(self, x: Any) -> Loss:
        return Loss(x.logps.sum() * 0)


class Toy(OfflineMethod):
    """Takes anything."""

    name: ClassVar[str] = "toy-any"
    consumes: ClassVar[type] = Example
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = CARD
    objective: AnyObjective = "toy-zero"
    train_on: str = "all"
    """Assistant turns to train on."""
    forbidden: str | None = None
    """A word that no document may hold."""
    general: tuple[DataSpec, ...] = ()
    """More rows."""

    def encoder_options(self):
        return {"train_on": self.train_on}

    def data_groups(self):
        return {"general": self.general} if self.general else {}

    def check(self, example, tree):
        text = getattr(example, "text", "")
        return f"it says {self.forbidden}" if self.forbidden and self.forbidden in text else None


class Reader(Toy):
    """Takes documents; splits long ones."""

    name: ClassVar[str] = "toy-reader"
    consumes: ClassVar[type] = Text
    defaults: ClassVar[dict[str, Any]] = {"overlong": "split"}


class Tutor(Toy):
    """Takes demonstrations."""

    name: ClassVar[str] = "toy-tutor"
    consumes: ClassVar[type] = Demonstration


@tunesmith.hookimpl
def tunesmith_register_sources():
    return [Lines]


@tunesmith.hookimpl
def tunesmith_register_data_formats():
    return [Documents, Chats, Questions, Ids]


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [Zero]


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [Toy, Reader, Tutor]
