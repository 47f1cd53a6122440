"""Answers that are one of several given choices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import tunesmith
from tunesmith import Fault, Reward, Rollout

LETTERS = "ABCDEFGHIJ"
_ALONE = re.compile(r"(?:option|choice|answer)?\s*[(\[]?([A-J])[)\].:]?", re.IGNORECASE)
_LABELLED = re.compile(r"(?:(?:option|choice|answer)\s+)?(?:[(\[]([A-J])[)\]]|([A-J])[).:])(?:\s+|$)(.*)", re.DOTALL)
_STATED = re.compile(r"(?:option|choice)\s+[(\[]?([A-J])[)\]]?(?![\w'])", re.IGNORECASE)
_LEADING = re.compile(r"([B-J])(?=\s*(?:[,;.-]|because|since|as\b|$))")
_LABELS = re.compile(
    r"[(\[][A-J][)\]]|(?<![\w'])[A-J][).:](?=\s|$)|(?:(?<![\w'])(?:or|and|but)|[,;/&])\s*[A-J](?![\w'])"
)
_WRAP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")


class MultipleChoice(Reward):
    """1 where the final answer is the right choice, by its letter or its text, else 0."""

    name: ClassVar[str] = "multiple-choice"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    answer: str = "answer"
    """Column of the right choice: its letter, its place (from 0, with `choices`) or its text."""
    choices: str | None = None
    """Column of the texts of the choices, in order; with it an answer may also be the text of one."""
    extract: Literal["auto", "boxed", "final", "last-line", "whole"] = "auto"
    """Where the answer stands after the thinking; auto: in a box, else behind a phrase ("the answer is", answer tags),
    else it is everything or the last line."""
    several: Literal["wrong", "last"] = "wrong"
    """Different choices as the answer of one completion: wrong, or the last one counts."""
    thinking: tuple[str, ...] = ("think", "thinking")
    """Tags of the thinking block, whose content is no answer."""

    def columns(self) -> Iterable[str]:
        """The column of the right choice, and that of the choices where there is one."""
        return (self.answer, self.choices) if self.choices else (self.answer,)

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Questions whose right choices are all different letters."""
        form = {"final": "The answer is ({}).", "auto": r"So it is \boxed{{{}}}.", "boxed": r"\boxed{{{}}}"}
        for letter, (question, choices) in zip("BDAEC", _SAMPLES, strict=True):
            options = "\n".join(f"{name}. {choice}" for name, choice in zip(LETTERS, choices, strict=False))
            row = {"prompt": f"{question}\n{options}", self.answer: letter}
            row |= {self.choices: list(choices)} if self.choices else {}
            yield {**row, "completion": form.get(self.extract, "{}").format(letter)}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for the right choice, 0.0 for any other; a gold answer that is no choice is an error."""
        return [self._judge(rollout) for rollout in rollouts]

    def _judge(self, rollout: Rollout) -> float | Fault:
        try:
            choices = self._choices(rollout.columns)
            gold = self._gold(rollout.columns.get(self.answer), choices)
        except ValueError as error:
            return Fault("error", str(error))
        found = {self._letter(text, choices) for text in self._answers(rollout.text, choices)}
        return float(found == {gold})

    def _choices(self, columns: Mapping[str, Any]) -> list[str]:
        """The texts of the choices, none without a column for them."""
        if self.choices is None:
            return []
        given = columns.get(self.choices)
        if isinstance(given, Mapping):  # {"text": [...], "label": [...]}, as some sets of questions hold it
            given = given.get("text")
        if not isinstance(given, list | tuple) or not 2 <= len(given) <= len(LETTERS):
            raise ValueError(
                f"column {self.choices!r}: a list of 2 to {len(LETTERS)} choices is expected, not {given!r}"
            )
        return [str(choice) for choice in given]

    def _gold(self, gold: Any, choices: Sequence[str]) -> str:
        allowed = LETTERS[: len(choices)] if choices else LETTERS
        if isinstance(gold, int) and not isinstance(gold, bool) and choices and 0 <= gold < len(choices):
            return LETTERS[gold]
        if isinstance(gold, str):
            same = [i for i, choice in enumerate(choices) if _folded(choice) == _folded(gold)]
            if len(same) == 1:
                return LETTERS[same[0]]
            letter = _ALONE.fullmatch(_bare(gold))
            if letter and letter[1].upper() in allowed:
                return letter[1].upper()
        raise ValueError(f"column {self.answer!r}: {gold!r} is none of the choices")

    def _answers(self, text: str, choices: Sequence[str]) -> list[str]:
        from tunesmith.passages import after_thinking, boxed, final_answers, last_line

        rest = after_thinking(text, self.thinking)
        if rest is None or not rest.strip():
            return []
        found: list[str] = []
        if self.extract in ("auto", "boxed"):
            found = boxed(rest)
        if self.extract in ("auto", "final"):
            found = found or final_answers(rest)
        if self.extract == "whole" or (self.extract == "auto" and not found and self._letter(rest, choices)):
            found = [rest]
        if self.extract == "last-line" or (self.extract == "auto" and not found):
            found = [] if _ends_in_choices(rest) else [last_line(rest)]
        return found[-1:] if self.several == "last" else found

    def _letter(self, text: str, choices: Sequence[str]) -> str | None:
        """The letter of the choice that a text names, ``None`` where it names none or more than one."""
        text = _bare(text)
        if len(text) > 2000:
            return None
        same = [i for i, choice in enumerate(choices) if _folded(choice) == _folded(text)]
        if len(same) == 1:
            return LETTERS[same[0]]
        if alone := _ALONE.fullmatch(text):
            return alone[1].upper()
        labelled = _LABELLED.match(text)
        if labelled and not _labels(labelled[3]):
            letter = labelled[1] or labelled[2]
            return letter if self._belongs(letter, labelled[3], choices) else None
        if labelled:
            return None
        stated = _STATED.match(text) or _LEADING.match(text)
        return stated[1].upper() if stated and not _labels(text[stated.end() :]) else None

    def _belongs(self, letter: str, text: str, choices: Sequence[str]) -> bool:
        """False where the text behind a letter is that of another choice."""
        others = [_folded(c) for name, c in zip(LETTERS, choices, strict=False) if name != letter]
        own = [_folded(c) for name, c in zip(LETTERS, choices, strict=False) if name == letter]
        return _folded(text) not in others or _folded(text) in own


def _ends_in_choices(text: str) -> bool:
    """Whether the last lines list choices, as a copied question does; that is no answer."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(_LABELLED.match(_bare(line)) for line in lines[-2:])


def _labels(text: str) -> list[str]:
    """Letters that label a choice within a text; a capital alone is none, since it may be a word."""
    return _LABELS.findall(text)


def _bare(text: str) -> str:
    from tunesmith.passages import unwrapped

    text = _WRAP.sub(r"\1", unwrapped(text)).replace("**", "")
    return unwrapped(text).strip(" \n.,;")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:")


_SAMPLES = (
    ("Which planet is known for its rings?", ("Mars", "Saturn", "Venus", "Mercury", "Neptune")),
    ("Which is a prime number?", ("221", "323", "437", "541", "667")),
    ("Which animal is a mammal?", ("whale", "shark", "tuna", "squid", "eel")),
    ("Which language is written from right to left?", ("Greek", "Finnish", "Hindi", "Swahili", "Arabic")),
    ("Which metal is liquid at room temperature?", ("iron", "copper", "mercury", "zinc", "lead")),
)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [MultipleChoice]
