"""Instructions with the answer to imitate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import BadField, Conversation, DataFormat
from tunesmith_plugins.formats import fields


class Alpaca(DataFormat):
    """Instruction and output, perhaps input, system and history ([question, answer] pairs); becomes a chat."""

    name: ClassVar[str] = "alpaca"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("instruction", "output")
    optional_columns: ClassVar[tuple[str, ...]] = ("input", "system", "history")

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """An instruction with an input, and one after an earlier question."""
        return [
            {"instruction": "Add these.", "input": "2 and 2", "output": "4"},
            {"instruction": "Again.", "output": "4", "system": "Be short.", "history": [["2 + 2?", "4"]]},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The system prompt, the history, the instruction with its input on the next line, and the output."""
        system, extra = fields.optional_text(row, "system"), fields.optional_text(row, "input")
        question = fields.text(row, "instruction") + (f"\n{extra}" if extra else "")
        turns = [("system", system)] if system else []
        turns += [*_history(row.get("history")), ("user", question), ("assistant", fields.text(row, "output"))]
        return Conversation([{"role": role, "content": content} for role, content in turns])


def _history(value: Any) -> list[tuple[str, str]]:
    if not value and (value is None or fields.is_list(value) or value == ""):
        return []
    turns = []
    for i, pair in enumerate(fields.as_list(value, "history", "[question, answer] pairs")):
        where = f"history[{i}]"
        if len(fields.as_list(pair, where, "a question and its answer")) != 2:
            raise BadField(where, f"has the length {len(pair)}; it must be a question and its answer")
        turns.append(("user", fields.as_text(pair[0], f"{where}[0]")))
        turns.append(("assistant", fields.as_text(pair[1], f"{where}[1]")))
    return turns
