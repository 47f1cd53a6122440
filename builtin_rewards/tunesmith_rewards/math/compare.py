"""Whether an answer is the right one, by rules that are stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from tunesmith_rewards.math.answers import NAME, Answer
from tunesmith_rewards.math.expressions import UnknownFunction, equal, parse, proportional, tame

HUNDREDTH = Fraction(1, 100)
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_SETS = ("", "{}", "u")


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as the same; the settings of the reward."""

    percent: Literal["match", "ignore", "value"] = "match"
    units: Literal["if-both", "match", "ignore"] = "if-both"
    order: Literal["brackets", "always", "never"] = "brackets"
    brackets: Literal["match", "ignore"] = "match"
    intervals: Literal["match", "inequalities"] = "match"
    tolerance: Fraction = Fraction(0)
    symmetric: bool = True


def right(gold: Answer, answer: Answer, rules: Rules) -> bool:
    """Whether an answer is the gold one. The cheap comparisons come first; most answers need no other."""
    if "text" in (gold.kind, answer.kind):
        return _same_text(gold, answer)
    if rules.intervals == "inequalities":
        gold, answer = _interval(gold), _interval(answer)
    if "relation" in (gold.kind, answer.kind):
        return _related(gold, answer, rules)
    if "list" in (gold.kind, answer.kind):
        return _listed(gold, answer, rules)
    return _marks(gold, answer, rules) and _same_value(gold, answer, rules)


def readable(gold: Answer) -> bool:
    """Whether every part of a gold answer can be compared with something."""
    if gold.items:
        return all(map(readable, gold.items))
    if gold.kind in ("text", "list") or gold.number is not None or _is_infinite(gold.text):
        return True
    return parse(gold.text) is not None


# ------------------------------------------------------------------------------------------------ values
def _same_text(gold: Answer, answer: Answer) -> bool:
    if gold.kind == answer.kind == "text":
        return gold.text == answer.text
    text, value = (gold, answer) if gold.kind == "text" else (answer, gold)
    return value.kind == "value" and value.text.strip("() ").casefold() == text.text.strip("() ")


def _marks(gold: Answer, answer: Answer, rules: Rules) -> bool:
    """Percent signs and units, where they matter."""
    if rules.percent == "match" and gold.percent != answer.percent:
        return False
    if rules.units == "ignore" or gold.unit == answer.unit:
        return True
    return rules.units == "if-both" and not (gold.unit and answer.unit)


def _same_value(gold: Answer, answer: Answer, rules: Rules) -> bool:
    scales = [HUNDREDTH if a.percent and rules.percent == "value" else Fraction(1) for a in (gold, answer)]
    if gold.number is not None and answer.number is not None:
        number = gold.number * scales[0]
        return abs(number - answer.number * scales[1]) <= rules.tolerance * abs(number)
    if gold.text == answer.text and scales[0] == scales[1]:
        return True
    if _is_infinite(gold.text) or _is_infinite(answer.text):
        return gold.text.replace(" ", "").lstrip("+") == answer.text.replace(" ", "").lstrip("+")
    return _same_expression(_expression(gold, scales[0]), _expression(answer, scales[1]), rules)


def _expression(answer: Answer, scale: Fraction) -> Any:
    import sympy

    number = answer.number
    if number is not None:
        return sympy.Rational((number * scale).numerator, (number * scale).denominator)
    found = parse(answer.text)
    if found is None or scale == 1:
        return found
    return sympy.Mul(found, sympy.Rational(1, 100), evaluate=False)


def _same_expression(gold: Any, answer: Any, rules: Rules) -> bool:
    if gold is None or answer is None:
        return False
    try:
        return equal(gold, answer, rules.tolerance)
    except UnknownFunction:
        return _verified(gold, answer, rules.symmetric)


def _verified(gold: Any, answer: Any, symmetric: bool) -> bool:
    """What math-verify says of expressions that have no values at points, such as f(x) or sets of numbers."""
    import math_verify
    from math_verify.errors import TimeoutException

    if not (tame(gold) and tame(answer)):
        return False
    pairs = [(gold, answer), (answer, gold)][: 2 if symmetric else 1]
    try:
        return all(math_verify.verify(a, b, float_rounding=15, timeout_seconds=None) for a, b in pairs)
    except (TimeoutException, RecursionError):
        return False


def _is_infinite(text: str) -> bool:
    return text.replace(" ", "").lstrip("+-") == r"\infty"


# ------------------------------------------------------------------------------------------------ lists and relations
def _listed(gold: Answer, answer: Answer, rules: Rules) -> bool:
    if gold.kind != answer.kind:
        one, other = (gold, answer) if gold.kind == "list" else (answer, gold)
        return len(one.items) == 1 and _brackets_agree(one.brackets, "", rules) and right(one.items[0], other, rules)
    if len(gold.items) != len(answer.items) or not _brackets_agree(gold.brackets, answer.brackets, rules):
        return False
    ordered = rules.order == "always" or (rules.order == "brackets" and gold.brackets not in _SETS)
    if ordered:
        return all(right(g, a, rules) for g, a in zip(gold.items, answer.items, strict=True))
    return _matched(gold.items, answer.items, rules)


def _matched(gold: Sequence[Answer], answers: Sequence[Answer], rules: Rules) -> bool:
    """Every item has a partner of its own, in any order."""
    left = list(answers)
    for item in gold:
        partner = next((i for i, answer in enumerate(left) if right(item, answer, rules)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _brackets_agree(gold: str, answer: str, rules: Rules) -> bool:
    if "u" in (gold, answer):
        return gold == answer
    return rules.brackets == "ignore" or gold == answer or {gold, answer} == {"", "{}"}


def _related(gold: Answer, answer: Answer, rules: Rules) -> bool:
    if gold.kind != "relation":
        return _states(answer, gold, rules)
    if answer.kind != "relation":
        return _is_assignment(gold) and right(gold.items[-1], answer, rules)
    if _is_assignment(gold) and _is_assignment(answer) and _name(gold) == _name(answer):
        return all(right(gold.items[-1], side, rules) for side in answer.items[1:])
    if len(gold.items) == len(answer.items) == 2:
        return _same_relation(gold, answer, rules)
    return any(_same_sides(gold, turned, rules) for turned in (answer, _turned(answer)))


def _states(answer: Answer, gold: Answer, rules: Rules) -> bool:
    """``x = 5``, ``x = 2 + 3 = 5`` and ``2 + 3 = 5`` say 5; ``4 = 5`` says nothing that is true."""
    if set(answer.operators) not in ({"="}, {r"\in"}):
        return False
    sides = answer.items[1:] if _is_name(answer.items[0]) else answer.items
    return all(right(gold, side, rules) for side in sides)


def _same_sides(gold: Answer, answer: Answer, rules: Rules) -> bool:
    if gold.operators != answer.operators or len(gold.items) != len(answer.items):
        return False
    return all(right(g, a, rules) for g, a in zip(gold.items, answer.items, strict=True))


def _same_relation(gold: Answer, answer: Answer, rules: Rules) -> bool:
    """Two sides and one operator: the same after moving terms over and multiplying by a constant."""
    if any(_same_sides(gold, turned, rules) for turned in (answer, _turned(answer))):
        return True
    answer = answer if answer.operators == gold.operators else _turned(answer)
    operator = gold.operators[0]
    if answer.operators != gold.operators or operator == r"\in":
        return False
    differences = [_difference(side) for side in (gold, answer)]
    if differences[0] is None or differences[1] is None:
        return False
    try:
        return proportional(*differences, positive=operator in _FLIPPED)
    except UnknownFunction:
        return False


def _difference(relation: Answer) -> Any:
    import sympy

    sides = [_expression(side, Fraction(1)) if side.kind == "value" else None for side in relation.items]
    if any(side is None or isinstance(side, sympy.MatrixBase) for side in sides):
        return None
    minus = sympy.Mul(sympy.Integer(-1), sides[1], evaluate=False)
    return sympy.Add(sides[0], minus, evaluate=False)


def _turned(relation: Answer) -> Answer:
    """``3 > x`` for ``x < 3``."""
    operators = tuple(_FLIPPED.get(operator, operator) for operator in reversed(relation.operators))
    return Answer("relation", items=tuple(reversed(relation.items)), operators=operators)


def _is_name(side: Answer) -> bool:
    return side.kind == "value" and side.number is None and not side.unit and NAME.fullmatch(side.text) is not None


def _is_assignment(relation: Answer) -> bool:
    return set(relation.operators) in ({"="}, {r"\in"}) and _is_name(relation.items[0])


def _name(relation: Answer) -> str:
    return relation.items[0].text.replace(" ", "")


def _interval(answer: Answer) -> Answer:
    """The interval that an inequality of one variable describes; anything else as it is."""
    if answer.kind != "relation" or not set(answer.operators) <= set(_FLIPPED):
        return answer
    if answer.operators[0] in (">", r"\ge"):
        answer = _turned(answer)
    if not set(answer.operators) <= {"<", r"\le"}:
        return answer
    low, high = Answer("value", r"-\infty"), Answer("value", r"\infty")
    marks = {"<": ("(", ")"), r"\le": ("[", "]")}
    left, right_ = "(", ")"
    sides, operators = answer.items, answer.operators
    if len(sides) == 3 and _is_name(sides[1]):
        low, high, left, right_ = sides[0], sides[2], marks[operators[0]][0], marks[operators[1]][1]
    elif len(sides) == 2 and _is_name(sides[0]):
        high, right_ = sides[1], marks[operators[0]][1]
    elif len(sides) == 2 and _is_name(sides[1]):
        low, left = sides[0], marks[operators[0]][0]
    else:
        return answer
    return Answer("list", brackets=left + right_, items=(low, high))
