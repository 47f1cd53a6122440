"""Expressions that reach a target."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import tunesmith
from tunesmith import Fault, Reward, Rollout

MAX_CHARACTERS = 400
MAX_NUMBERS = 50
MAX_DIGITS = 12
_CHARACTERS = re.compile(r"[0-9+\-*/() ]*")
_TEX = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""), ("{", "("), ("}", ")"))
_SIGNS = str.maketrans({"\u00d7": "*", "\u22c5": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"})
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


class Countdown(Reward):
    """1 for an expression (+ - * /) of the row's numbers that equals its target, each used at most once, otherwise 0.

    The expression is what stands in the last box or behind the last "Answer:". It is parsed, never executed, and
    worked out in exact fractions; "= TARGET" may follow it.
    """

    name: ClassVar[str] = "countdown"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    numbers: str = "numbers"
    """Column with the list of whole numbers."""
    target: str = "target"
    """Column with the number to reach."""
    use_all: bool = False
    """Every number must be used, each exactly once."""

    def columns(self) -> Iterable[str]:
        """The numbers and the target."""
        return (self.numbers, self.target)

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A few games with a solution of each."""
        games: list[tuple[list[int], int, str]] = [
            ([3, 7, 25], 178, "25 * 7 + 3"),
            ([8, 3, 8, 3], 24, "8 / (3 - 8 / 3)"),
            ([2, 5, 11, 40, 1], 511, "(40 + 11) * 5 * 2 + 1"),
        ]
        for numbers, target, answer in games:
            prompt = f"Reach {target} with {', '.join(map(str, numbers))}. End with a line 'Answer: EXPRESSION'."
            columns = {self.numbers: numbers, self.target: target}
            yield {"prompt": prompt, **columns, "completion": f"Answer: {answer}"}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Judge every answer."""
        return [self._judged(rollout) for rollout in rollouts]

    def _judged(self, rollout: Rollout) -> float | Fault:
        numbers, target = rollout.columns.get(self.numbers), rollout.columns.get(self.target)
        if not isinstance(numbers, (list, tuple)) or not numbers or not all(map(_is_whole, numbers)):
            return Fault("error", f"column {self.numbers!r} should be a list of whole numbers of at most 12 digits")
        if len(numbers) > MAX_NUMBERS:
            return Fault("error", f"column {self.numbers!r} has {len(numbers)} numbers, more than {MAX_NUMBERS}")
        if not _is_whole(target):
            return Fault("error", f"column {self.target!r} should be a whole number of at most 12 digits")
        expression = _expression(rollout.text, target)
        if expression is None:
            return 0.0
        used = Counter(node.value for node in ast.walk(expression) if isinstance(node, ast.Constant))
        given = Counter(numbers)
        if not used or used - given or (self.use_all and used != given):
            return 0.0
        return float(_value(expression) == target)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MAX_DIGITS


def _expression(text: str, target: int) -> ast.expr | None:
    """The answer as a tree of numbers, + - * / and signs, or ``None`` where it is anything else."""
    from tunesmith.passages import after_thinking, boxed, final_answers

    text = after_thinking(text) or ""
    found = boxed(text) or final_answers(text)
    left, _, result = _plain(found[-1] if found else "").partition("=")
    if len(left) > MAX_CHARACTERS or not _CHARACTERS.fullmatch(left) or result.strip() not in ("", str(target)):
        return None
    try:
        tree = ast.parse(left.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if all(isinstance(node, _ALLOWED) for node in ast.walk(tree)) else None


_ALLOWED = (
    ast.BinOp, ast.UnaryOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UAdd, ast.USub
)  # fmt: skip


def _plain(text: str) -> str:
    text = _FRACTION.sub(r"((\1)/(\2))", text)
    for tex, plain in _TEX:
        text = text.replace(tex, plain)
    return text.translate(_SIGNS).strip(" $.")


def _value(node: ast.expr) -> Fraction | None:
    """The exact value; ``None`` where something is divided by 0. The tree holds allowed nodes only."""
    if isinstance(node, ast.Constant):
        return Fraction(node.value) if isinstance(node.value, int) else None
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand)
        return -value if value is not None and isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Div):
        return left / right if right else None
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left - right


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Countdown]
