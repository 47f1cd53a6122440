"""Conversations as chat services write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import Completion, Conversation, Conversion, Converter, DataFormat
from tunesmith_plugins.formats import fields, judged


class FromCompletions(Converter):
    """A question and its answer as a chat of two turns."""

    takes: ClassVar[type[Completion]] = Completion

    def __call__(self, examples: Iterable[tuple[int, Completion]]) -> Iterator[Conversion]:
        """Both texts as they are, white space included."""
        for number, one in examples:
            turns = (("user", one.prompt), ("assistant", one.completion))
            chat = Conversation([{"role": role, "content": content} for role, content in turns])
            yield Conversion((number,), (chat,))


class Messages(DataFormat):
    """A chat in messages (role, content, perhaps tool_calls), perhaps with tools; assistant turns are trained on."""

    name: ClassVar[str] = "messages"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("messages",)
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)
    converters: ClassVar[tuple[type[Converter], ...]] = (FromCompletions,)

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """The column is there, and it is no prompt that nobody has answered yet."""
        return super().matches(row) and not _unanswered(row["messages"])

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A chat, one with a tool, and one with a turn that is not trained on."""
        asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 2?"}]
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
        used = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "4"}]
        answer = {"role": "assistant", "content": "4."}
        tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
        parts = [{"type": "text", "text": "2 + 2?"}]
        weighed = [{"role": "user", "content": parts}, {**answer, "weight": 0}, *asked[1:], answer]
        return [
            {"messages": [*asked, answer]},
            {"messages": [*asked, *used, answer], "tools": [tool]},
            {"messages": weighed},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The messages, checked one by one, with the tools that they may call."""
        return Conversation(fields.messages(row, "messages"), fields.tools(row))

    def to_row(self, example: Conversation) -> Mapping[str, Any]:
        """The messages, and the tools where there are any."""
        return judged.with_tools({"messages": [dict(turn) for turn in example.messages]}, example.tools)


def _unanswered(turns: Any) -> bool:
    known = turns and fields.is_list(turns) and all(isinstance(turn, Mapping) for turn in turns)
    return bool(known) and all(turn.get("role") in ("system", "developer", "user") for turn in turns)
