"""The words of a text by script, without what is in no language: code, formulas, tags, addresses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

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


def segments(text: str) -> Iterator[dict[str, list[str]]]:
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
