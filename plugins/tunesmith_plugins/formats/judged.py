"""Prompts and answers that are text or messages, for the formats of judged answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from tunesmith import BadField, Passage
from tunesmith_plugins.formats import fields

Messages = list[dict[str, Any]]
YES = ("true", "yes", "up", "thumbs up", "1", "\U0001f44d")
NO = ("false", "no", "down", "thumbs down", "0", "\U0001f44e")
LOOKS = dict.fromkeys([0xFE0F, *range(0x1F3FB, 0x1F400)])
"""What follows an emoji to give it a colour."""


def word(value: Any) -> str | None:
    """A label as it is compared: lower case, ``1.0`` as ``1``, thumbs of every colour alike; ``None``: no word."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, bool, int, float)):
        return None
    return " ".join(str(value).translate(LOOKS).lower().replace("_", " ").split())


def is_label(value: Any) -> bool:
    """True for what says good or bad: a boolean, a thumb, 1 or 0, yes or no."""
    return word(value) in (*YES, *NO)


def with_tools(row: Mapping[str, Any], tools: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """The row, with the column of tools where there are any."""
    return {**row, "tools": list(tools)} if tools else row


def number(value: Any, where: str) -> float:
    """The value, once it is known to be a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadField(where, f"is {fields.describe(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:  # JSON has whole numbers of any length
        raise BadField(where, "is a whole number too large to compute with") from None
    if not isfinite(found):
        raise BadField(where, f"is {found}, not a finite number")
    return found


def passage(value: Any, where: str) -> Passage:
    """The value, once it is known to be text that is not blank, or messages."""
    if fields.is_list(value):
        return fields.as_messages(value, where)
    if isinstance(value, str):
        return fields.as_text(value, where)
    raise BadField(where, f"is {fields.describe(value)}, neither text nor a list of messages")


def prompt_and_answers(row: Mapping[str, Any], answers: Mapping[str, Any]) -> tuple[Passage, list[Passage]]:
    """The prompt of a row and its answers, all text or all messages; ``answers``: where each stands to its value.

    A prompt in text before answers in messages is the user's turn, an answer in text to a prompt in messages the
    assistant's. Answers may repeat the prompt's messages; without a prompt, the messages that all answers begin with
    are the prompt.

    Raises:
        BadField: a field is wrong, or where the prompt ends cannot be told.
    """
    given = row.get("prompt")
    prompt = None if given is None else passage(given, "prompt")
    read = {where: passage(value, where) for where, value in answers.items()}
    kinds = {isinstance(answer, str) for answer in read.values()}
    if len(kinds) > 1:
        words = [f"{where} is {'text' if isinstance(answer, str) else 'messages'}" for where, answer in read.items()]
        raise BadField(next(iter(read)), f"does not fit the others: {', '.join(words)}")
    if kinds == {True}:
        return _answered_in_text(row, prompt, read)
    return _answered_in_messages(prompt, {where: _list(answer) for where, answer in read.items()})


def _list(value: Passage) -> Messages:
    return [dict(turn) for turn in value if isinstance(turn, Mapping)]


def _answered_in_text(
    row: Mapping[str, Any], prompt: Passage | None, answers: Mapping[str, Passage]
) -> tuple[Passage, list[Passage]]:
    if prompt is None:
        names = " and ".join(answers)
        have = ", ".join(map(str, row))
        raise BadField(
            "prompt",
            f"is missing (the row has: {have}); where it ends cannot be told from {names} as text: "
            "give it in a column of its own, and only the answers in the others",
        )
    if isinstance(prompt, str):
        return prompt, list(answers.values())
    return prompt, [[{"role": "assistant", "content": answer}] for answer in answers.values()]


def _answered_in_messages(prompt: Passage | None, answers: Mapping[str, Messages]) -> tuple[Passage, list[Passage]]:
    own = all(turns[0]["role"] == "assistant" for turns in answers.values())
    if own and prompt is not None:
        before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _list(prompt)
        rest = dict(answers)
    else:
        before, rest = _common(answers) if prompt is None or isinstance(prompt, str) else _repeated(prompt, answers)
        if isinstance(prompt, str):
            _check_same_prompt(prompt, before)
    for where, turns in rest.items():
        _check_answer(where, turns, len(answers[where]) - len(turns))
    return before, list(rest.values())


def _common(answers: Mapping[str, Messages]) -> tuple[Messages, dict[str, Messages]]:
    """The messages that all answers begin with, and the rest of each."""
    lists = list(answers.values())
    size = 0
    while all(len(turns) > size and turns[size] == lists[0][size] for turns in lists):
        size += 1
    if size == min(map(len, lists)):  # one is where another begins: the last turn of the assistant is its answer
        size -= 1
    while size and any(turns[size]["role"] == "tool" for turns in lists):
        size -= 1  # what a tool said follows from the call before it, which belongs to the answer
    where = next(iter(answers))
    if not size and len({str(turns[0]) for turns in lists}) > 1:
        raise BadField(where, f"begins with another message than {list(answers)[1]}: there is no prompt in common")
    if not size:
        raise BadField("prompt", f"is missing, and {where} has no message before the answer")
    return lists[0][:size], {name: turns[size:] for name, turns in answers.items()}


def _repeated(prompt: Passage, answers: Mapping[str, Messages]) -> tuple[Messages, dict[str, Messages]]:
    """A prompt that every answer repeats."""
    before = _list(prompt)
    for where, turns in answers.items():
        if turns[: len(before)] != before:
            role = turns[0]["role"]
            raise BadField(where, f"begins with {role!r}; it must be the answer alone, or repeat prompt word for word")
        if len(turns) == len(before):
            raise BadField(where, "repeats prompt and has no answer after it")
    return before, {where: turns[len(before) :] for where, turns in answers.items()}


def _check_same_prompt(prompt: str, before: Sequence[Mapping[str, Any]]) -> None:
    said = [turn["content"] for turn in before if isinstance(turn["content"], str)]
    if prompt.strip() not in [text.strip() for text in said]:
        raise BadField("prompt", "is not among the messages that the answers begin with; leave out the wrong one")


def _check_answer(where: str, turns: Messages, first: int) -> None:
    for i, place in ((0, "begins"), (len(turns) - 1, "ends")):
        role = turns[i]["role"]
        if role != "assistant":
            raise BadField(f"{where}[{first + i}].role", f"is {role!r}; an answer {place} with 'assistant'")
    for i, turn in enumerate(turns):
        if turn.get("weight") == 0:
            raise BadField(f"{where}[{first + i}].weight", "is 0; an answer is judged as a whole")
