"""Expressions that reach a target: exact values, each number once, nothing executed."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from typing import Any

import pytest

from tunesmith import Fault, Rollout
from tunesmith.testing import check_reward
from tunesmith_rewards.countdown import Countdown


def judged(answer: str, numbers: Any = (3, 7, 25), target: Any = 178, **settings: Any) -> Any:
    [found] = Countdown(**settings)([Rollout("q", answer, {"numbers": numbers, "target": target})])
    return found


def test_it_holds_up_to_what_is_asked_of_every_reward() -> None:
    report = check_reward(Countdown())
    assert not report.failed, report


RIGHT = [
    "Answer: 25*7+3",
    "25 * 7 = 175\n175 + 3 = 178\nAnswer: (25 * 7) + 3",
    "Answer: 25*7+3 = 178",
    "**Answer:** 25 \u00d7 7 + 3",
    "Answer: $25 \\cdot 7 + 3$.",
    r"\boxed{7 \times 25 + 3}",
    r"Answer: \left(25 \cdot 7\right) + 3",
    "Answer: -(-25) * 7 + 3",
    "<think>Answer: 3</think>Answer: 3 + 7*25",
    "Answer: 1 + 1. No:\nAnswer: 3 + 7*25",
    "Answer: " + "(" * 80 + "3 + 7*25" + ")" * 80,
]
WRONG = [
    "",
    "25*7+3",
    "Answer:",
    "Answer: 178",
    "Answer: 25*7+2",
    "Answer: 25*7+3-3+3",
    "Answer: 25*7+3 = 179",
    "Answer: 178 = 25*7+3",
    "Answer: 25*7+3 = 178 = 178",
    "Answer: 25*7+03",
    "Answer: 25 * 7 + 3.0",
    "Answer: 2_5*7+3",
    "Answer: 0x19*7+3",
    "Answer: 25(7)+3",
    "Answer: 25*7//1+3",
    "Answer: 7**25",
    "Answer: 25/(7-7)",
    "Answer: 25/0",
    "Answer: (25*7)+3, or 3+25*7",
    "Answer: True*178",
    "Answer: (lambda: 178)()",
    "Answer: __import__('os').getpid()",
    "Answer: [178][0]",
    "Answer: " + "(" * 395,
    "Answer: " + "-" * 390 + "3",
    "Answer: " + "9" * 399,
    "<think>Answer: 25*7+3</think>",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_an_expression_that_reaches_the_target_is_right(answer: str) -> None:
    assert judged(answer) == 1.0


@pytest.mark.parametrize("answer", WRONG)
def test_anything_else_is_wrong_and_judged_at_once(answer: str) -> None:
    started = time.monotonic()
    assert judged(answer) == 0.0
    assert time.monotonic() - started < 1


def test_fractions_are_exact() -> None:
    assert judged("Answer: 8 / (3 - 8 / 3)", [8, 3, 8, 3], 24) == 1.0
    assert judged(r"Answer: \frac{3}{6} * 2", [3, 6, 2], 1) == 1.0
    assert judged("Answer: 1 / 3 * 3", [1, 3, 3], 1) == 1.0
    assert judged("Answer: 10 / 3 - 3", [10, 3, 3], 0) == 0.0
    big = 10**11
    assert judged(f"Answer: {big} * {big} / {big - 1} - {big}", [big, big, big - 1, big], 1) == 0.0, "nearly 1 is not 1"


def test_numbers_may_be_left_out_unless_all_must_be_used() -> None:
    assert judged("Answer: 25*7", target=175) == 1.0
    assert judged("Answer: 25*7", target=175, use_all=True) == 0.0
    assert judged("Answer: 25*7+3", use_all=True) == 1.0
    assert judged("Answer: 25", target=25) == 1.0
    assert judged("Answer: 3+3", target=6) == 0.0
    assert judged("Answer: 3+3", [3, 3], 6) == 1.0


def test_values_are_those_of_exact_arithmetic() -> None:
    rng = random.Random(0)

    def drawn(numbers: list[int]) -> tuple[str, Fraction]:
        if len(numbers) == 1:
            return str(numbers[0]), Fraction(numbers[0])
        cut = rng.randrange(1, len(numbers))
        (left, x), (right, y) = drawn(numbers[:cut]), drawn(numbers[cut:])
        sign = rng.choice("+-*/" if y else "+-*")
        value = {"+": x + y, "-": x - y, "*": x * y}[sign] if sign != "/" else x / y
        return f"({left} {sign} {right})", value

    seen = set()
    for _ in range(300):
        numbers = [rng.randint(1, 9) for _ in range(rng.randint(2, 5))]
        text, value = drawn(numbers)
        target = int(value) if value.denominator == 1 else int(value) + 1
        score = judged(f"Answer: {text}", numbers, target)
        assert score == (value == target), text
        seen.add(score)
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize(
    ("numbers", "target", "why"),
    [
        (None, 5, "column 'numbers' should be a list of whole numbers"),
        ("3, 7", 5, "column 'numbers' should be"),
        ([], 5, "column 'numbers' should be"),
        ([3, 7.5], 5, "column 'numbers' should be"),
        ([3, True], 5, "column 'numbers' should be"),
        ([10**12], 5, "column 'numbers' should be"),
        (list(range(51)), 5, "column 'numbers' has 51 numbers, more than 50"),
        ([3], None, "column 'target' should be a whole number"),
        ([3], "3", "column 'target' should be"),
        ([3], 1.5, "column 'target' should be"),
    ],
)
def test_a_row_that_is_wrong_is_an_error_and_no_score(numbers: Any, target: Any, why: str) -> None:
    for answer in ("Answer: 3", ""):
        found = judged(answer, numbers, target)
        assert isinstance(found, Fault) and found.state == "error" and found.why.startswith(why)


def test_columns_may_have_other_names() -> None:
    reward = Countdown(numbers="nums", target="goal")
    assert list(reward.columns()) == ["nums", "goal"]
    assert reward([Rollout("q", "Answer: 1 + 2", {"nums": [1, 2], "goal": 3})]) == [1.0]
