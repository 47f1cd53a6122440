"""What is refused before a computer algebra system sees it: reading or comparing it could take for ever."""

from __future__ import annotations

import re

MAX_LENGTH = 1000
MAX_EXPRESSION = 300
"""Characters of one value; a list of values may be longer."""
MAX_NESTING = 8
"""The parser's time grows steeply with it: a third of a second at 8, hours at 30."""
MAX_BARS = 8
MAX_DIGITS = 100
MAX_POWER = 1000
MAX_COUNTED = 100
"""The largest number under a factorial or in a binomial coefficient."""
MAX_ITEMS = 50

_COMMANDS = """
frac sqrt pi cdot times div pm infty le ge lt gt ne neq leq geq in cup cap
sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth log ln lg exp
binom circ degree text mathrm textbf mathbf operatorname mathbb mathcal overline bar
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon
phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
lfloor rfloor lceil rceil lvert rvert vert mid langle rangle emptyset varnothing setminus
begin end ldots cdots dots prime max min gcd lcm det imath
"""
COMMANDS = frozenset(_COMMANDS.split())
"""LaTeX commands that an answer may hold."""
_FUNCTIONS = """
sin cos tan cot sec csc sinh cosh tanh coth log ln lg exp sqrt arcsin arccos arctan asin acos atan abs pi max min
gcd lcm det inf infty oo
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Words that an answer may hold without a backslash; other words are text."""
_ENVIRONMENTS = frozenset({"pmatrix", "bmatrix", "vmatrix", "matrix", "Bmatrix", "smallmatrix"})
_SIGN = re.compile(r"\\[A-Za-z]+|\\.")
_QUOTED = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|operatorname|mathbb|mathcal)\s*\{[^{}]*\}|\\(?:begin|end)\{[^{}]*\}"
)
_ADJACENT = re.compile(r"\d\s+\.?\d")
_BRACKETS = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp)[a-z]*(?:_\{?\w+\}?)?\s*[({]|\\.|[{}()\[\]]")
"""A bracket, with the function that it belongs to: those cost the parser twice as much."""
_COUNTING = re.compile(r"!|\\binom")
_TOWER = re.compile(r"(?:\^|\*\*)")


def problem(latex: str) -> str | None:
    """Why an expression is not looked at, or ``None`` where it is fine."""
    if len(latex) > MAX_EXPRESSION:
        return f"it has more than {MAX_EXPRESSION} characters"
    if max(map(len, re.findall(r"\d+", latex)), default=0) > MAX_DIGITS:
        return f"it has a number of more than {MAX_DIGITS} digits"
    return _nested(latex) or _unknown(latex) or _explosive(latex)


def _nested(latex: str) -> str | None:
    """Deep or unbalanced brackets. Half-open intervals are taken apart before, so round and square ones pair up."""
    opened: list[int] = []
    deepest = 0
    for mark in _BRACKETS.findall(latex):
        if mark[-1] in "{([" and (len(mark) != 2 or mark[0] != "\\"):
            opened.append(2 if len(mark) > 1 else 1)
            deepest = max(deepest, sum(opened))
        elif mark in ("}", ")", "]"):
            if not opened:
                return "its brackets do not pair up"
            opened.pop()
    if opened or latex.count("|") % 2:
        return "its brackets do not pair up"
    deep = deepest > MAX_NESTING or latex.count("|") > MAX_BARS
    return f"it is nested more than {MAX_NESTING} deep" if deep else None


def _unknown(latex: str) -> str | None:
    for sign in _SIGN.findall(latex):
        if len(sign) > 2 and sign[1:] not in COMMANDS:
            return f"it holds {sign}"
        if len(sign) == 2 and sign[1:].isalpha() and sign[1:] not in COMMANDS:
            return f"it holds {sign}"
    if any(name not in _ENVIRONMENTS for name in re.findall(r"\\begin\{([^{}]*)\}", latex)):
        return "it holds an environment that is no matrix"
    for word in re.findall(r"[A-Za-z]{4,}", _SIGN.sub(" ", _QUOTED.sub(" ", latex))):
        if word.lower() not in FUNCTIONS:
            return f"it holds the word {word!r}"
    return "it holds numbers side by side" if _ADJACENT.search(latex) else None


def _explosive(latex: str) -> str | None:
    """Counting functions and powers of powers of numbers that are large already as text."""
    numbers = [int(digits) for digits in re.findall(r"\d+", latex)]
    if _COUNTING.search(latex):
        if latex.count("!") + latex.count("\\binom") > 4 or re.search(r"!\s*[!)}]*\s*!", latex):
            return "it holds too many factorials"
        if max(numbers, default=0) > MAX_COUNTED:
            return f"it counts with numbers beyond {MAX_COUNTED}"
        if "\\binom" in latex and ("!" in latex or _TOWER.search(latex)):
            return "it holds a power or a factorial and a binomial coefficient"
    return "it holds too many powers" if len(_TOWER.findall(latex)) > 40 else None
