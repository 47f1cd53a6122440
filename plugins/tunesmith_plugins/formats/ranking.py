"""Several answers with scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith import BadField, DataFormat, Ranking
from tunesmith_plugins.formats import fields, judged


class ScoredAnswers(DataFormat):
    """Two or more answers (completions) to a prompt with their scores, higher is better; text or messages."""

    name: ClassVar[str] = "ranking"
    produces: ClassVar[type[Ranking]] = Ranking
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completions", "scores")
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """Three answers in text, and two in messages."""
        asked = {"role": "user", "content": "2 + 2?"}
        answers = [[{"role": "assistant", "content": text}] for text in ("4.", "5.")]
        return [
            {"prompt": "2 + 2 = ", "completions": ["4", "5", "22"], "scores": [1, 0.5, 0]},
            {"prompt": [asked], "completions": answers, "scores": [1.0, -1.0]},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Ranking:
        """The answers in the order of the row."""
        asked = judged.passage(fields.required(row, "prompt"), "prompt")
        items = fields.as_list(fields.required(row, "completions"), "completions", "answers")
        values = fields.as_list(fields.required(row, "scores"), "scores", "numbers")
        if len(values) != len(items):
            raise BadField("scores", f"has the length {len(values)}, and there are {len(items)} completions")
        if len(items) < 2:
            raise BadField("completions", "is a single answer, and there is nothing to compare it with")
        scores = [judged.number(value, f"scores[{i}]") for i, value in enumerate(values)]
        if len(set(scores)) == 1:
            raise BadField("scores", f"are all {values[0]}, so no answer is better than another")
        answers = {f"completions[{i}]": item for i, item in enumerate(items)}
        prompt, completions = judged.prompt_and_answers({**row, "prompt": asked}, answers)
        return Ranking(prompt, completions, scores, fields.tools(row))

    def to_row(self, example: Ranking) -> Mapping[str, Any]:
        """Prompt, completions and scores."""
        row = {"prompt": example.prompt, "completions": list(example.completions), "scores": list(example.scores)}
        return judged.with_tools(row, example.tools)
