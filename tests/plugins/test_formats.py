"""The row formats: what each makes of a good row, which rows are whose, and that every fault names its field."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tunesmith import BadField, Completion, Conversation, DataFormat, Text, plugins
from tunesmith_plugins.formats import tunesmith_register_data_formats

FORMATS: dict[str, type[DataFormat]] = {cls.name: cls for cls in tunesmith_register_data_formats()}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def spoke(speaker: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value, **more}


ASKED = [said("user", "q"), said("assistant", "a")]
SCHEMA = {"type": "function", "function": {"name": "f", "parameters": {}}}


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", **more, "function": {"name": "f", "arguments": arguments}}


GOOD: list[tuple[str, dict[str, Any], Any]] = [
    ("text", {"text": " a\r\nb "}, Text(" a\r\nb ")),
    ("prompt-completion", {"prompt": "p\n", "completion": " c"}, Completion("p\n", " c")),
    ("messages", {"messages": ASKED}, Conversation(ASKED)),
    ("messages", {"messages": ASKED, "tools": None}, Conversation(ASKED)),
    ("messages", {"messages": ASKED, "tools": [SCHEMA]}, Conversation(ASKED, [SCHEMA])),
    ("messages", {"messages": ASKED, "tools": json.dumps([SCHEMA])}, Conversation(ASKED, [SCHEMA])),
    ("messages", {"messages": ASKED, "tools": [json.dumps(SCHEMA)]}, Conversation(ASKED, [SCHEMA])),
    ("messages", {"messages": [said("system", ""), *ASKED]}, Conversation([said("system", ""), *ASKED])),
    (
        "conversational-prompt-completion",
        {"prompt": [*ASKED, said("user", "r")], "completion": [said("assistant", "b")], "tools": [SCHEMA]},
        Conversation(
            [said("user", "q"), said("assistant", "a", weight=0), said("user", "r"), said("assistant", "b")], [SCHEMA]
        ),
    ),
    ("alpaca", {"instruction": "q", "output": "a"}, Conversation(ASKED)),
    ("alpaca", {"instruction": "q", "output": "a", "input": None, "system": " ", "history": []}, Conversation(ASKED)),
    (
        "alpaca",
        {"instruction": "r", "input": "s", "output": "b", "system": "y", "history": [["q", "a"]]},
        Conversation([said("system", "y"), *ASKED, said("user", "r\ns"), said("assistant", "b")]),
    ),
    ("sharegpt", {"conversations": [spoke("human", "q"), spoke("gpt", "a")]}, Conversation(ASKED)),
    (
        "sharegpt",
        {"conversations": [spoke("user", "q"), spoke("assistant", "a", weight=0)], "system": "y", "tools": [SCHEMA]},
        Conversation([said("system", "y"), said("user", "q"), said("assistant", "a", weight=0)], [SCHEMA]),
    ),
    (
        "sharegpt",
        {
            "conversations": [
                spoke("human", "q"),
                spoke("function_call", '{"name": "f", "arguments": {"x": 1}}'),
                spoke("observation", "7"),
                spoke("gpt", "a"),
            ]
        },
        Conversation(
            [
                said("user", "q"),
                said("assistant", "", tool_calls=[called({"x": 1})]),
                said("tool", "7"),
                said("assistant", "a"),
            ]
        ),
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), GOOD)
def test_a_good_row_becomes_its_example(name: str, row: dict[str, Any], expected: Any) -> None:
    example = FORMATS[name]()(row)
    assert example == expected
    assert type(example) is FORMATS[name].produces


@pytest.mark.parametrize(("name", "row", "_"), GOOD)
def test_a_good_row_is_matched_by_its_format_alone_whatever_else_it_holds(
    name: str, row: dict[str, Any], _: Any
) -> None:
    for extra in ({}, {"id": 7, "source": "x", "score": None}):
        matched = [cls for cls in FORMATS.values() if cls.matches({**row, **extra})]
        assert [cls.name for cls in matched if cls.priority == 0] == [name]
        assert {cls.name for cls in matched} <= {name, "prompt"}, "which has a lower priority"
    assert FORMATS[name]()({**row, "id": 7}) == FORMATS[name]()(row)


def test_the_format_with_most_columns_wins_where_a_row_is_also_rendered_as_text() -> None:
    row = {"instruction": "q", "output": "a", "text": "### q ### a"}
    matched = [cls for cls in FORMATS.values() if cls.matches(row)]
    assert sorted(cls.name for cls in matched) == ["alpaca", "text"]
    assert max(matched, key=lambda cls: len(cls.columns)).name == "alpaca"


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_without_the_columns_is_not_matched_and_names_the_missing_one(name: str) -> None:
    assert not FORMATS[name].matches({"other": "x"})
    with pytest.raises(BadField, match="is missing; the row has: other") as caught:
        FORMATS[name]()({"other": "x"})
    assert caught.value.column in FORMATS[name].columns


# ---------------------------------------------------------------------------------------------- faults
PLAIN = [
    ("text", "text", {}),
    ("prompt-completion", "prompt", {"completion": "c"}),
    ("prompt-completion", "completion", {"prompt": "p"}),
    ("alpaca", "instruction", {"output": "o"}),
    ("alpaca", "output", {"instruction": "i"}),
]
NOT_TEXT = [
    (None, "is null"),
    (3, "is a number (3)"),
    (2.5, "is a number (2.5)"),
    (True, "is true"),
    ("", "is empty"),
    (" \n", "is blank"),
    ({"a": 1}, "is an object"),
    (b"x", "is bytes"),
    ("ab\ud800", "half a surrogate pair (\\ud800) at character 3"),
]


@pytest.mark.parametrize(("name", "column", "rest"), PLAIN)
@pytest.mark.parametrize(("value", "problem"), NOT_TEXT)
def test_a_column_of_text_refuses_everything_else(
    name: str, column: str, rest: dict[str, Any], value: Any, problem: str
) -> None:
    with pytest.raises(BadField) as caught:
        FORMATS[name]()({column: value, **rest})
    assert caught.value.column == column
    assert problem in caught.value.problem


def test_whole_unicode_is_kept() -> None:
    text = "\u0645\u0631\u062d\u0628\u0627 \U0001f600 e\u0301 \x00"
    assert FORMATS["text"]()({"text": text}) == Text(text)


CHATS: list[tuple[str, dict[str, Any], str, str]] = [
    ("messages", {"messages": []}, "messages", "is an empty list"),
    ("messages", {"messages": None}, "messages", "is null, not a list of messages"),
    ("messages", {"messages": "hi"}, "messages", "is text, not a list"),
    ("messages", {"messages": [said("user", "q"), "x"]}, "messages[1]", "is text, not an object"),
    ("messages", {"messages": [{"content": "q"}]}, "messages[0]", "has no role; it has: content"),
    ("messages", {"messages": [spoke("human", "q")]}, "messages[0]", "sharegpt"),
    ("messages", {"messages": [said("boss", "q")]}, "messages[0].role", "'boss', not one of system"),
    ("messages", {"messages": [said("function", "q")]}, "messages[0].role", "written with the role 'tool'"),
    ("messages", {"messages": [said(None, "q")]}, "messages[0].role", "is null"),
    ("messages", {"messages": [*ASKED, said("user", None)]}, "messages[2].content", "is null"),
    ("messages", {"messages": [said("user", "q"), said("assistant", "")]}, "messages[1].content", "is empty"),
    ("messages", {"messages": [said("user", 4)]}, "messages[0].content", "is a number (4)"),
    ("messages", {"messages": [said("user", [])]}, "messages[0].content", "is an empty list"),
    (
        "messages",
        {"messages": [said("user", [{"type": "text", "text": "a"}, {"type": "image_url"}])]},
        "messages[0].content[1].type",
        "'image_url'",
    ),
    ("messages", {"messages": [said("user", [{"type": "text"}])]}, "messages[0].content[0].text", "is null"),
    ("messages", {"messages": [said("assistant", "a", weight=0.5)]}, "messages[0].weight", "not 0"),
    ("messages", {"messages": [said("assistant", "a", weight=True)]}, "messages[0].weight", "is true"),
    ("messages", {"messages": [said("assistant", None, function_call={})]}, "messages[0].function_call", "old form"),
    ("messages", {"messages": [said("user", "q", tool_calls=[called({})])]}, "messages[0].tool_calls", "assistant"),
    (
        "messages",
        {"messages": [said("assistant", None, tool_calls=[called("{x}")])]},
        "messages[0].tool_calls[0].function.arguments",
        "not valid JSON",
    ),
    (
        "messages",
        {"messages": [said("assistant", None, tool_calls=[called("[1]")])]},
        "messages[0].tool_calls[0].function.arguments",
        "is a list, not an object",
    ),
    (
        "messages",
        {"messages": [said("assistant", None, tool_calls=[{"function": {"name": None}}])]},
        "messages[0].tool_calls[0].function.name",
        "is null",
    ),
    (
        "messages",
        {"messages": [said("assistant", None, tool_calls=[{"id": "1"}])]},
        "messages[0].tool_calls[0].function",
        "is null, not an object",
    ),
    ("messages", {"messages": ASKED, "tools": "f()"}, "tools", "not valid JSON"),
    ("messages", {"messages": ASKED, "tools": SCHEMA}, "tools", "is an object, not a list"),
    ("messages", {"messages": ASKED, "tools": [SCHEMA, 5]}, "tools[1]", "is a number (5)"),
    ("conversational-prompt-completion", {"prompt": [], "completion": ASKED[1:]}, "prompt", "is an empty list"),
    ("conversational-prompt-completion", {"prompt": ASKED[:1], "completion": "a"}, "completion", "is text"),
    ("conversational-prompt-completion", {"prompt": ASKED, "completion": ASKED}, "completion[0].role", "'user'"),
    ("alpaca", {"instruction": "i", "output": "o", "input": 5}, "input", "is a number (5)"),
    ("alpaca", {"instruction": "i", "output": "o", "system": ["s"]}, "system", "is a list"),
    ("alpaca", {"instruction": "i", "output": "o", "history": "x"}, "history", "is text"),
    ("alpaca", {"instruction": "i", "output": "o", "history": [["q", "a"], ["q"]]}, "history[1]", "length 1"),
    ("alpaca", {"instruction": "i", "output": "o", "history": [["q", None]]}, "history[0][1]", "is null"),
    ("sharegpt", {"conversations": []}, "conversations", "is an empty list"),
    ("sharegpt", {"conversations": [said("user", "q")]}, "conversations[0]", "messages format"),
    ("sharegpt", {"conversations": [spoke("alien", "q")]}, "conversations[0].from", "'alien', not one of"),
    ("sharegpt", {"conversations": [spoke("human", "q"), spoke("gpt", 1)]}, "conversations[1].value", "number (1)"),
    ("sharegpt", {"conversations": [spoke("system", "s"), *[spoke("gpt", "a")]], "system": "s"}, "system", "too"),
    ("sharegpt", {"conversations": [spoke("function_call", "f(1)")]}, "conversations[0].value", "not valid JSON"),
    ("sharegpt", {"conversations": [spoke("function_call", "")]}, "conversations[0].value", "is empty"),
]


@pytest.mark.parametrize(("name", "row", "column", "problem"), CHATS)
def test_a_fault_names_the_field_down_to_the_turn(name: str, row: dict[str, Any], column: str, problem: str) -> None:
    with pytest.raises(BadField) as caught:
        FORMATS[name]()(row)
    assert caught.value.column == column
    assert problem in caught.value.problem


# ---------------------------------------------------------------------------------------------- chats
def test_calls_of_tools_reach_the_template_as_objects() -> None:
    """Text would be quoted a second time by a template that prints arguments as JSON."""
    call = called('{"x": [1, null]}', id="c1")
    row = {"messages": [said("assistant", None, tool_calls=[call]), said("tool", "", tool_call_id="c1", name=None)]}
    assert FORMATS["messages"]()(row) == Conversation(
        [
            said("assistant", "", tool_calls=[called({"x": [1, None]}, id="c1")]),
            said("tool", "", tool_call_id="c1"),
        ]
    )
    bare = {"messages": [said("assistant", "", tool_calls=json.dumps([{"name": "f", "arguments": {"x": 1}}]))]}
    assert FORMATS["messages"]()(bare).messages[0]["tool_calls"] == [called({"x": 1})]


def test_other_entries_of_a_message_are_passed_on_but_for_nulls() -> None:
    row = {"messages": [said("assistant", "a", reasoning_content="r", name=None, weight=1, tool_calls=[])]}
    assert FORMATS["messages"]()(row) == Conversation([said("assistant", "a", reasoning_content="r")])


def test_weight_zero_is_kept_for_assistants_only() -> None:
    row = {"messages": [said("user", "q", weight=0), said("assistant", "a", weight=0), said("assistant", "b")]}
    assert [message.get("weight") for message in FORMATS["messages"]()(row).messages] == [None, 0, None]


def test_content_in_text_parts_is_kept_without_filled_nulls() -> None:
    row = {"messages": [said("user", [{"type": "text", "text": "a", "image_url": None}]), said("assistant", "b")]}
    assert FORMATS["messages"]()(row).messages[0]["content"] == [{"type": "text", "text": "a"}]


def test_the_formats_and_sources_load_without_heavy_packages() -> None:
    code = (
        "import sys; from tunesmith import plugins; r = plugins.load();"
        "bad = [p.cause for p in r.plugins if p.name in ('formats', 'sources') and p.status != 'ok'];"
        "heavy = {'torch', 'numpy', 'datasets', 'pyarrow', 'pandas', 'transformers'} & set(sys.modules);"
        "assert not bad and not heavy, (bad, heavy)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_registry_lists_every_format() -> None:
    assert set(FORMATS) <= set(plugins.load().names("format"))
