"""Expressions: read by math-verify, compared at points with many digits.

A comparison at points always ends, which simplifying does not: two expressions that agree to 40 digits at random
points, and keep agreeing with 60 digits more, are the same.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from tunesmith_rewards.math.guards import MAX_COUNTED, MAX_POWER, problem

DIGITS, MORE_DIGITS = 40, 100
POINTS = 8
MAX_NODES = 2000
_FUNCTIONS = "sin cos tan cot sec csc sinh cosh tanh coth asin acos atan acot asec acsc"
"""What has the same name in mpmath."""
LARGEST = 20_000.0
"""Natural logarithm of the largest number that is computed with."""
MAX_BITS = 20_000


class UnknownFunction(ValueError):
    """An expression holds what cannot be computed at a point."""


class TooLarge(ValueError):
    """An expression holds a number that is not computed."""


@lru_cache(maxsize=4096)
def parse(latex: str) -> Any:
    """The expression, or ``None`` where it is refused or cannot be read."""
    if problem(latex):
        return None
    import math_verify

    # it warns of the very thing that is meant: time is limited from outside, by ending the process
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    config = [math_verify.LatexExtractionConfig(boxed_match_priority=-1)]
    try:
        found = math_verify.parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    except (ArithmeticError, RecursionError, TypeError, ValueError, AttributeError, NotImplementedError):
        return None
    return found[0] if found and _small(found[0]) else None


def equal(a: Any, b: Any, tolerance: Fraction = Fraction(0)) -> bool:
    """Whether two expressions are the same everywhere; numbers may differ by ``tolerance`` of the first."""
    import sympy

    if a == b:
        return True
    if isinstance(a, sympy.MatrixBase) or isinstance(b, sympy.MatrixBase):
        if not (isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase)) or a.shape != b.shape:
            return False
        return all(equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    try:
        x, y = exact(a), exact(b)
        if x is not None and y is not None:
            return abs(x - y) <= tolerance * abs(x)
        return _agree(a, b, tolerance)
    except (TooLarge, ZeroDivisionError):
        return False


def proportional(a: Any, b: Any, *, positive: bool) -> bool:
    """Whether one expression is a constant multiple of the other, by a positive constant where that is asked for."""
    import mpmath

    try:
        with mpmath.workdps(DIGITS):
            values = [(value(a, point), value(b, point)) for point in _points(a, b)]
            ratios = [x / y for x, y in values if x != 0 and y != 0 and mpmath.isfinite(x) and mpmath.isfinite(y)]
            if len(ratios) < POINTS // 2 or any((x == 0) != (y == 0) for x, y in values):
                return False
            close = all(abs(r - ratios[0]) <= mpmath.mpf(10) ** (15 - DIGITS) * abs(ratios[0]) for r in ratios)
            return close and not (positive and (mpmath.im(ratios[0]) != 0 or mpmath.re(ratios[0]) <= 0))
    except (TooLarge, ZeroDivisionError):
        return False


def exact(expr: Any) -> Fraction | None:
    """The value of an expression of rational numbers, ``None`` for any other. Raises `TooLarge`."""
    import sympy

    if isinstance(expr, sympy.Float):
        return Fraction(str(expr))  # the digits that were written, not their nearest binary number
    if isinstance(expr, sympy.Rational):
        return Fraction(int(expr.p), int(expr.q))
    rule = _exact_rules().get(type(expr).__name__)
    if rule is None:
        return None
    values = []
    for arg in expr.args:
        values.append(exact(arg))
        if values[-1] is None:
            return None
    result: Fraction | None = rule(values)
    if result is not None and max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
        raise TooLarge
    return result


def value(expr: Any, point: Mapping[str, Any]) -> Any:
    """The value at a point, to mpmath's digits. Raises `UnknownFunction`, `TooLarge` or `ZeroDivisionError`."""
    import mpmath
    import sympy

    if isinstance(expr, sympy.Symbol):
        return mpmath.mpc(0, 1) if expr.name == "i" else point[expr.name]
    if isinstance(expr, sympy.Rational | sympy.Float):
        number = exact(expr)
        return mpmath.mpf(number.numerator) / number.denominator  # type: ignore[union-attr] # numbers are exact
    rule = _value_rules().get(type(expr).__name__)
    if rule is None:
        raise UnknownFunction(type(expr).__name__)
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Rational) and expr.exp.q % 2 and expr.exp.q > 1:
        return _real_root(value(expr.base, point), int(expr.exp.p), int(expr.exp.q))
    return rule(*(value(arg, point) for arg in expr.args))


def tame(expr: Any) -> bool:
    """Whether nothing in an expression grows: small powers of what is no power, small factorials, few nodes."""
    import sympy

    for count, node in enumerate(sympy.preorder_traversal(expr)):
        if count > 200 or (isinstance(node, sympy.Integer) and abs(node.p) > 10**9):
            return False
        if isinstance(node, sympy.Pow | sympy.exp | sympy.factorial):
            number = exact_or_none(node.args[-1])
            if node.args[-1].has(sympy.Pow, sympy.exp, sympy.factorial) or (number is not None and abs(number) > 20):
                return False
    return True


def exact_or_none(expr: Any) -> Fraction | None:
    """The same as `exact`; what is too large counts as such."""
    try:
        return exact(expr)
    except TooLarge:
        return Fraction(10) ** MAX_POWER
    except ZeroDivisionError:
        return None


def _agree(a: Any, b: Any, tolerance: Fraction) -> bool:
    """Whether values agree wherever both are real; where that is nowhere, as complex numbers."""
    import mpmath

    compared: dict[bool, list[bool]] = {True: [], False: []}
    for point in _points(a, b):
        try:
            with mpmath.workdps(DIGITS):
                x, y = value(a, point), value(b, point)
                if not (mpmath.isfinite(x) and mpmath.isfinite(y)):
                    continue
                real = mpmath.im(x) == 0 and mpmath.im(y) == 0
                rough = abs(x - y)
                scale = max(abs(x), abs(y))
                if rough <= mpmath.mpf(tolerance.numerator) / tolerance.denominator * abs(x):
                    compared[real].append(True)
                    continue
                if rough > mpmath.mpf(10) ** (15 - DIGITS) * max(scale, mpmath.mpf(10) ** -15):
                    compared[real].append(False)
                    if real:
                        return False
                    continue
            compared[real].append(_vanishes(a, b, point, rough))
        except ZeroDivisionError:
            continue
    seen = compared[True] or compared[False]
    return bool(seen) and all(seen)


def _vanishes(a: Any, b: Any, point: Mapping[str, Any], rough: Any) -> bool:
    """Whether a difference that is within rounding shrinks with more digits, as only that of equal numbers does."""
    import mpmath

    with mpmath.workdps(MORE_DIGITS):
        fine = abs(value(a, point) - value(b, point))
        return bool(fine == 0 or fine <= rough * mpmath.mpf(10) ** (DIGITS - MORE_DIGITS + 20))


def _points(*exprs: Any) -> Iterator[Mapping[str, Any]]:
    """Values for every symbol; the same ones every time. One empty point where there is no symbol."""
    import mpmath

    names = sorted({symbol.name for expr in exprs for symbol in expr.free_symbols})
    for k in range(POINTS if names else 1):
        draw = random.Random(k)
        signs = [1 if k < POINTS // 2 else draw.choice((1, -1)) for _ in names]
        values = [sign * mpmath.mpf(draw.randrange(300, 3000)) / 1009 for sign in signs]
        yield dict(zip(names, values, strict=True))


def _small(expr: Any) -> bool:
    """False for an expression of too many nodes; nothing in it is computed for that."""
    nodes, count = [expr], 0
    while nodes:
        count += 1
        nodes += getattr(nodes.pop(), "args", ())
        if count > MAX_NODES:
            return False
    return True


# ------------------------------------------------------------------------------------------------ what is computed
def _product(values: list[Fraction]) -> Fraction:
    result = Fraction(1)
    for factor in values:
        result *= factor
        if result.numerator.bit_length() > MAX_BITS:
            raise TooLarge
    return result


def _power(values: list[Fraction]) -> Fraction | None:
    base, exponent = values
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MAX_BITS:
        raise TooLarge
    if exponent.denominator == 1:
        return Fraction(base ** int(exponent))
    return None


def _factorial(values: list[Fraction]) -> Fraction | None:
    import math

    number = values[0]
    if number.denominator != 1 or number < 0:
        return None
    if number > MAX_COUNTED:
        raise TooLarge
    return Fraction(math.factorial(int(number)))


@cache
def _exact_rules() -> Mapping[str, Callable[[list[Any]], Fraction | None]]:
    import math

    return {
        "Add": lambda v: sum(v, Fraction(0)),
        "Mul": _product,
        "Pow": _power,
        "Abs": lambda v: abs(v[0]),
        "factorial": _factorial,
        "floor": lambda v: Fraction(math.floor(v[0])),
        "ceiling": lambda v: Fraction(math.ceil(v[0])),
        "UnevaluatedExpr": lambda v: v[0],
        "Max": max,
        "Min": min,
    }


def _raised(base: Any, exponent: Any) -> Any:
    import mpmath

    if base == 0:
        if mpmath.re(exponent) <= 0 and exponent != 0:
            raise ZeroDivisionError
        return mpmath.mpf(1) if exponent == 0 else mpmath.mpf(0)
    if not mpmath.isfinite(exponent) or abs(exponent) * (1 + abs(mpmath.log(abs(base)))) > LARGEST:
        raise TooLarge
    if exponent == int(mpmath.re(exponent)) and abs(exponent) <= MAX_POWER:
        return base ** int(mpmath.re(exponent))
    return mpmath.power(base, exponent)


def _real_root(base: Any, p: int, q: int) -> Any:
    """An odd root: of a negative number the real one, as answers mean it."""
    import mpmath

    if mpmath.im(base) == 0 and base < 0:
        return (-1) ** p * _raised(-base, mpmath.mpf(p) / q)
    return _raised(base, mpmath.mpf(p) / q)


def _logarithm(number: Any, base: Any = None) -> Any:
    import mpmath

    if number == 0 or base in (0, 1):
        raise ZeroDivisionError
    return mpmath.log(number) if base is None else mpmath.log(number) / mpmath.log(base)


def _counted(number: Any) -> Any:
    import mpmath

    if abs(number) > MAX_COUNTED:
        raise TooLarge
    if mpmath.im(number) == 0 and number < 0 and number == int(number):
        raise ZeroDivisionError
    return mpmath.gamma(number + 1)


def _real(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import mpmath

    def computed(number: Any) -> Any:
        if mpmath.im(number) != 0:
            raise UnknownFunction("rounding a complex number")
        return function(mpmath.re(number))

    return computed


@cache
def _value_rules() -> Mapping[str, Callable[..., Any]]:
    import mpmath

    return {
        **{name: getattr(mpmath, name) for name in _FUNCTIONS.split()},
        "Add": lambda *v: mpmath.fsum(v),
        "Mul": lambda *v: mpmath.fprod(v),
        "Pow": _raised,
        "exp": lambda v: _raised(mpmath.e, v),
        "log": _logarithm,
        "Abs": abs,
        "factorial": _counted,
        "floor": _real(mpmath.floor),
        "ceiling": _real(mpmath.ceil),
        "Max": max,
        "Min": min,
        "UnevaluatedExpr": lambda v: v,
        "Pi": lambda: +mpmath.pi,
        "Exp1": lambda: +mpmath.e,
        "ImaginaryUnit": lambda: mpmath.mpc(0, 1),
        "re": mpmath.re,
        "im": mpmath.im,
    }
