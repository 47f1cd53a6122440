"""Numbers as answers."""

import pytest

from tunesmith import Fault, Rollout
from tunesmith_rewards.numeric import Numeric


def judged(gold, completion, **settings):
    return Numeric(**settings)([Rollout("How many?", completion, {"answer": gold})])[0]


@pytest.mark.parametrize(
    ("gold", "completion"),
    [
        *(
            (5, text)
            for text in ("5", "5.0", "05", r"\boxed{5}", "$5$", "x = 5", "5 cm", "5 apples", r"5\text{ m/s}^2")
        ),
        *(
            (5, text)
            for text in ("$5", "The answer is 5.", "The answer is 5 apples.", "So 5.\n#### 5", "<answer>5</answer>")
        ),
        *((5, text) for text in ("<think>4</think>5", "4</think>5", r"\boxed{5} and again \boxed{5.0}", "\u0665")),
        *(("1,000", "1000"), ("1000", "1,000"), (1000, "1 000"), (1500, "1.5e3"), (1500, r"1.5 \times 10^3")),
        *((0.1, "1/10"), ("1/3", r"\frac{1}{3}"), (2.5, "2 1/2"), (0.3, "0.30"), (-3, "-3"), ("-3", "\u22123")),
        *(("5%", "5%"), ("5 percent", r"5\%"), ("$5", "5"), ("so it is\n#### 42", "42"), (r"\boxed{42}", "42")),
        *(([1, 5], "5"), ((5,), "5")),
    ],
)
def test_a_right_number_is_accepted(gold, completion):
    assert judged(gold, completion) == 1.0


@pytest.mark.parametrize(
    ("gold", "completion"),
    [
        *(
            (5, text)
            for text in ("", "6", "-5", "five", "5%", "4 5", "4 or 5", "5 and 6", "5 or so", "5x", "5e", "5/0", "inf")
        ),
        *(
            (5, text)
            for text in ("<think>5</think>", "<think>5", "I counted 5 of them.", "Answer: 4\nAnswer: 5", "4=5")
        ),
        *((5, text) for text in (r"\boxed{4} \boxed{5}", r"\boxed{}", "1e99999", "9" * 5000, "5,", "0 1 2 3 4 5")[:4]),
        *((3.14159, "3.14"), ("5%", "0.05"), ("5%", "5"), ("1/3", "0.333333"), (1234, "12,34")),
    ],
)
def test_anything_else_is_wrong(gold, completion):
    assert judged(gold, completion) == 0.0


@pytest.mark.parametrize(
    ("setting", "gold", "completion"),
    [
        ({"absolute": 0.01}, 3.14159, "3.14"),
        ({"relative": 0.01}, 100, "101"),
        ({"relative": 0.01}, -100, "-99"),
        ({"percent": "value"}, "50%", "0.5"),
        ({"percent": "ignore"}, 50, "50%"),
        ({"several": "last"}, 5, "Answer: 4\nAnswer: 5"),
        ({"extract": "last-line"}, 5, "It takes 4 steps:\n**5**"),
        ({"extract": "tag", "tag": "n"}, 5, "<n>5</n> or 6"),
    ],
)
def test_a_setting_accepts_what_is_refused_without_it(setting, gold, completion):
    assert judged(gold, completion) == 0.0
    assert judged(gold, completion, **setting) == 1.0


@pytest.mark.parametrize(
    ("setting", "gold", "completion"),
    [
        ({"units": False}, 5, "5 cm"),
        ({"thousands": False}, 1000, "1,000"),
        ({"extract": "boxed"}, 5, "The answer is 5"),
        ({"extract": "final"}, 5, r"\boxed{5}"),
        ({"extract": "whole"}, 5, r"\boxed{5}"),
        ({"thinking": ("plan",)}, 5, "<plan>5"),
    ],
)
def test_a_setting_refuses_what_is_accepted_without_it(setting, gold, completion):
    if "thinking" not in setting:
        assert judged(gold, completion) == 1.0
    assert judged(gold, completion, **setting) == 0.0


def test_tolerances_have_edges():
    assert judged(0.3, "0.1", absolute=0.2) == 1.0
    assert judged(0.3, "0.0999", absolute=0.2) == 0.0
    assert judged(100, "101.0001", relative=0.01) == 0.0
    assert judged(0, "0.0001", relative=0.5) == 0.0


@pytest.mark.parametrize("gold", [None, "", "abc", [], [5, "abc"], True, float("nan"), float("inf"), {"n": 5}, "1/0"])
def test_a_gold_answer_that_is_no_number_is_an_error(gold):
    for completion in ("5", "", str(gold)):
        verdict = judged(gold, completion)
        assert isinstance(verdict, Fault)
        assert "column 'answer'" in verdict.why


@pytest.mark.parametrize("extract", ["auto", "boxed", "final", "tag", "last-line", "whole"])
def test_samples_are_right_wherever_the_number_is_looked_for(extract):
    reward = Numeric(extract=extract)
    rows = list(reward.samples())
    assert reward([Rollout(row["prompt"], row["completion"], row) for row in rows]) == [1.0] * len(rows)
    guesses = [judged(row["answer"], rf"\boxed{{{n}}}") for row in rows for n in range(101)]
    assert sum(guesses) / len(guesses) < 0.01
