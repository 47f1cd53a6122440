"""Single answers with a thumb up or down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import model_validator

from tunesmith import BadField, Conversion, Converter, DataFormat, Preference, Unpaired
from tunesmith_plugins.formats import fields, judged


class FromPairs(Converter):
    """The two answers of a pair, one good and one bad."""

    takes: ClassVar[type[Preference]] = Preference

    def __call__(self, examples: Iterable[tuple[int, Preference]]) -> Iterator[Conversion]:
        """Two examples a pair; a margin has no place in them."""
        for number, pair in examples:
            both = ((pair.chosen, True), (pair.rejected, False))
            made = tuple(Unpaired(pair.prompt, answer, label, pair.tools) for answer, label in both)
            yield Conversion((number,), made, "margins are left out" if pair.margin else "")


class UnpairedAnswers(DataFormat):
    """An answer (completion) to a prompt that is good or bad (label true or false); text or messages."""

    name: ClassVar[str] = "unpaired"
    produces: ClassVar[type[Unpaired]] = Unpaired
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion", "label")
    optional_columns: ClassVar[tuple[str, ...]] = ("tools",)
    converters: ClassVar[tuple[type[Converter], ...]] = (FromPairs,)
    label_true: tuple[str, ...] = ()
    """Words and numbers that mean true, such as yes,up,1. Case does not count."""
    label_false: tuple[str, ...] = ()
    """Words and numbers that mean false, such as no,down,0. Case does not count."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = {judged.word(text) for text in self.label_true} & {judged.word(text) for text in self.label_false}
        if both:
            raise ValueError(f"label_true and label_false both have {', '.join(sorted(map(str, both)))}")
        return self

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A good answer in text, and a bad one in messages."""
        yes, no = next(iter(self.label_true), True), next(iter(self.label_false), False)
        asked, answer = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5."}
        return [
            {"prompt": "2 + 2 = ", "completion": "4", "label": yes},
            {"prompt": [asked], "completion": [answer], "label": no},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Unpaired:
        """The answer with its label, which must be a boolean unless the settings say what else may stand there."""
        asked = judged.passage(fields.required(row, "prompt"), "prompt")
        answers = {"completion": fields.required(row, "completion")}
        prompt, [completion] = judged.prompt_and_answers({**row, "prompt": asked}, answers)
        return Unpaired(prompt, completion, self._label(fields.required(row, "label")), fields.tools(row))

    def _label(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        said = judged.word(value)
        for words, meaning in ((self.label_true, True), (self.label_false, False)):
            if said is not None and said in map(judged.word, words):
                return meaning
        shown = repr(value)[:40] if isinstance(value, str) else fields.describe(value)
        if self.label_true or self.label_false:
            lists = f"true is {', '.join(self.label_true)}; false is {', '.join(self.label_false)}"
            raise BadField("label", f"is {shown}, which is none of the labels ({lists})")
        raise BadField(
            "label",
            f"is {shown}, not true or false; `tunesmith data convert ... --to {self.name}` makes it one of these",
        )

    def for_conversion(self) -> DataFormat:
        """Takes thumbs, 1 and 0, yes and no as well; what the settings say of a word wins."""
        own = {judged.word(text) for text in (*self.label_true, *self.label_false)}
        yes = self.label_true or tuple(text for text in judged.YES if judged.word(text) not in own)
        no = self.label_false or tuple(text for text in judged.NO if judged.word(text) not in own)
        return self.model_copy(update={"label_true": yes, "label_false": no})

    def to_row(self, example: Unpaired) -> Mapping[str, Any]:
        """Prompt, completion and label."""
        row = {"prompt": example.prompt, "completion": example.completion, "label": example.label}
        return judged.with_tools(row, example.tools)
