"""Answers that deserve nothing, and answers that break what reads them."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NUMBERS = range(101)
TAGS = (
    "<think></think><answer></answer>",
    "<think>\n\n</think>\n<answer> </answer>",
    "<answer></answer>",
    "\\boxed{}",
    "```python\n```",
    "{}",
    "[]",
)
FORMS = ("{}", "\\boxed{{{}}}", "<answer>{}</answer>", "#### {}", "The answer is {}.")
"""How a bare value is written as an answer: alone, or where verifiers look for one."""
FENCES = (*FORMS[:3], "```python\n{}\n```")
LONG_WORDS = 20_000
ODD = "4713"
"""A number that is hardly the answer to anything."""
WRAPPED_CHARACTERS = 20_000
"""Longer texts that break things are tried bare only."""

Row = Mapping[str, Any]


# ---------------------------------------------------------------------------------------------- deserve nothing
Answered = list[tuple[int, str]]
"""Numbers of rows and the answers to them."""


def null_policies(rows: Sequence[Row], columns: Sequence[str], seed: int = 0) -> dict[str, list[Answered]]:
    """Ways of answering without knowing anything, by name; each in one or several variants.

    Args:
        rows: each with a ``prompt``, a right ``completion`` and the columns of the reward.
        columns: those that the reward compares answers with; another row's answer is taken from a row that differs in
            all of them if there is one, since equal columns may mean that the same answer is right.
        seed: of the random letters.
    """
    draw = random.Random(seed)
    count = range(len(rows))
    all_at_once = " ".join(map(str, NUMBERS))

    def always(texts: Sequence[str]) -> list[Answered]:
        return [[(i, text) for i in count] for text in texts]

    policies = {
        "empty": always(["", " \n\t "]),
        "the prompt copied": [[(i, said(rows[i]["prompt"])) for i in count]],
        "a number from 0 to 100": [[(i, FORMS[(i + k) % len(FORMS)].format(k)) for i in count for k in NUMBERS]],
        "all numbers from 0 to 100": always([form.format(all_at_once) for form in FORMS]),
        "tags only": always(TAGS),
        "another row's answer": [[(i, said(rows[j]["completion"])) for i, j in _others(rows, columns)]],
        "random letters": [[(i, form.format(_letters(draw))) for i in count] for form in FORMS],
        "very long text": [[(i, " ".join(_letters(draw, 1) for _ in range(LONG_WORDS))) for i in count[:3]]],
    }
    return {name: variants for name, variants in policies.items() if variants[0]}


def said(passage: Any) -> str:
    """The text of a passage; of messages, what the last one says."""
    return passage if isinstance(passage, str) else str(passage[-1].get("content") or "")


def _letters(draw: random.Random, words: int = 8) -> str:
    """Words of four to nine small letters: single letters may be the answer to a question with choices."""
    drawn = ("".join(draw.choices(string.ascii_lowercase, k=draw.randint(4, 9))) for _ in range(words))
    return " ".join(drawn)


def _others(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """For each row one whose answer should be wrong for it."""
    for i in range(len(rows)):
        later = [(i + step) % len(rows) for step in range(1, len(rows))]
        differing = [j for j in later if said(rows[j]["completion"]) != said(rows[i]["completion"])]
        strict = [j for j in differing if columns and all(rows[j].get(c) != rows[i].get(c) for c in columns)]
        loose = [j for j in differing if any(rows[j].get(c) != rows[i].get(c) for c in columns)]
        if strict or loose:
            yield i, (strict or loose)[0]


# ---------------------------------------------------------------------------------------------- break things
def hostile() -> dict[str, str]:
    """Answers that make parsers hang, recurse or fall over, by what they are."""
    found: dict[str, str] = {}
    for name, text in _hostile():
        for form in FENCES if len(text) <= WRAPPED_CHARACTERS else FENCES[:1]:
            found[name if form == "{}" else f"{name}, in {form.format('...')!r}"] = form.format(text)
    return found


def _hostile() -> Iterator[tuple[str, str]]:
    yield "300 nested parentheses", "(" * 300 + ODD + ")" * 300
    yield "10,000 open parentheses", "(" * 10_000
    yield "open braces", "\\boxed{" * 1_000 + "{" * 1_000
    yield "500 nested fractions", "\\frac{1}{" * 500 + ODD + "}" * 500
    yield "500 nested roots", "\\sqrt{" * 500 + ODD + "}" * 500
    yield "100,000 digits", "4713" * 25_000
    yield "20,000 digits with blanks", f"{ODD} " * 5_000
    yield "a tower of powers", "97^{97^{97^{97^{97}}}}"
    yield "a tower of powers in Python", "97**97**97**97"
    yield "a huge factorial", "100000000!"
    yield "a huge binomial", "\\binom{1000000000}{500000000}"
    yield "a huge power of a sum", "(1+10^{-97})^{10^{97}}"
    yield "a huge exponent", "1e999999999"
    yield "division by zero", f"\\frac{{{ODD}}}{{0}}"
    yield "a list of 20,000 numbers", "{" + ",".join(map(str, range(4_000))) + "}"
    yield "100,000 nested JSON lists", "[" * 100_000 + "]" * 100_000
    yield "20,000 open JSON objects", '{"a":' * 20_000
    yield "JSON with a number of 10,000 digits", '{"answer": ' + "9" * 10_000 + "}"
    yield "JSON that is not a number", '{"answer": NaN, "a": Infinity, "a": -4713e4713}'
    yield "50,000 times a, then !", "a" * 50_000 + "!"
    yield "50,000 blanks, then x", " " * 50_000 + "x"
    yield "100,000 line breaks", "\n" * 100_000
    yield "open tags", "<think>" * 1_000 + "<answer>" * 1_000
    yield "closed tags that were never opened", "</think></answer>" * 1_000
    yield "tags inside of each other", "<think><answer></think></answer>" * 500
    yield "an open code block", "```python\n" * 500
    yield (
        "digits and letters of many scripts",
        "\u0664\u0667\u0661\u0663 \u00bd\u00b2\u216b \U0001d7dc\U0001d7df\ufdfde\u0301\u00df\u0130\u56db\u4e03",
    )
    yield "invisible and right-to-left characters", "\u202e4713\u200b\u2066\ufeff\u00ad\u2028\u2029\u200d"
    yield "emoji", "\U0001f1e9\U0001f1ea\U0001f469\u200d\U0001f469\u200d\U0001f467" * 50
    yield "combining marks", "a" + "\u0301" * 10_000
    yield "control characters", "".join(map(chr, range(1, 32))) + "\x7f\x9b4713m\x1b]4713;title\x07"
    yield "NUL", f"{ODD}\x00{ODD}\x00"
    yield "half a surrogate pair", f"{ODD} \ud800 {ODD}"
    yield "format directives", "%s%n{4713}{__class__}$(id)`id`{{4713*4713}}"
    yield "backslashes", "\\" * 9_999
    yield "quotes", "'\"" * 5_000
    yield "1 MB of words", "lorem ipsum " * 87_381
    yield "1 MB without a blank", "x" * 1_048_576
