"""Pairs of a better and a worse answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith import BadField, DataFormat, Preference
from tunesmith_plugins.formats import fields, judged


class PreferencePairs(DataFormat):
    """A better answer (chosen) and a worse one (rejected) to a prompt; text or messages, perhaps with a margin."""

    name: ClassVar[str] = "preference"
    produces: ClassVar[type[Preference]] = Preference
    columns: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    optional_columns: ClassVar[tuple[str, ...]] = ("prompt", "margin", "tools")

    def __call__(self, row: Mapping[str, Any]) -> Preference:
        """The pair; where messages come without a prompt, it is what both answers begin with."""
        answers = {column: fields.required(row, column) for column in self.columns}
        prompt, (chosen, rejected) = judged.prompt_and_answers(row, answers)
        if chosen == rejected:
            raise BadField("rejected", "says the same as chosen, so neither can be preferred")
        return Preference(prompt, chosen, rejected, _margin(row.get("margin")), fields.tools(row))


def _margin(value: Any) -> float:
    if value is None:
        return 0.0
    margin = judged.number(value, "margin")
    if margin < 0:
        raise BadField("margin", f"is {value}; it says by how much chosen is better, so it is 0 or more")
    return margin
