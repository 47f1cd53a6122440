"""Formats of judged answers, their converters, and methods that take them; beside data_plugin.py."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    Comparison,
    Conversion,
    Converter,
    DataFormat,
    Loss,
    Objective,
    OfflineMethod,
    Preference,
    Ranking,
    TokenLogps,
    Unpaired,
)


class Split(Converter):
    """A pair as two single answers."""

    takes: ClassVar[type] = Preference

    def __call__(self, examples: Iterable[tuple[int, Any]]) -> Iterator[Conversion]:
        for number, pair in examples:
            if pair.prompt == "LOSE":
                continue
            good, bad = (pair.chosen, True), (pair.rejected, False)
            yield Conversion((number,), tuple(Unpaired(pair.prompt, *one) for one in (good, bad)))


class Match(Converter):
    """Good and bad answers to the same prompt in pairs, in the order of the rows."""

    takes: ClassVar[type] = Unpaired
    swap: bool = False
    """Take the worse answer for the better one."""

    def __call__(self, examples: Iterable[tuple[int, Any]]) -> Iterator[Conversion]:
        waiting: dict[tuple[str, bool], list[tuple[int, Any]]] = {}
        for number, one in examples:
            partners = waiting.get((one.prompt, not one.label))
            if not partners:
                waiting.setdefault((one.prompt, one.label), []).append((number, one))
                continue
            other_number, other = partners.pop(0)
            good, bad = (one, other) if one.label is not self.swap else (other, one)
            pair = Preference(one.prompt, good.completion, bad.completion)
            yield Conversion((other_number, number), (pair,), "words are lost", 2)
        for number, _ in (item for left in waiting.values() for item in left):
            yield Conversion((number,), (), "rows have no partner")


class Pairs(DataFormat):
    """A better and a worse answer."""

    name: ClassVar[str] = "toy-pairs"
    produces: ClassVar[type[Preference]] = Preference
    columns: ClassVar[tuple[str, ...]] = ("q", "good", "bad")
    optional_columns: ClassVar[tuple[str, ...]] = ("by",)
    converters: ClassVar[tuple[type[Converter], ...]] = (Match,)

    def __call__(self, row):
        if row["q"] == "SKIP":
            return None
        return Preference(row["q"], row["good"], row["bad"], row.get("by", 0.0))

    def to_row(self, example):
        return {"q": example.prompt, "good": example.chosen, "bad": example.rejected}


class Thumbs(DataFormat):
    """An answer and whether it is good."""

    name: ClassVar[str] = "toy-thumbs"
    produces: ClassVar[type[Unpaired]] = Unpaired
    columns: ClassVar[tuple[str, ...]] = ("q", "a", "ok")
    converters: ClassVar[tuple[type[Converter], ...]] = (Split,)
    good_word: str = ""
    """What stands for true."""

    def __call__(self, row):
        if not isinstance(row["ok"], bool) and not self.good_word:
            raise tunesmith.BadField("ok", "is not a boolean")
        return Unpaired(row["q"], row["a"], row["ok"] == (self.good_word or True))

    def to_row(self, example):
        return {"q": example.prompt, "a": example.completion, "ok": example.label}

    def for_conversion(self):
        return self.model_copy(update={"good_word": self.good_word or "yes"})


class Ranks(DataFormat):
    """Answers with scores; only read."""

    name: ClassVar[str] = "toy-ranks"
    produces: ClassVar[type[Ranking]] = Ranking
    columns: ClassVar[tuple[str, ...]] = ("q", "answers", "scores")

    def __call__(self, row):
        return Ranking(row["q"], row["answers"], row["scores"])


class Nothing(Objective):
    """Nothing."""

    name: ClassVar[str] = "toy-nothing"
    inputs: ClassVar[type] = TokenLogps

    def __call__(self, x: Any) -> Loss:
        return Loss(x.logps.sum() * 0)


class Judge(OfflineMethod):
    """Takes answers that are compared."""

    name: ClassVar[str] = "toy-judge"
    consumes: ClassVar[type] = Comparison
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(paper="-", use_when="-", data="-", memory="-")
    objective: AnyObjective = "toy-nothing"


class Critic(Judge):
    """Takes single answers."""

    name: ClassVar[str] = "toy-critic"
    consumes: ClassVar[type] = Unpaired


@tunesmith.hookimpl
def tunesmith_register_data_formats():
    return [Pairs, Thumbs, Ranks]


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [Nothing]


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [Judge, Critic]
