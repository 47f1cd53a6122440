"""One spelling for the many ways to write an answer; nothing is computed here."""

from __future__ import annotations

import re

from tunesmith_rewards.math.guards import FUNCTIONS

_UNICODE = str.maketrans(
    {
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u00b1": r"\pm ",
        "\u222a": r"\cup ",
        "\u2229": r"\cap ",
        "\u2208": r"\in ",
        "\u2205": r"\emptyset ",
        "\u00b0": r"^{\circ}",
        "\u03b1": r"\alpha ",
        "\u03b2": r"\beta ",
        "\u03b8": r"\theta ",
        "\u03bb": r"\lambda ",
        "\u03bc": r"\mu ",
        "\u211d": r"\mathbb{R}",
        "\u20ac": r"\text{euro}",
        "\u00a3": r"\text{pound}",
        "\u2019": "'",
    }
)
_RENAMED = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "leq": "le",
    "leqslant": "le",
    "geq": "ge",
    "geqslant": "ge",
    "neq": "ne",
    "lt": "<",
    "gt": ">",
    "ast": "*",
    "textrm": "text",
    "textit": "text",
    "textsf": "text",
    "mbox": "text",
    "hbox": "text",
    "rm": "",
    "varnothing": "emptyset",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "degree": r"^{\circ}",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "cfloor": "",
}
_LAYOUT = "left right displaystyle textstyle big Big bigg Bigg bigl bigr Bigl Bigr middle limits nolimits mathstrut"
_DROPPED = frozenset(_LAYOUT.split())
_SPACES = re.compile(r"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b|enspace\b|thinspace\b)|~")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_ROOT = re.compile("\u221a\\s*(?:\\(([^()]*)\\)|(\\d+|[A-Za-z]))")
_OUTER = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_STYLE = re.compile(r"\\(?:mathrm|mathbf|textbf|mathit|mathsf|boldsymbol|bm)\s*\{([^{}]*)\}")
_SUBSCRIPT = re.compile(r"_\s*([A-Za-z0-9])")
_POWER = re.compile(r"\^\s*(-?\d+(?:\.\d+)?)")
_POWER_BRACKET = re.compile(r"\^\s*\(([^()]*)\)")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*(\{)|(\d)\s*(?=\\))")
_QUOTED_NUMBER = re.compile(r"\\text\s*\{([^{}A-Za-z\\]*)\}")
_WORD = re.compile(r"(?<![\\A-Za-z{])(" + "|".join(sorted(FUNCTIONS, key=len, reverse=True)) + r")(?![A-Za-z])")
_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "inf": "infty", "infty": "infty", "oo": "infty"}
_DOUBLED = re.compile(r"(\{)\s*\{([^{}]*)\}\s*(\})")
_ROOT_BRACKET = re.compile(r"\\sqrt\s*\(([^()]*)\)")


def plain(text: str) -> str:
    """An answer without layout: marks around it, sizes, spaces that are only looked at, other names of commands."""
    from tunesmith.numerals import ascii_numerals

    text = text.strip()
    if text.isdecimal() and text.isascii():
        return text
    if not text.isascii():
        text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text).translate(_UNICODE)
        text = ascii_numerals(text)
    text = _unwrapped(text)
    text = text.replace("{,}", ",").replace(r"\!", "").replace("\n", " ")
    text = _SPACES.sub(" ", text)
    text = _COMMAND.sub(_renamed, text)
    quoted = _QUOTED_NUMBER.fullmatch(text)
    return _trimmed(quoted[1] if quoted else text)


def latex(text: str) -> str:
    """A plain answer as LaTeX that means the same: words for functions, powers, roots, stars."""
    text = _STYLE.sub(r"\1", text)
    text = text.replace("**", "^").replace("*", r" \cdot ")
    text = _WORD.sub(lambda m: "\\" + _FUNCTION.get(m[1], m[1]) + " ", text)
    text = re.sub(r"\\(sqrt|abs)\s+", r"\\\1", text)
    text = _ROOT_BRACKET.sub(r"\\sqrt{\1}", text)
    text = re.sub(r"\\abs\s*\(([^()]*)\)", r"|\1|", text)
    text = _POWER_BRACKET.sub(r"^{\1}", _POWER.sub(r"^{\1}", text))
    text = _SUBSCRIPT.sub(r"_{\1}", text)
    while (once := _DOUBLED.sub(r"\1\2\3", text)) != text:
        text = once
    return re.sub(r"\s+", " ", text).strip()


def words(text: str) -> str | None:
    r"""The words of an answer that is text (``\text{Monday}``, ``not enough information``), in lower case, else None.

    Single letters and names of functions are mathematics.
    """
    inner = re.sub(r"\\(?:text|textbf|mathrm|operatorname)\s*\{([^{}]*)\}", r" \1 ", text)
    quoted = inner != text and not re.sub(r"\\(?:text|textbf|mathrm|operatorname)\s*\{[^{}]*\}", "", text).strip(" .")
    inner = " ".join(inner.split()).strip(" .'\"").casefold()
    bare = re.fullmatch(r"[a-z][a-z'-]*(?: [a-z][a-z'-]*){0,5}", inner) is not None
    if not bare:
        letter = re.fullmatch(r"\(([a-z])\)", inner)
        return letter[1] if quoted and letter else inner if quoted and re.search("[a-z]", inner) else None
    return inner if quoted or (len(inner) > 2 and inner not in FUNCTIONS) else None


def _renamed(match: re.Match[str]) -> str:
    name = match[1]
    if name in _DROPPED:
        return ""
    new = _RENAMED.get(name, name)
    return "\\" + new if new[:1].isalpha() else new


def _unwrapped(text: str) -> str:
    for _ in range(3):
        text = text.strip()
        for left, right in _OUTER:
            inner = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inner.strip() and left not in inner:
                text = inner
    return text.strip()


def _trimmed(text: str) -> str:
    text = " ".join(text.split())
    while text and text[-1] in ".,;:" and not text.endswith("\\,"):
        text = text[:-1].rstrip()
    return text
