"""Prompts that wait for an answer: their rows, whose rows are whose, and what becomes of rows that have an answer."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tunesmith import BadField, DataError, DataSpec, Prompt, Row, Text, plugins
from tunesmith.cli.main import main
from tunesmith.config import build
from tunesmith.data.detect import Taker, choose_format
from tunesmith.examples import Demonstration, Example
from tunesmith_plugins.formats.prompt import PromptFormat, PromptMessages

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TOOL = {"role": "tool", "content": "7"}
SCHEMA = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


def chosen(registry: plugins.Registry, consumes: type[Any], *rows: dict[str, Any]) -> str:
    spec = DataSpec(source=build(registry, "source", "arithmetic"))
    sample = [Row(row, "rows", number) for number, row in enumerate(rows, start=1)]
    return choose_format(spec, sample, registry, Taker(consumes, "toy")).format.name


# ---------------------------------------------------------------------------------------------- rows
@pytest.mark.parametrize("prompt", ["q\n", [USER], [{"role": "system", "content": ""}, USER, BOT, USER]])
def test_every_other_column_is_kept_as_json_has_it(prompt: Any) -> None:
    kept = {"answer": "7", "tests": [{"args": [1, 2.5, None, True]}], "completion": "", "id": None}
    row = {"prompt": prompt, **kept, "tools": json.dumps([SCHEMA])}
    example = PromptFormat()({**row, "pair": (1, (2,))})
    assert example == Prompt(prompt, {**kept, "pair": [1, [2]]}, [SCHEMA])
    assert json.loads(json.dumps(example.columns, allow_nan=False)) == example.columns
    assert PromptFormat()(PromptFormat().to_row(example)) == example


def test_messages_that_end_before_the_assistants_turn_are_a_prompt() -> None:
    for turns in ([USER], [USER, BOT, USER], [USER, BOT, TOOL]):
        row = {"messages": turns, "ground_truth": "7"}
        assert PromptMessages.matches(row)
        assert PromptMessages()(row) == Prompt(turns, {"ground_truth": "7"})
    for row in ({"messages": [USER, BOT]}, {"messages": []}, {"messages": "q"}, {"messages": ["q"]}, {}):
        assert not PromptMessages.matches(row)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"answer": "7"}, "prompt", "is missing; the row has: answer"),
    ({"prompt": ""}, "prompt", "is empty"),
    ({"prompt": 5}, "prompt", "neither text nor a list of messages"),
    ({"prompt": [USER, BOT]}, "prompt[1].role", "a prompt ends before the assistant's turn"),
    ({"prompt": [USER, {"role": "user"}]}, "prompt[1].content", "is null"),
    ({"prompt": "q", "tools": 5}, "tools", "is a number (5), not a list"),
    ({"prompt": "q", "day": date(2020, 1, 2)}, "day", "is a date, which JSON cannot hold"),
    ({"prompt": "q", "picture": {"bytes": b"x"}}, "picture.bytes", "is bytes, which JSON cannot hold"),
    ({"prompt": "q", "answer": float("nan")}, "answer", "is nan, which JSON cannot hold"),
    ({"prompt": "q", "answer": [1, float("-inf")]}, "answer[1]", "is -inf"),
    ({"prompt": "q", "answer": {1: 2}}, "answer", "is an object, which JSON cannot hold"),
    ({"prompt": "q", "answer": "\ud800"}, "answer", "half a surrogate pair"),
    ({"prompt": "q", "answer": nested(60)}, "answer" + "[0]" * 51, "nested more than 50 deep"),
]


@pytest.mark.parametrize(("row", "column", "problem"), FAULTS)
def test_a_fault_names_its_place(row: dict[str, Any], column: str, problem: str) -> None:
    with pytest.raises(BadField) as caught:
        PromptFormat()(row)
    assert caught.value.column == column and problem in caught.value.problem


def test_columns_that_nobody_needs_can_be_left_out() -> None:
    row = {"prompt": "q", "answer": "7", "day": date(2020, 1, 2)}
    assert PromptFormat(keep=("answer",))(row) == Prompt("q", {"answer": "7"})
    assert PromptFormat(keep=())(row) == Prompt("q", {})
    with pytest.raises(BadField, match="'gold' is missing"):
        PromptFormat(keep=("gold",))(row)
    with pytest.raises(BadField, match=r"messages\[1\].role"):
        PromptMessages(keep=())({"messages": [USER, BOT]})


# ---------------------------------------------------------------------------------------------- whose rows
ANSWERED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "q", "completion": "a", "answer": "7"}, "prompt-completion"),
    ({"prompt": [USER], "completion": [BOT]}, "conversational-prompt-completion"),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
    ({"prompt": "q", "completion": "a", "label": True}, "unpaired"),
    ({"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}, "ranking"),
    ({"prompt": "q", "prompt_id": "x", "messages": [USER, BOT]}, "messages"),
    ({"prompt": "q", "text": "q a"}, "text"),
]


@pytest.mark.parametrize(("row", "name"), ANSWERED)
def test_rows_with_an_answer_are_prompts_only_for_those_who_want_prompts(
    registry: plugins.Registry, row: dict[str, Any], name: str
) -> None:
    assert chosen(registry, Example, row) == name
    assert chosen(registry, Prompt, row) == "prompt"
    rest = {key: value for key, value in row.items() if key != "prompt"}
    assert PromptFormat()(row).columns == rest


def test_a_chat_without_an_answer_is_a_prompt_for_everybody(registry: plugins.Registry) -> None:
    assert chosen(registry, Example, {"messages": [USER], "gold": 1}) == "prompt-messages"
    assert chosen(registry, Prompt, {"messages": [USER], "gold": 1}) == "prompt-messages"
    with pytest.raises(DataError, match="in the format 'prompt-messages', which toy does not take"):
        chosen(registry, Demonstration, {"messages": [USER]})
    half = {"messages": [USER, BOT, USER]}
    assert chosen(registry, Demonstration, half) == chosen(registry, Example, half) == "messages"
    assert chosen(registry, Prompt, half) == "prompt-messages"


def test_rows_of_text_are_no_prompts(registry: plugins.Registry) -> None:
    assert chosen(registry, Text, {"prompt": "q", "text": "q a"}) == "text"
    with pytest.raises(DataError, match="in the format 'text', which toy does not take"):
        chosen(registry, Prompt, {"text": "q a"})


# ---------------------------------------------------------------------------------------------- conversion
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
CALLED = {**CALL, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
CONVERTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "q", "completion": " a"}, {"prompt": "q", "completion": " a"}),
    ({"prompt": "q", "gold": [1]}, {"prompt": "q", "gold": [1]}),
    ({"messages": [USER], "gold": {"a": 1}}, {"prompt": [USER], "gold": {"a": 1}}),
    ({"messages": [USER, BOT]}, {"prompt": [USER], "completion": [BOT]}),
    (
        {"messages": [USER, {**BOT, "weight": 0}, USER, CALL, TOOL, BOT], "tools": [SCHEMA]},
        {"prompt": [USER, BOT, USER], "completion": [CALLED, TOOL, BOT], "tools": [SCHEMA]},
    ),
    ({"messages": [USER, BOT, USER]}, {"prompt": [USER, BOT, USER]}),
    ({"prompt": [USER], "completion": [BOT]}, {"prompt": [USER], "completion": [BOT]}),
    ({"instruction": "q", "output": "a"}, {"prompt": [USER], "completion": [BOT]}),
    (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"prompt": [USER], "completion": [BOT]},
    ),
]


def convert(capsys: pytest.CaptureFixture[str], path: Path, *rows: dict[str, Any]) -> tuple[list[Any], str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "convert", str(path), "--to", "prompt", "--out", "-"]) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


@pytest.mark.parametrize(("row", "expected"), CONVERTED)
def test_the_answer_becomes_a_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    rows, err = convert(capsys, tmp_path / "rows.jsonl", row)
    assert rows == [expected]
    assert "not carried over" not in err


def test_what_is_lost_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows, err = convert(capsys, path, {"messages": [BOT, TOOL]}, {"messages": [USER, BOT], "id": 1})
    assert len(rows) == 1 and "1 converted, 1 left over" in err
    assert "1 chats begin with the assistant, so there is no prompt" in err
    assert "columns that are not carried over: id" in err
