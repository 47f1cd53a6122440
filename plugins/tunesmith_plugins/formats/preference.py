"""Pairs of a better and a worse answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, ClassVar, Literal

from tunesmith import BadField, Conversion, Converter, DataFormat, Preference, Ranking, Unpaired
from tunesmith_plugins.formats import fields, judged


class Pairing(Converter):
    """Which pairs are made where there are several answers."""

    pairs: Literal["one", "all"] = "one"
    """one: each answer in one pair at most, of a ranking the best with the worst. all: each with every worse one."""


class FromRankings(Pairing):
    """Answers with scores in pairs."""

    takes: ClassVar[type[Ranking]] = Ranking
    margins: bool = False
    """Keep the difference of the scores as the margin of a pair."""

    def __call__(self, examples: Iterable[tuple[int, Ranking]]) -> Iterator[Conversion]:
        """Only answers of different scores are paired."""
        for number, ranking in examples:
            order = sorted(range(len(ranking.scores)), key=lambda i: -ranking.scores[i])
            if self.pairs == "one":
                chosen = [(order[0], order[-1])]
                note, lost = "answers between the best and the worst are left out", len(order) - 2
            else:
                chosen = [(i, j) for i, j in combinations(order, 2) if ranking.scores[i] > ranking.scores[j]]
                note, lost = "pairs of equal scores are left out", len(order) * (len(order) - 1) // 2 - len(chosen)
            made = tuple(self._pair(ranking, i, j) for i, j in chosen)
            yield Conversion((number,), made, note if lost else "", lost)

    def _pair(self, ranking: Ranking, better: int, worse: int) -> Preference:
        margin = ranking.scores[better] - ranking.scores[worse] if self.margins else 0.0
        answers = ranking.completions[better], ranking.completions[worse]
        return Preference(ranking.prompt, *answers, margin, ranking.tools)


class FromThumbs(Pairing):
    """Good answers with bad ones to the same prompt."""

    takes: ClassVar[type[Unpaired]] = Unpaired

    def __call__(self, examples: Iterable[tuple[int, Unpaired]]) -> Iterator[Conversion]:
        """Answers that have no partner are left over."""
        groups: dict[str, tuple[list[int], list[int]]] = {}
        known = dict(examples)
        for number, one in known.items():
            key = json.dumps([one.prompt, one.tools], sort_keys=True, default=repr)
            groups.setdefault(key, ([], []))[not one.label].append(number)
        for good, bad in groups.values():
            made = product(good, bad) if self.pairs == "all" else zip(good, bad, strict=False)
            paired: set[int] = set()
            for i, j in made:
                one, other = known[i], known[j]
                paired |= {i, j}
                yield Conversion((i, j), (Preference(one.prompt, one.completion, other.completion, 0.0, one.tools),))
            for number in (*good, *bad):
                if number not in paired:
                    word = "bad" if known[number].label else "good"
                    more = "more " if good and bad else ""
                    yield Conversion((number,), (), f"rows have no {more}{word} answer to the same prompt")


class PreferencePairs(DataFormat):
    """A better answer (chosen) and a worse one (rejected) to a prompt; text or messages, perhaps with a margin."""

    name: ClassVar[str] = "preference"
    produces: ClassVar[type[Preference]] = Preference
    columns: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    optional_columns: ClassVar[tuple[str, ...]] = ("prompt", "margin", "tools")
    converters: ClassVar[tuple[type[Converter], ...]] = (FromRankings, FromThumbs)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """A pair in text, one in messages, and one whose prompt is in its answers."""
        asked = {"role": "user", "content": "2 + 2?"}
        right, wrong = {"role": "assistant", "content": "4."}, {"role": "assistant", "content": "5."}
        return [
            {"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5", "margin": 0.5},
            {"prompt": [asked], "chosen": [right], "rejected": [wrong]},
            {"chosen": [asked, right], "rejected": [asked, wrong]},
        ]

    def __call__(self, row: Mapping[str, Any]) -> Preference:
        """The pair; where messages come without a prompt, it is what both answers begin with."""
        answers = {column: fields.required(row, column) for column in self.columns}
        prompt, (chosen, rejected) = judged.prompt_and_answers(row, answers)
        return Preference(prompt, chosen, rejected, _margin(row.get("margin")), fields.tools(row))

    def to_row(self, example: Preference) -> Mapping[str, Any]:
        """Prompt, chosen and rejected, and a margin where there is one."""
        row = {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
        margin = {"margin": example.margin} if example.margin else {}
        return judged.with_tools({**row, **margin}, example.tools)


def _margin(value: Any) -> float:
    if value is None:
        return 0.0
    margin = judged.number(value, "margin")
    if margin < 0:
        raise BadField("margin", f"is {value}; it says by how much chosen is better, so it is 0 or more")
    return margin
