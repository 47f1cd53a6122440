"""Conversations as chat services write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith import Conversation, DataFormat
from tunesmith_plugins.formats import fields


class Messages(DataFormat):
    """A chat in messages (role, content, perhaps tool_calls), perhaps with tools; assistant turns are trained on."""

    name: ClassVar[str] = "messages"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("messages",)
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The messages, checked one by one, with the tools that they may call."""
        return Conversation(fields.messages(row, "messages"), fields.tools(row))
