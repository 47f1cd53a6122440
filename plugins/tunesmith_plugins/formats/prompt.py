"""Prompts that a model is to answer, with what rewards need to judge its answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar

from tunesmith import BadField, Completion, Conversation, Conversion, Converter, DataFormat, Prompt
from tunesmith_plugins.formats import fields, judged

GOLD = "completion"
"""Column of the answer that a row held before it became a prompt."""
DEPTH = 50


class FromCompletions(Converter):
    """A question; its answer is kept as the column completion."""

    takes: ClassVar[type[Completion]] = Completion

    def __call__(self, examples: Iterable[tuple[int, Completion]]) -> Iterator[Conversion]:
        """Both texts as they are."""
        for number, one in examples:
            yield Conversion((number,), (Prompt(one.prompt, {GOLD: one.completion}),))


class FromConversations(Converter):
    """A chat up to the assistant's last answer, which is kept as the column completion."""

    takes: ClassVar[type[Conversation]] = Conversation

    def __call__(self, examples: Iterable[tuple[int, Conversation]]) -> Iterator[Conversion]:
        """The answer is all that follows the last message that somebody else wrote; calls of tools belong to it."""
        for number, one in examples:
            turns = [{key: value for key, value in turn.items() if key != "weight"} for turn in one.messages]
            size = len(turns)
            while size and turns[size - 1]["role"] in ("assistant", "tool"):
                size -= 1
            if not size:
                yield Conversion((number,), (), "chats begin with the assistant, so there is no prompt")
                continue
            columns = {GOLD: turns[size:]} if size < len(turns) else {}
            yield Conversion((number,), (Prompt(turns[:size], columns, one.tools),))


class PromptFormat(DataFormat):
    """A prompt to answer, text or messages; every other column is kept for rewards."""

    name: ClassVar[str] = "prompt"
    produces: ClassVar[type[Prompt]] = Prompt
    priority: ClassVar[int] = -1
    columns: ClassVar[tuple[str, ...]] = ("prompt",)
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)
    converters: ClassVar[tuple[type[Converter], ...]] = (FromCompletions, FromConversations)
    keep: tuple[str, ...] | None = None
    """Names of the columns to keep for rewards; all of them when not given."""

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A prompt in text, and one in messages, with what a reward would compare answers with."""
        kept = dict.fromkeys(self.keep if self.keep is not None else ("answer",), "4")
        tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
        asked = [{"role": "user", "content": "2 + 2?"}]
        return [{"prompt": "2 + 2 = ", **kept}, {"prompt": asked, "tools": [tool], **kept}]

    def __call__(self, row: Mapping[str, Any]) -> Prompt:
        """The prompt, checked, with the other columns; these must be what JSON can hold."""
        asked = judged.passage(fields.required(row, "prompt"), "prompt")
        return Prompt(_open(asked, "prompt"), _kept(row, "prompt", self.keep), fields.tools(row))

    def to_row(self, example: Prompt) -> Mapping[str, Any]:
        """The prompt beside its columns."""
        return judged.with_tools({"prompt": example.prompt, **example.columns}, example.tools)


class PromptMessages(DataFormat):
    """A chat in messages that waits for the assistant's turn; every other column is kept for rewards."""

    name: ClassVar[str] = "prompt-messages"
    produces: ClassVar[type[Prompt]] = Prompt
    priority: ClassVar[int] = -1
    columns: ClassVar[tuple[str, ...]] = ("messages",)
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)
    keep: tuple[str, ...] | None = None
    """Names of the columns to keep for rewards; all of them when not given."""

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """The last message is the user's, or what a tool said."""
        turns = row.get("messages")
        last = turns[-1] if turns and fields.is_list(turns) else None
        return isinstance(last, Mapping) and last.get("role") in ("user", "tool")

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A question, and one after an answer, with what a reward would compare answers with."""
        kept = dict.fromkeys(self.keep if self.keep is not None else ("answer",), "4")
        asked = {"role": "user", "content": "2 + 2?"}
        before = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
        return [{"messages": [asked], **kept}, {"messages": [*before, asked], **kept}]

    def __call__(self, row: Mapping[str, Any]) -> Prompt:
        """The messages, checked one by one, with the other columns; these must be what JSON can hold."""
        asked = _open(fields.messages(row, "messages"), "messages")
        return Prompt(asked, _kept(row, "messages", self.keep), fields.tools(row))


def _open(asked: str | Sequence[Mapping[str, Any]], where: str) -> str | Sequence[Mapping[str, Any]]:
    """The prompt, once it is known not to end with an answer."""
    if not isinstance(asked, str) and asked[-1]["role"] == "assistant":
        place = f"{where}[{len(asked) - 1}].role"
        raise BadField(place, "is 'assistant'; a prompt ends before the assistant's turn")
    return asked


def _kept(row: Mapping[str, Any], prompt: str, keep: tuple[str, ...] | None) -> dict[str, Any]:
    for column in keep or ():
        fields.required(row, column)
    names = [column for column in row if column not in (prompt, "tools") and (keep is None or column in keep)]
    return {str(name): _as_json(row[name], str(name)) for name in names}


def _as_json(value: Any, where: str, depth: int = 0) -> Any:
    """The value as JSON has it: tuples become lists."""
    if depth > DEPTH:
        raise BadField(where, f"is nested more than {DEPTH} deep")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, str):
        return fields.as_text(value, where, empty=True)
    if fields.is_list(value):
        return [_as_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_json(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    found = str(value) if isinstance(value, float) else fields.describe(value)
    raise BadField(where, f"is {found}, which JSON cannot hold; `keep` names the columns that rewards need")
