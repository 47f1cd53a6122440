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
