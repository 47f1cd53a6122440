"""Checks of single fields that several formats share. Each raises `BadField` with the place inside the row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith import BadField

ROLES = ("system", "developer", "user", "assistant", "tool")
MAY_BE_EMPTY = ("system", "developer", "tool")
"""Roles that may say nothing: an empty system prompt, a tool without output."""


def describe(value: Any) -> str:
    """A value's type in the words of a JSON file, with the value where it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"a number ({str(value)[:20]})"
    kinds: dict[type, str] = {str: "text", bytes: "bytes"}
    if type(value) in kinds:
        return kinds[type(value)]
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if is_list(value) else f"a {type(value).__name__}"


def is_list(value: Any) -> bool:
    """True for a list or tuple, not for text."""
    return isinstance(value, (list, tuple))


def required(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column that the row must have."""
    if column not in row:
        raise BadField(column, f"is missing; the row has: {', '.join(map(str, row)) or 'no columns'}")
    return row[column]


def as_text(value: Any, where: str, *, empty: bool = False) -> str:
    """The value, unchanged, once it is known to be text that can be encoded; ``empty``: white space alone is fine."""
    if not isinstance(value, str):
        raise BadField(where, f"is {describe(value)}, not text")
    if not empty and not value.strip():
        raise BadField(where, "is blank" if value else "is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise BadField(where, f"holds half a surrogate pair ({half}) at character {error.start + 1}") from None
    return value


def text(row: Mapping[str, Any], column: str) -> str:
    """A required column of text that is not blank."""
    return as_text(required(row, column), column)


def optional_text(row: Mapping[str, Any], column: str) -> str | None:
    """A column of text, or ``None`` where it is absent, null or blank."""
    value = row.get(column)
    if value is None:
        return None
    content = as_text(value, column, empty=True)
    return content if content.strip() else None


def as_list(value: Any, where: str, of: str) -> Sequence[Any]:
    """The value, once it is known to be a list that is not empty."""
    if not is_list(value):
        raise BadField(where, f"is {describe(value)}, not a list of {of}")
    if not value:
        raise BadField(where, "is an empty list")
    items: Sequence[Any] = value
    return items


def as_object(value: Any, where: str, of: str) -> Mapping[str, Any]:
    """The value, once it is known to be an object."""
    if not isinstance(value, Mapping):
        raise BadField(where, f"is {describe(value)}, not an object with {of}")
    return value


def parsed(value: Any, where: str) -> Any:
    """The value, or what it says where it is JSON written as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadField(where, f"is text that is not valid JSON: {error}") from None


# ---------------------------------------------------------------------------------------------- chat
def messages(row: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    """A required column of chat messages (``role``, ``content``, perhaps ``tool_calls``), checked one by one."""
    return as_messages(required(row, column), column)


def as_messages(value: Any, where: str) -> list[dict[str, Any]]:
    """The value, once it is known to be a list of chat messages."""
    return [_message(item, f"{where}[{i}]") for i, item in enumerate(as_list(value, where, "messages"))]


def _message(item: Any, where: str) -> dict[str, Any]:
    value = as_object(item, where, "role and content")
    if "role" not in value and "from" in value:
        raise BadField(where, "has 'from' and no 'role': that is the sharegpt format, in the column 'conversations'")
    if "role" not in value:
        raise BadField(where, f"has no role; it has: {', '.join(map(str, value)) or 'nothing'}")
    role = as_text(value["role"], f"{where}.role")
    if role not in ROLES:
        also = "; results of tools are written with the role 'tool'" if role in ("function", "ipython") else ""
        raise BadField(f"{where}.role", f"is {role!r}, not one of {', '.join(ROLES)}{also}")
    if value.get("function_call") is not None:
        raise BadField(f"{where}.function_call", "is the old form of tool_calls, which is a list")
    calls = tool_calls(value.get("tool_calls"), f"{where}.tool_calls")
    if calls and role != "assistant":
        raise BadField(f"{where}.tool_calls", f"belongs to an assistant message, not to one of {role}")
    rest = {key: entry for key, entry in value.items() if entry is not None and key not in _OWN}
    content = _content(value.get("content"), f"{where}.content", empty=bool(calls) or role in MAY_BE_EMPTY)
    own = {"role": role, "content": content, **({"tool_calls": calls} if calls else {})}
    return {**own, **(untrained(value, where) if role == "assistant" else {}), **rest}


_OWN = ("role", "content", "tool_calls", "function_call", "weight")


def untrained(message: Mapping[str, Any], where: str) -> dict[str, int]:
    """``{"weight": 0}`` for an assistant message that is not trained on, nothing for one that is."""
    weight = message.get("weight")
    if weight is None:
        return {}
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadField(f"{where}.weight", f"is {describe(weight)}, not 0 (do not train on this turn) or 1")
    return {} if weight else {"weight": 0}


def _content(value: Any, where: str, *, empty: bool) -> Any:
    """Text, or a list of text parts; null becomes empty text where nothing need be said."""
    if value is None and empty:
        return ""
    if not is_list(value):
        return as_text(value, where, empty=empty)
    parts = []
    for i, item in enumerate(as_list(value, where, "text parts")):
        part = as_object(item, f"{where}[{i}]", "type and text")
        if part.get("type") != "text":
            kind = part.get("type")
            shown = repr(kind) if isinstance(kind, str) else describe(kind)
            raise BadField(f"{where}[{i}].type", f"is {shown}; only 'text' can be trained on")
        parts.append({"type": "text", "text": as_text(part.get("text"), f"{where}[{i}].text", empty=empty)})
    return parts


def tool_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Calls as ``{"type": "function", "function": {"name", "arguments"}}``; none where null or empty.

    A list, one call, or either as JSON text. Arguments become an object also where they are JSON text, because chat
    templates print them as JSON: text would be quoted twice.
    """
    value = parsed(value, where) if value else None
    if value is None:
        return []
    items = [value] if isinstance(value, Mapping) else as_list(value, where, "calls")
    return [_tool_call(item, f"{where}[{i}]") for i, item in enumerate(items)]


def _tool_call(item: Any, where: str) -> dict[str, Any]:
    call = as_object(item, where, "function")
    inner = call.get("function")
    if inner is None and "name" in call:
        call, inner = {}, call
    function = as_object(inner, f"{where}.function", "name and arguments")
    name = as_text(function.get("name"), f"{where}.function.name")
    arguments = parsed(function.get("arguments") or {}, f"{where}.function.arguments")
    as_object(arguments, f"{where}.function.arguments", "one entry per argument")
    rest = {key: entry for key, entry in call.items() if entry is not None}
    return {"type": "function", **rest, "function": {"name": name, "arguments": arguments}}


def tools(row: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The optional column ``tools``: a list of JSON schemas, or that list as JSON text."""
    value = row.get("tools")
    value = parsed(value, "tools") if value else None
    if not value:
        return None
    return [
        as_object(parsed(tool, f"tools[{i}]"), f"tools[{i}]", "the schema of a tool")
        for i, tool in enumerate(as_list(value, "tools", "schemas"))
    ]
