"""Answers that are a given text, letter for letter or after stated changes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import tunesmith
from tunesmith import Fault, Reward, Rollout

_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


class ExactMatch(Reward):
    """1 where the answer is the gold text after the chosen changes to both, else 0."""

    name: ClassVar[str] = "exact-match"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    answer: str = "answer"
    """Column of the gold answer, or of a list of right ones."""
    extract: Literal["whole", "final", "boxed", "tag", "last-line"] = "whole"
    """What is compared, after the thinking: everything; what follows a phrase ("the answer is"); a box; the content of
    tag; or the last line."""
    tag: str = "answer"
    """Tag whose content is the answer, with extract: tag."""
    several: Literal["wrong", "last"] = "wrong"
    """Different answers in one completion: wrong, or the last one counts."""
    thinking: tuple[str, ...] = ("think", "thinking")
    """Tags of the thinking block, whose content is no answer."""
    case: bool = True
    """Capital and small letters differ."""
    whitespace: Literal["exact", "ends", "squeeze", "ignore"] = "ends"
    """Blanks: every one counts; those at the ends do not; any run is one blank; none counts."""
    punctuation: bool = True
    """Punctuation counts."""
    articles: bool = True
    """The words a, an and the count."""

    def columns(self) -> Iterable[str]:
        """The column of the gold answer."""
        return (self.answer,)

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Questions with a word or a phrase as the answer."""
        for prompt, gold in _SAMPLES:
            yield {"prompt": prompt, self.answer: gold, "completion": self._written(gold)}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for a right answer, 0.0 for any other; a gold answer that is no text is an error."""
        return [self._judge(rollout) for rollout in rollouts]

    def normalised(self, text: str) -> str:
        """A text as it is compared."""
        text = unicodedata.normalize("NFC", text)
        text = text if self.case else text.casefold()
        if not self.punctuation:
            text = "".join(char for char in text if not unicodedata.category(char).startswith("P"))
        if not self.articles:
            text = _ARTICLES.sub(" ", text)
        if self.whitespace == "exact":
            return text
        if self.whitespace == "ends":
            return text.strip()
        return ("" if self.whitespace == "ignore" else " ").join(text.split())

    def _judge(self, rollout: Rollout) -> float | Fault:
        given = rollout.columns.get(self.answer)
        golds = given if isinstance(given, list | tuple) else [given]
        if not golds or any(isinstance(g, bool) or not isinstance(g, str | int | float) for g in golds):
            return Fault("error", f"column {self.answer!r}: a gold answer is text or a number, not {given!r}")
        right = {self.normalised(str(gold)) for gold in golds}
        if "" in right:
            return Fault("error", f"column {self.answer!r}: nothing is left to compare of {given!r}")
        found = {self.normalised(text) for text in self._answers(rollout.text)}
        return float(bool(found) and found <= right)

    def _answers(self, text: str) -> list[str]:
        from tunesmith.passages import after_thinking, boxed, final_answers, last_line, tagged

        rest = after_thinking(text, self.thinking)
        if rest is None:
            return []
        found = {
            "whole": lambda: [rest],
            "final": lambda: final_answers(rest),
            "boxed": lambda: boxed(rest),
            "tag": lambda: tagged(rest, self.tag),
            "last-line": lambda: [last_line(rest)],
        }[self.extract]()
        return found[-1:] if self.several == "last" else found

    def _written(self, gold: str) -> str:
        """A gold answer where it is looked for."""
        forms = {"final": "The answer is {}", "boxed": r"\boxed{{{}}}", "tag": f"<{self.tag}>{{}}</{self.tag}>"}
        return forms.get(self.extract, "{}").format(gold)


_SAMPLES = (
    ("What is the capital of Norway?", "Oslo"),
    ("Who wrote 'The Trial'?", "Franz Kafka"),
    ("Which gas do plants take in?", "carbon dioxide"),
    ("What is the chemical symbol of tungsten?", "W"),
)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [ExactMatch]
