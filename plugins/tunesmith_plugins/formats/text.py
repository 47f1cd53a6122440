"""Documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import DataFormat, Text
from tunesmith_plugins.formats import fields


class PlainText(DataFormat):
    """A document in the column text; every token is trained on."""

    name: ClassVar[str] = "text"
    produces: ClassVar[type[Text]] = Text
    columns: ClassVar[tuple[str, ...]] = ("text",)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """Two documents."""
        return [{"text": "Water is wet.\n"}, {"text": " Fire\tis hot."}]

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """The document, character for character."""
        return Text(fields.text(row, "text"))

    def to_row(self, example: Text) -> Mapping[str, Any]:
        """The document in its column."""
        return {"text": example.text}
