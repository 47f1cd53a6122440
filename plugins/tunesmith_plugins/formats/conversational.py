"""Prompts with the answer to imitate, as chat messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import BadField, Conversation, DataFormat
from tunesmith_plugins.formats import fields, judged


class ConversationalPromptCompletion(DataFormat):
    """Messages in prompt and completion, joined into one chat; only the completion's assistant turns are trained on."""

    name: ClassVar[str] = "conversational-prompt-completion"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion")
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """Both columns are there, one or both are lists (of messages), and no label calls answers bad."""
        if not super().matches(row) or judged.is_label(row.get("label")):
            return False
        return any(fields.is_list(row[column]) for column in cls.columns)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A chat of two turns, and one of four with a tool."""
        asked, answer = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}
        tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
        return [
            {"prompt": [asked], "completion": [answer]},
            {"prompt": [asked, answer, asked], "completion": [answer], "tools": [tool]},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The prompt's own assistant turns get the weight 0."""
        prompt, completion = fields.messages(row, "prompt"), fields.messages(row, "completion")
        if completion[0]["role"] != "assistant":
            raise BadField("completion[0].role", f"is {completion[0]['role']!r}; a completion begins with 'assistant'")
        context = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in prompt]
        return Conversation([*context, *completion], fields.tools(row))
