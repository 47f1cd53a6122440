"""Numbers as people write them, read exactly."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 100
MAX_EXPONENT = 400
_SUPERSCRIPTS = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-"
)
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2012\u2013\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00d7\u22c5\u00b7", "*"),
        **dict.fromkeys("\u2215\u2044\u00f7", "/"),
        "\u066b": ".",
        "\u066c": ",",
    }
)
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?:[ ]\d{3})+(?:\.\d*)?"
_POWER = (
    r"(?:\s*(?:\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*(?P<braced>[+-]?\d+)\s*\}|\(?(?P<power>[+-]?\d+)\)?))"
)
_NUMBER = re.compile(rf"(?P<body>{_GROUPED}|{_DECIMAL})(?:[eE](?P<e>[+-]?\d+)|{_POWER})?")
_BARE_POWER = re.compile(r"10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?\d+)\s*\}|\(?([+-]?\d+)\)?)")
_RATIO = re.compile(rf"({_DECIMAL})\s*/\s*(-?{_DECIMAL})")
_FRAC = re.compile(rf"\\[dtc]?frac\s*(?:\{{\s*(-?{_DECIMAL})\s*\}}|(\d))\s*(?:\{{\s*(-?{_DECIMAL})\s*\}}|(\d))")
_MIXED = re.compile(r"(\d+)\s*(?:(?:[ ]|\\[ ,;])\s*(\d+)\s*/\s*(\d+)|\\[dtc]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\})")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{\s*(\d+)\s*\}")


def ascii_numerals(text: str) -> str:
    """Text with digits of every script, full-width letters, superscripts, signs and fractions in one sign as ASCII."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]), text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def numeral(text: str, *, thousands: bool = True) -> Fraction | None:
    r"""The exact value of a number, or ``None`` where the text is anything else.

    Read are integers, decimals, thousands apart (``1,000``, ``1 000``) where ``thousands`` says so, ``1.5e3``,
    ``1.5 \times 10^{3}``, ``1/3``, ``\frac{1}{3}``, ``2 1/2``, ``0.\overline{3}``, each with a sign. Numbers of more
    than 100 digits or with exponents beyond 400 are not read.
    """
    text = ascii_numerals(text).strip()
    if len(text) > 4 * MAX_DIGITS:
        return None
    sign = 1
    if text[:1] in ("-", "+"):
        sign, text = (-1 if text[0] == "-" else 1), text[1:].lstrip()
    value = _unsigned(text, thousands)
    return None if value is None else sign * value


def _unsigned(text: str, thousands: bool) -> Fraction | None:
    if len(text) <= MAX_DIGITS and text.isdecimal():
        return Fraction(int(text))
    if found := _NUMBER.fullmatch(text):
        return _scaled(found, thousands)
    if max(map(len, re.findall(r"\d+", text)), default=0) > MAX_DIGITS:
        return None
    if found := _BARE_POWER.fullmatch(text):
        return _times_power(Fraction(1), found[1] or found[2])
    if found := _MIXED.fullmatch(text):
        whole, a, b = int(found[1]), int(found[2] or found[4]), int(found[3] or found[5])
        return whole + Fraction(a, b) if b else None
    if found := _RATIO.fullmatch(text) or _FRAC.fullmatch(text):
        parts = [Fraction(part) for part in found.groups() if part is not None]
        return parts[0] / parts[1] if parts[1] else None
    if found := _REPEATING.fullmatch(text):
        return _repeating(*found.groups())
    return None


def _scaled(found: re.Match[str], thousands: bool) -> Fraction | None:
    body = found["body"]
    if not thousands and ("," in body or " " in body):
        return None
    body = body.replace(",", "").replace(" ", "")
    if len(body) > MAX_DIGITS:
        return None
    return _times_power(Fraction(body.rstrip(".")), found["e"] or found["braced"] or found["power"] or "0")


def _times_power(body: Fraction, exponent: str) -> Fraction | None:
    if len(exponent) > 4 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    return body * Fraction(10) ** int(exponent)


def _repeating(whole: str, once: str, again: str) -> Fraction:
    """0.1666... written as 0.1 and an overlined 6."""
    start = Fraction(int((whole or "0") + once), 10 ** len(once))
    return start + Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(once))
