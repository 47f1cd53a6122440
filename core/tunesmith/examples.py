"""Typed rows. A data format turns a row into one of these; an example turns itself into a token tree.

Third parties may subclass `Example`: a new shape brings its own ``encode``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.trees import Tree

Message = Mapping[str, Any]
"""A chat message: ``role`` (system, developer, user, assistant, tool), ``content``, perhaps ``tool_calls``.

``weight`` 0 marks an assistant message that is not trained on, as chat services write it.
"""
Passage = str | Sequence[Message]
"""A prompt or an answer: plain text, or the messages of a chat."""


class Example(ABC):
    """One typed training example."""

    @abstractmethod
    def encode(self, encoder: Encoder) -> Tree:
        """Tokenise into one tree. Raises `ValueError` with the reason when the example cannot be encoded."""


@dataclass(frozen=True, slots=True)
class Text(Example):
    """A document: every token is trained on, the end-of-text token included."""

    text: str

    def encode(self, encoder: Encoder) -> Tree:
        """The document with its end-of-text token."""
        return encoder.document(self.text)


class Demonstration(Example):
    """A prompt with the answer to imitate; only the answer is trained on."""


@dataclass(frozen=True, slots=True)
class Completion(Demonstration):
    """A plain-text prompt and its completion; the completion ends with the end-of-text token."""

    prompt: str
    completion: str

    def encode(self, encoder: Encoder) -> Tree:
        """The prompt as the trunk, the completion as its branch."""
        return encoder.completion(self.prompt, self.completion)


@dataclass(frozen=True, slots=True)
class Conversation(Demonstration):
    """A chat rendered by the tokenizer's template; assistant turns are trained on, but for those of weight 0."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None

    def encode(self, encoder: Encoder) -> Tree:
        """Everything before the first trained token as the trunk, the rest as its branch."""
        return encoder.conversation(self.messages, self.tools)


@dataclass(frozen=True, slots=True)
class Prompt(Example):
    """A prompt that the model is to answer, and what rewards need to judge the answer.

    Attributes:
        prompt: text, or messages that end before the assistant's turn.
        columns: the other columns of its row, as JSON can hold them.
    """

    prompt: Passage
    columns: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]] | None = None

    def encode(self, encoder: Encoder) -> Tree:
        """The prompt as the trunk, up to where the model goes on; no branch."""
        return encoder.prompt(self)


# ---------------------------------------------------------------------------------------------- judged answers
@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what is said of it.

    Attributes:
        name: what error messages call it.
        passage: text, or messages that begin and end with the assistant's.
        value: higher is better.
    """

    name: str
    passage: Passage
    value: float


class Judged(Example):
    """A prompt with answers that somebody judged; the prompt is the trunk and every answer is a branch.

    Prompt and answers are either all text or all messages. Text ends with the end-of-text token, an answer in messages
    with the token that ends the assistant's turn; every token that the assistant writes in an answer is trained on.
    """

    prompt: Passage
    tools: Sequence[Mapping[str, Any]] | None = None
    margin: float = 0.0

    @abstractmethod
    def answers(self) -> Sequence[Answer]:
        """The answers, in the order of the branches."""

    def encode(self, encoder: Encoder) -> Tree:
        """The prompt and a branch for every answer, which tell good and bad ones apart."""
        return encoder.judged(self)


class Comparison(Judged):
    """A prompt with two or more answers, of which some are better than others."""


@dataclass(frozen=True, slots=True)
class Preference(Comparison):
    """A prompt with a better and a worse answer; ``margin``: by how much the better one should win, 0 or more."""

    prompt: Passage
    chosen: Passage
    rejected: Passage
    margin: float = 0.0
    tools: Sequence[Mapping[str, Any]] | None = None

    def answers(self) -> Sequence[Answer]:
        """The chosen answer (1) and the rejected one (0)."""
        return Answer("chosen", self.chosen, 1.0), Answer("rejected", self.rejected, 0.0)


@dataclass(frozen=True, slots=True)
class Ranking(Comparison):
    """A prompt with two or more answers and their scores, of which equal ones are not compared."""

    prompt: Passage
    completions: Sequence[Passage]
    scores: Sequence[float]
    tools: Sequence[Mapping[str, Any]] | None = None

    def answers(self) -> Sequence[Answer]:
        """The completions with their scores. Raises `ValueError` where there are not as many of both."""
        if len(self.completions) != len(self.scores):
            raise ValueError(f"there are {len(self.completions)} completions and {len(self.scores)} scores")
        pairs = enumerate(zip(self.completions, self.scores, strict=True))
        return [Answer(f"completions[{i}]", passage, float(score)) for i, (passage, score) in pairs]


@dataclass(frozen=True, slots=True)
class Unpaired(Judged):
    """A prompt with one answer that is good (True) or bad."""

    prompt: Passage
    completion: Passage
    label: bool
    tools: Sequence[Mapping[str, Any]] | None = None

    def answers(self) -> Sequence[Answer]:
        """The completion: 1 for good, 0 for bad."""
        return (Answer("completion", self.completion, float(self.label)),)
