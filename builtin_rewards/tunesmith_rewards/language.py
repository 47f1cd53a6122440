"""The share of words in the language that is asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

import tunesmith
from tunesmith import Reward, Rollout, did_you_mean

MARKS = "\u0300-\u036f"
"""Accents that are characters of their own."""
SCRIPTS: Mapping[str, str] = {
    "Latn": f"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\ua720-\ua7ff{MARKS}",
    "Cyrl": f"\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f{MARKS}",
    "Arab": "\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff"
    "\ufb50-\ufdff\ufe70-\ufefc",
    "Deva": "\u0900-\u0963\u0970-\u097f",
    "Beng": "\u0980-\u09e3\u09f0-\u09ff",
    "Grek": f"\u0370-\u03ff\u1f00-\u1fff{MARKS}",
    "Hebr": "\u0591-\u05f4\ufb1d-\ufb4f",
    "Ethi": "\u1200-\u1360\u1380-\u139f\u2d80-\u2ddf",
    "Armn": "\u0531-\u0556\u0559-\u0588",
    "Geor": "\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f",
    "Gujr": "\u0a80-\u0ae3",
    "Guru": "\u0a00-\u0a63\u0a70-\u0a75",
    "Orya": "\u0b00-\u0b63\u0b71",
    "Taml": "\u0b80-\u0be5",
    "Telu": "\u0c00-\u0c63",
    "Knda": "\u0c80-\u0ce3",
    "Mlym": "\u0d00-\u0d63\u0d7a-\u0d7f",
    "Sinh": "\u0d80-\u0de5\u0df2\u0df3",
    "Hang": "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff",
    "Thai": "\u0e01-\u0e4e",
    "Laoo": "\u0e81-\u0ece\u0edc-\u0edf",
    "Mymr": "\u1000-\u103f\u1050-\u109f",
    "Khmr": "\u1780-\u17d3",
    "Tibt": "\u0f00\u0f40-\u0fbc",
    "Kana": "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Hani": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
"""Letters of the scripts that are told apart, by their names in ISO 15924."""
UNSPACED = frozenset({"Thai", "Laoo", "Mymr", "Khmr", "Tibt", "Kana", "Hani"})
"""No spaces between words: every character counts as a word."""
OTHER = "Zyyy"
LANGUAGES: Mapping[str, str] = {
    "Latn": "af an az br bs ca crh cs cy da de en eo es et eu fi fo fr fy ga gd gl ha hr ht hu id ig is it jv ku la lb "
    "ln lt lv mg ms mt nl nn no nso oc om pl pt qu ro rw se sk sl sn so sq sr st sv sw tk tl tr uz vi vo wa xh yo zu",
    "Cyrl": "ba be bg kk ky mk mn ru sr tg tt uk",
    "Arab": "ar ary arz fa ps sdh ug ur",
    "Deva": "gom hi mr ne sa",
    "Beng": "as bn",
    "Kana": "ja",
    "Hani": "ja zh",
    **{"Grek": "el", "Hebr": "he", "Ethi": "am", "Armn": "hy", "Geor": "ka", "Gujr": "gu", "Guru": "pa", "Orya": "or"},
    **{"Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si", "Hang": "ko", "Thai": "th", "Laoo": "lo"},
    **{"Mymr": "my", "Khmr": "km", "Tibt": "dz"},
}
"""The languages that can be asked for by script, with their ISO 639 codes."""
KNOWN = frozenset(" ".join(LANGUAGES.values()).split())
WORD = re.compile(
    "|".join(f"(?P<{name}>[{letters}]{'' if name in UNSPACED else '+'})" for name, letters in SCRIPTS.items())
    + rf"|(?P<{OTHER}>[^\W\d_]+)"
)
ENCLOSED = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$", "`": "`"}
"""What opens and closes formulas and code; the last three within a line."""
DELIMITER = re.compile(r"\$\$|\\[\[\]()]|[$`\n]")
LEFT_OUT = re.compile(r"\\[A-Za-z]{1,40}|<[^<>\n]{1,200}>|\b(?:https?|ftp)://\S{1,2000}|\bwww\.\S{1,2000}")
"""LaTeX commands, tags, addresses."""
SENTENCE = re.compile(r"[^\n.!?\u3002\uff01\uff1f\u0964\u061f\u06d4]{1,2000}")
ENOUGH = 40
"""Letters from which a language can surely be told from others of the same script; of a line, half of them must do."""


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Language(Reward):
    """Words in the target language divided by all words; code, maths, tags and addresses are no words."""

    name: ClassVar[str] = "language"
    needs: ClassVar[tuple[str, ...]] = ("py3langid",)
    best: ClassVar[float | None] = 1.0
    language: Annotated[
        tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ]
    """Code of the language, such as de (ISO 639). Of several, all count: no,nn,da where they are hard to tell apart."""
    part: Literal["whole", "answer"] = "whole"
    """whole: the reasoning too. answer: only what follows it."""
    min_words: int = Field(default=8, ge=1)
    """A text of fewer words is not judged; in scripts without spaces, a character is a word."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for code in self.language:
            if code not in KNOWN:
                known = " ".join(sorted(KNOWN))
                raise ValueError(f"no language {code!r} is known{did_you_mean(code, KNOWN)}; known: {known}")
        return self

    def warm(self) -> None:
        """Load what tells languages of the same script apart, where that takes more than a look at the letters."""
        if any(_candidates(script) - {*self.language} for script in SCRIPTS if _candidates(script) & {*self.language}):
            _identifier()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A sentence or two in each of the languages that there is one for."""
        for code in self.language:
            if code in SAMPLES:
                yield {"prompt": "17 + 25?", "completion": SAMPLES[code]}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Score every completion; ``None`` where it holds too few words to tell."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float | None:
        from tunesmith.passages import after_thinking

        text = rollout.text if self.part == "whole" else after_thinking(rollout.text)
        right = total = 0
        for words in _segments(prose(text or "")):
            total += sum(len(found) for found in words.values())
            right += self._count(words)
        return right / total if total >= self.min_words else None

    def _count(self, words: Mapping[str, list[str]]) -> int:
        """The words of a segment that are in the target language."""
        right = 0
        for script, found in words.items():
            candidates = _candidates(script)
            if script == "Hani":  # Han is Japanese beside kana, and Chinese without
                candidates = frozenset({"ja" if "Kana" in words else "zh"})
            targets = candidates & {*self.language}
            if targets and (targets == candidates or _language_of(" ".join(found), candidates) in targets):
                right += len(found)
        return right


@lru_cache(maxsize=64)
def _candidates(script: str) -> frozenset[str]:
    """The languages that are written in a script."""
    return frozenset(LANGUAGES.get(script, "").split())


def prose(text: str) -> str:
    """The text without what is in no language: code, formulas, tags, addresses."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(line)
    # a tag ends a passage, and what follows it may be in another language
    return LEFT_OUT.sub(lambda f: "\n" if f[0][0] == "<" else " ", _without_formulas("\n".join(lines)))


def _without_formulas(text: str) -> str:
    """The text outside of formulas and inline code, found in one pass however they are nested or left open."""
    marks = list(DELIMITER.finditer(text))
    partners: list[int | None] = [None] * len(marks)
    upcoming: dict[str, int] = {}
    for index in range(len(marks) - 1, -1, -1):
        mark = marks[index][0]
        partner = upcoming.get(ENCLOSED.get(mark, ""))
        within_line = mark in ("\\(", "$", "`")
        if partner is not None and not (within_line and upcoming.get("\n", len(marks)) < partner):
            partners[index] = partner
        upcoming[mark] = index
    kept, start, index = [], 0, 0
    while index < len(marks):
        partner = partners[index]
        if partner is not None:
            kept.append(text[start : marks[index].start()])
            start, index = marks[partner].end(), partner
        index += 1
    return " ".join([*kept, text[start:]])


def _segments(text: str) -> Iterator[dict[str, list[str]]]:
    """The words of every sentence or few sentences by script; together at least so long that a language shows."""
    enough = max(ENOUGH, len(text) // 1000)  # what a long text costs is bounded too
    words: dict[str, list[str]] = {}
    letters = Counter[str]()
    for sentence in SENTENCE.finditer(text):
        for word in WORD.finditer(sentence[0]):
            script = word.lastgroup or OTHER
            words.setdefault(script, []).append(word[0])
            letters[script] += len(word[0])
        ends = text[sentence.end() : sentence.end() + 2].lstrip(".!?")[:1] == "\n"
        if max(letters.values(), default=0) >= (enough // 2 if ends else enough):
            yield words
            words, letters = {}, Counter()
    if words:
        yield words


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _language_of(text: str, candidates: frozenset[str]) -> str:
    """The likeliest of some languages."""
    return next(code for code, _ in _identifier().rank(text) if code in candidates)


SAMPLES: Mapping[str, str] = {
    "en": "First we add the tens, which makes thirty, and then the units, which makes twelve. The sum is forty-two.",
    "de": "Zuerst addieren wir die Zehner, das ergibt dreissig, danach die Einer. Die Summe ist also zweiundvierzig.",
    "fr": "On additionne d'abord les dizaines, ce qui fait trente, puis les unit\u00e9s. La somme est quarante-deux.",
    "es": "Primero sumamos las decenas, que dan treinta, y luego las unidades. La suma es cuarenta y dos.",
    "ru": "\u0421\u043d\u0430\u0447\u0430\u043b\u0430 \u0441\u043a\u043b\u0430\u0434\u044b\u0432\u0430\u0435\u043c "
    "\u0434\u0435\u0441\u044f\u0442\u043a\u0438, \u043f\u043e\u0442\u043e\u043c "
    "\u0435\u0434\u0438\u043d\u0438\u0446\u044b. \u0421\u0443\u043c\u043c\u0430 \u0440\u0430\u0432\u043d\u0430 "
    "\u0441\u043e\u0440\u043e\u043a\u0430 \u0434\u0432\u0443\u043c.",
    "zh": "\u5148\u628a\u5341\u4f4d\u6570\u76f8\u52a0\u5f97\u4e09\u5341\uff0c\u518d\u628a\u4e2a\u4f4d\u6570"
    "\u76f8\u52a0\u5f97\u5341\u4e8c\u3002\u548c\u662f\u56db\u5341\u4e8c\u3002",
    "ja": "\u307e\u305a\u5341\u306e\u4f4d\u3092\u8db3\u3057\u3066\u3001\u6b21\u306b\u4e00\u306e\u4f4d\u3092"
    "\u8db3\u3057\u307e\u3059\u3002\u7b54\u3048\u306f\u56db\u5341\u4e8c\u3067\u3059\u3002",
}
"""One text in some of the languages, to check the reward with."""


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Language]
