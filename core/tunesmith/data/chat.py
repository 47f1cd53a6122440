"""Rendering conversations by a tokenizer's chat template, and which characters of them an assistant wrote.

The characters come from the template itself: from its ``{% generation %}`` marks, or from rendering the turns before
and up to the assistant's. The text is never searched for markers, which users may have written too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.examples import Message

TrainOn = Literal["all", "last"]
ROLES = ("system", "developer", "user", "assistant", "tool")
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which chat templates expect what was thought before the answer."""
MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Turn:
    """Characters that an assistant wrote in a rendered conversation, ``start`` to ``end``; ``number`` is 1-based."""

    number: int
    start: int
    end: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"turn {self.number} (assistant)"


def checked_text(text: Any, what: str, *, blank: bool = False) -> str:
    """The text, once it is known to be one that a tokenizer takes. Raises `ValueError`; ``blank``: it may be blank."""
    if not isinstance(text, str):
        raise ValueError(f"the {what} is {type(text).__name__}, not text")
    if not blank and not text.strip():
        raise ValueError(f"the {what} is blank" if text else f"the {what} is empty")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(text[error.start]):04x}"
            raise ValueError(
                f"the {what} holds half a surrogate pair ({half}) at character {error.start + 1:,}"
            ) from None
    return text


def checked_messages(messages: Any, *, answered: bool = True) -> list[dict[str, Any]]:
    """Messages as templates take them: text parts joined, nulls left out.

    Args:
        messages: of a chat.
        answered: the assistant speaks in them; otherwise they end before its turn.

    Raises:
        ValueError: no messages, none (or a last one) of the assistant, an unknown role, or content that is neither
            text nor text parts.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise ValueError("messages must be a list")
    if not messages:
        raise ValueError("there are no messages")
    turns = [_checked(message, number) for number, message in enumerate(messages, start=1)]
    if not answered:
        if turns[-1]["role"] == "assistant":
            raise ValueError("the last message is the assistant's already, so there is nothing to answer")
        return turns
    if all(turn["role"] != "assistant" for turn in turns):
        raise ValueError(f"there is no assistant turn among the {len(turns)} messages")
    return turns


def _checked(message: Any, number: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ValueError(f"turn {number} is not an object with role and content")
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"turn {number} has the role {role!r}; roles are {', '.join(ROLES)}")
    turn = {key: value for key, value in message.items() if value is not None}
    if "content" in turn or not turn.get("tool_calls"):
        turn["content"] = _text(turn.get("content"), f"turn {number} ({role})")
    return turn


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"{where} has no text: its content is {type(content).__name__}, not text or text parts")
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"{where} has a content part that is not text: only {{type: text, text: ...}} can be used")
    return "".join(part["text"] for part in content)


def trained_turns(messages: Sequence[Message], train_on: TrainOn) -> list[int]:
    """0-based positions of the assistant turns to train on: all or the last one, but for those of weight 0.

    Raises `ValueError` when none is left, or when one of them says nothing.
    """
    turns = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
    turns = [i for i in (turns if train_on == "all" else turns[-1:]) if messages[i].get("weight") != 0]
    if not turns:
        raise ValueError("every assistant turn that could be trained on has the weight 0")
    for i in turns:
        says = any(messages[i].get(key) for key in ("tool_calls", *REASONING))
        if not says and not messages[i]["content"].strip():
            raise ValueError(f"turn {i + 1} (assistant) is empty")
    return turns


class ChatTemplate:
    """The chat template of a tokenizer. Raises `ConfigError` on use when the tokenizer has none."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def source(self, tools: Any = None) -> str:
        """The template's text; some tokenizers have one of their own for conversations with tools."""
        if not self.tokenizer.chat_template:
            raise ConfigError(
                "the tokenizer has no chat template, and the rows are conversations",
                why="base models come without one",
                fix="add --chat-template tulu (works with any tokenizer), or give a .jinja file",
            )
        text: str = self.tokenizer.get_chat_template(None, tools)
        return text

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Any = None, *, open_turn: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and the spans of it that ``{% generation %}`` marks (none where the template has no marks).

        Args:
            messages: as `checked_messages` returns them.
            tools: JSON schemas.
            open_turn: end with what opens the assistant's next turn.

        Raises:
            ValueError: the template refuses the messages.
        """
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self.source(tools)
        clean = [{key: value for key, value in turn.items() if key != "weight"} for turn in messages]
        try:
            texts, marks = render_jinja_template(
                conversations=[clean],
                tools=tools,
                chat_template=template,
                return_assistant_tokens_mask=MARKS.search(template) is not None,
                add_generation_prompt=open_turn,
                **self.tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"the chat template refuses the messages: {' '.join(str(error).split())}") from None
        return texts[0], (marks[0] if marks else [])

    def turns(self, messages: Sequence[Mapping[str, Any]], tools: Any, train_on: TrainOn) -> tuple[str, list[Turn]]:
        """The rendered conversation and the assistant turns to train on, in order.

        Raises:
            ValueError: naming the turn, when the template leaves something out or does not tell turns apart.
        """
        wanted = trained_turns(messages, train_on)
        self.check_shown(messages, tools)
        text, marks = self.render(messages, tools)
        if MARKS.search(self.source(tools)):
            spans = self._marked(messages, tools, wanted, marks)
        else:
            spans = self._by_prefixes(messages, tools, wanted, text)
        for span in spans:
            if span.start == span.end:
                raise ValueError(f"{span.name}: the chat template writes nothing for it")
        return text, spans

    def check_shown(self, messages: Sequence[Mapping[str, Any]], tools: Any) -> None:
        """Raises `ValueError` where the template would drop a field without a word: it never mentions it."""
        template = self.source(tools)
        for words, given in (
            (("tools",), bool(tools)),
            (("tool_calls",), any(turn.get("tool_calls") for turn in messages)),
            (REASONING, any(turn.get(key) for turn in messages for key in REASONING)),
        ):
            if given and not any(word in template for word in words):
                raise ValueError(f"the messages come with {words[0]}, which the chat template leaves out")

    def _marked(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, wanted: Iterable[int], marks: list[tuple[int, int]]
    ) -> list[Turn]:
        """A turn's marks are those that the conversation has with it and not yet before it."""
        assistants = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
        if len(marks) == len(assistants):
            owner = dict(zip(assistants, marks, strict=True))
            return [Turn(i + 1, *owner[i]) for i in wanted]
        counts = {i: len(self.render(messages[:i], tools)[1]) if i else 0 for i in assistants}
        ends = [*(counts[i] for i in assistants[1:]), len(marks)]
        spans = []
        for i, end in zip(assistants, ends, strict=True):
            if i in wanted and counts[i] >= end:
                raise ValueError(f"turn {i + 1} (assistant): the chat template marks nothing in it as generated")
            spans += [Turn(i + 1, *mark) for mark in marks[counts[i] : end] if i in wanted]
        return spans

    def _by_prefixes(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, wanted: Sequence[int], text: str
    ) -> list[Turn]:
        last = max(i for i, turn in enumerate(messages) if turn["role"] == "assistant")
        spans = []
        for i in wanted:
            try:
                spans.append(self._prefix_span(messages, tools, i, text))
            except _Rewritten as error:
                hint = ""
                if i != last and self._stands(messages, tools, last, text):
                    hint = "; training on the last turn only (train_on=last) is possible"
                raise ValueError(f"turn {i + 1} (assistant): {error}{hint}") from None
        return spans

    def _stands(self, messages: Sequence[Mapping[str, Any]], tools: Any, i: int, text: str) -> bool:
        try:
            self._prefix_span(messages, tools, i, text)
        except ValueError:
            return False
        return True

    def _prefix_span(self, messages: Sequence[Mapping[str, Any]], tools: Any, i: int, text: str) -> Turn:
        try:
            before, _ = self.render(messages[:i], tools, open_turn=True)
        except ValueError:
            if i:
                raise
            raise ValueError("turn 1 (assistant): the chat template cannot open a conversation with it") from None
        after = text if i == len(messages) - 1 else self.render(messages[: i + 1], tools)[0]
        if not text.startswith(after):
            raise _Rewritten("the chat template writes it differently once later turns follow")
        if not after.startswith(before):
            raise _Rewritten(f"the chat template opens it otherwise when it is to be generated, with {before[-30:]!r}")
        return Turn(i + 1, len(before), len(after))


class _Rewritten(ValueError):
    """What is rendered for a part of a conversation is not where the whole one begins."""
