"""Where `math` looks for the answer, which gold answers it takes, and that its fast way is as right as its slow one."""

import random

import pytest

from tunesmith import Fault, Rollout
from tunesmith_rewards.math import Math


def boxed(gold, answer, **settings):
    return judged(gold, rf"\boxed{{{answer}}}", **settings)


def judged(gold, completion, **settings):
    return Math(**settings)([Rollout("Why?", completion, {"answer": gold})])[0]


@pytest.mark.parametrize(
    "completion",
    [
        r"<think>\boxed{5}</think> I do not know",
        r"<think>\boxed{5}",
        r"<thinking>the answer is 5</thinking>",
        r"first \boxed{4}, then \boxed{5}",
        r"\boxed{1}\boxed{2}\boxed{3}\boxed{4}\boxed{5}\boxed{6}",
        "The answer is 4. Or: the answer is 5.",
        r"\boxed{4 \text{ or } 5}",
        "",
        r"\boxed{}",
        r"\boxed{5",
    ],
)
def test_what_is_no_single_final_answer_is_wrong(completion):
    assert judged("5", completion) == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        r"<think>perhaps \boxed{4}</think> \boxed{5}",
        r"perhaps \boxed{4}</think> \boxed{5}",
        r"The answer is $\boxed{5}$.",
        r"\boxed{5} as said: \boxed{5.0}",
        "So the final answer is 5.",
        "**Answer:** 5",
        "<answer>5</answer>",
        "2 + 3 = 5\n#### 5",
    ],
)
def test_a_final_answer_is_found(completion):
    assert judged("5", completion) == 1.0


def test_where_to_look_is_a_setting():
    assert judged("5", "The answer is 5", extract="boxed") == 0.0
    assert judged("5", r"\boxed{4} The answer is 5", extract="final") == 1.0
    assert judged("5", " $5$ ", extract="whole") == 1.0
    assert [judged("5", text) for text in ("5", "**5**", "<think>6</think>5", "It may be 5, or 6.")] == [
        1.0,
        1.0,
        1.0,
        0.0,
    ]
    assert judged("5", "5", extract="boxed") == judged("5", "5", extract="final") == 0.0
    assert judged("5", r"\boxed{4} \boxed{5}", several="last") == 1.0
    assert judged("5", r"<plan>\boxed{4}</plan>\boxed{5}", thinking=("plan",)) == 1.0


def test_messages_are_judged_by_what_the_assistant_says_last():
    turn = [{"role": "assistant", "content": r"\boxed{5}"}]
    assert judged("5", turn) == 1.0


# ------------------------------------------------------------------------------------------------ gold answers
@pytest.mark.parametrize("gold", [5, 5.0, ["4", "5"], (5,), r"Two and three: \boxed{5}", "2 + 3 = 5\n#### 5"])
def test_a_gold_answer_may_be_a_number_a_list_or_a_solution(gold):
    assert boxed(gold, "5") == 1.0
    assert boxed(gold, "6") == 0.0


@pytest.mark.parametrize(
    "gold",
    [None, "", "   ", r"\frac{1}{", "see the solution on page 5, it is long", r"\evil{5}", "9" * 101, "1 2", [], [None],
     True, {"value": 5}, float("nan"), float("inf"), "9^{9^{9^", "x" * 2000],
)  # fmt: skip
def test_a_gold_answer_that_cannot_be_read_is_an_error_and_never_a_score(gold):
    for completion in (r"\boxed{5}", "", rf"\boxed{{{gold}}}"):
        verdict = judged(gold, completion)
        assert isinstance(verdict, Fault)
        assert verdict.state == "error"
        assert "column 'answer'" in verdict.why


def test_the_column_is_a_setting():
    reward = Math(answer="gold")
    assert list(reward.columns()) == ["gold"]
    assert reward([Rollout("Why?", r"\boxed{5}", {"gold": "5", "answer": "6"})]) == [1.0]


# ------------------------------------------------------------------------------------------------ the fast way
def written(number, draw):
    """A fraction of small numbers in one of the plain spellings."""
    over, under = number
    forms = [rf"\frac{{{over}}}{{{under}}}", f"{over}/{under}"]
    forms += [f"{over // under}", f"{over // under}.0"] if over % under == 0 else []
    forms += [f"{over / under:.4f}"] if 10_000 % under == 0 else []
    return draw.choice(forms)


def test_plain_numbers_are_judged_as_math_verify_judges_them():
    import math_verify

    def verified(gold, answer):
        parsed = [math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
        return math_verify.verify(*parsed, timeout_seconds=None)

    draw = random.Random(0)
    verdicts = []
    for _ in range(150):
        under = draw.choice((1, 2, 3, 4, 5, 7, 8))
        number = (draw.randrange(1, 60), under)
        other = draw.choice((number, (number[0] * 3, under * 3), (draw.randrange(1, 60), under)))
        gold, answer = written(number, draw), written(other, draw)
        verdicts.append(boxed(gold, answer))
        assert verdicts[-1] == float(verified(gold, answer)), (gold, answer)
    assert 30 < sum(verdicts) < 140


def test_the_fast_way_agrees_with_the_slow_one():
    from fractions import Fraction

    from tunesmith_rewards.math.answers import read
    from tunesmith_rewards.math.expressions import equal, parse

    draw = random.Random(1)
    for _ in range(150):
        under = draw.choice((1, 2, 4, 5, 8, 16))
        numbers = [(draw.randrange(1, 20), under), (draw.randrange(1, 20), under)]
        gold, answer = (written(number, draw) for number in numbers)
        fast = read(gold).number == read(answer).number
        assert fast == (Fraction(*numbers[0]) == Fraction(*numbers[1]))
        assert fast == equal(parse(gold), parse(answer)), (gold, answer)
