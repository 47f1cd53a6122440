"""Conversations as from and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import BadField, Conversation, DataFormat
from tunesmith_plugins.formats import fields

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
CALLS = ("function_call", "tool_call")
"""Assistant turns whose value is the call of a tool, as JSON."""


class ShareGPT(DataFormat):
    """A chat in conversations (from, value), perhaps with system and tools; gpt turns are trained on."""

    name: ClassVar[str] = "sharegpt"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("conversations",)
    optional_columns: ClassVar[tuple[str, ...]] = ("system", "tools")

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A chat, and one with a tool."""
        asked, answer = {"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4."}
        call = {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 2}}'}
        tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
        used = [asked, call, {"from": "observation", "value": "4"}, answer]
        return [{"conversations": [asked, answer], "system": "Be short."}, {"conversations": used, "tools": [tool]}]

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The turns under the usual names of their roles, after the system prompt where there is one."""
        items = fields.as_list(fields.required(row, "conversations"), "conversations", "turns")
        turns = [_turn(item, f"conversations[{i}]") for i, item in enumerate(items)]
        system = fields.optional_text(row, "system")
        if system and turns[0]["role"] == "system":
            raise BadField("system", "is given although conversations[0] is a system turn too")
        if system:
            turns.insert(0, {"role": "system", "content": system})
        return Conversation(turns, fields.tools(row))


def _turn(item: Any, where: str) -> dict[str, Any]:
    turn = fields.as_object(item, where, "from and value")
    if "from" not in turn and "role" in turn:
        raise BadField(where, "has 'role' and no 'from': that is the messages format; map messages to conversations")
    speaker = fields.as_text(turn.get("from"), f"{where}.from")
    if speaker in CALLS:
        calls = fields.tool_calls(turn.get("value"), f"{where}.value")
        if not calls:
            raise BadField(f"{where}.value", "is empty, where the call of a tool is expected")
        return {"role": "assistant", "content": "", "tool_calls": calls, **fields.untrained(turn, where)}
    if speaker not in ROLES:
        raise BadField(f"{where}.from", f"is {speaker!r}, not one of {', '.join([*ROLES, *CALLS])}")
    role = ROLES[speaker]
    content = fields.as_text(turn.get("value"), f"{where}.value", empty=role in fields.MAY_BE_EMPTY)
    return {"role": role, "content": content, **(fields.untrained(turn, where) if role == "assistant" else {})}
