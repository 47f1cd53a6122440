"""Prompts with the answer to imitate, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import Completion, DataFormat
from tunesmith_plugins.formats import fields, judged


class PromptCompletion(DataFormat):
    """Plain text in prompt and completion; no chat template is applied, the completion is trained on."""

    name: ClassVar[str] = "prompt-completion"
    produces: ClassVar[type[Completion]] = Completion
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion")

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """Both columns are there and neither is a list (those are messages), nor does a label call answers bad."""
        if not super().matches(row) or judged.is_label(row.get("label")):
            return False
        return not any(fields.is_list(row[column]) for column in cls.columns)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A question and an order."""
        return [
            {"prompt": "Question: 2 + 2?\nAnswer:", "completion": " 4"},
            {"prompt": "Say yes. ", "completion": "Yes."},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Completion:
        """The prompt and its completion, character for character."""
        return Completion(fields.text(row, "prompt"), fields.text(row, "completion"))

    def to_row(self, example: Completion) -> Mapping[str, Any]:
        """Prompt and completion in their columns."""
        return {"prompt": example.prompt, "completion": example.completion}
