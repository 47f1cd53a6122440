"""What a model learns from a commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from tunesmith import BadField, Conversation, DataFormat

QUESTION = "Write a commit message for this change."


class Commit(DataFormat):
    """A commit (diff, subject, perhaps body): the change is the question, its message the answer to learn.

    Commits without a change in text or without a message are skipped, and those whose diff is too long.
    """

    name: ClassVar[str] = "commit"
    produces: ClassVar[type[Conversation]] = Conversation
    columns: ClassVar[tuple[str, ...]] = ("diff", "subject")
    optional_columns: ClassVar[tuple[str, ...]] = ("body",)

    question: str = QUESTION
    """What stands before the diff."""
    subject_only: bool = False
    """Learn the first line of the message alone."""
    max_characters: int = Field(default=20_000, ge=1)
    """Commits with a longer diff are skipped: half a change would teach the wrong message."""

    def __call__(self, row: Mapping[str, Any]) -> Conversation | None:
        """The chat, or ``None`` for what is skipped."""
        subject, diff, body = (self._text(row, column) for column in ("subject", "diff", "body"))
        if not subject or not diff or len(diff) > self.max_characters:
            return None
        message = f"{subject}\n\n{body}" if body and not self.subject_only else subject
        asked = {"role": "user", "content": f"{self.question}\n\n{diff}"}
        return Conversation([asked, {"role": "assistant", "content": message}])

    def _text(self, row: Mapping[str, Any], column: str) -> str:
        value = row.get(column)
        if value is None and column in self.columns:
            raise BadField(column, "is missing")
        if value is not None and not isinstance(value, str):
            raise BadField(column, f"should be text, not {type(value).__name__}")
        return (value or "").strip()
