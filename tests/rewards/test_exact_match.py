"""Answers that are a text."""

import pytest

from tunesmith import Fault, Rollout
from tunesmith_rewards.exact_match import ExactMatch


def judged(gold, completion, **settings):
    return ExactMatch(**settings)([Rollout("Who?", completion, {"answer": gold})])[0]


@pytest.mark.parametrize(
    ("gold", "completion", "wanted"),
    [
        ("Oslo", "Oslo", 1.0),
        ("Oslo", " Oslo\n", 1.0),
        ("Oslo", "oslo", 0.0),
        ("Oslo", "Oslo.", 0.0),
        ("Oslo", "The capital is Oslo", 0.0),
        ("Oslo", "", 0.0),
        ("Oslo", "<think>Bergen?</think>Oslo", 1.0),
        ("Oslo", "<think>Oslo</think>", 0.0),
        ("Oslo", "<think>Oslo", 0.0),
        (["Oslo", "Christiania"], "Christiania", 1.0),
        (5, "5", 1.0),
        ("caf\u00e9", "cafe\u0301", 1.0),
    ],
)
def test_the_text_decides(gold, completion, wanted):
    assert judged(gold, completion) == wanted


@pytest.mark.parametrize(
    ("setting", "gold", "completion"),
    [
        ({"case": False}, "Stra\u00dfe", "STRASSE"),
        ({"punctuation": False}, "Oslo", "Oslo!"),
        ({"articles": False}, "the cat", "cat"),
        ({"whitespace": "squeeze"}, "Franz Kafka", "Franz \n Kafka"),
        ({"whitespace": "ignore"}, "Franz Kafka", "FranzKafka"),
        ({"extract": "final"}, "Oslo", "The answer is Oslo."),
        ({"extract": "boxed"}, "Oslo", r"It is \boxed{Oslo}"),
        ({"extract": "tag"}, "Oslo", "So <answer> Oslo </answer>"),
        ({"extract": "tag", "tag": "city"}, "Oslo", "<city>Oslo</city>"),
        ({"extract": "last-line"}, "Oslo", "Norway's capital?\n**Oslo**\n"),
        ({"thinking": ("plan",)}, "Oslo", "<plan>a</plan>Oslo"),
    ],
)
def test_a_setting_accepts_what_is_refused_without_it(setting, gold, completion):
    assert judged(gold, completion) == 0.0
    assert judged(gold, completion, **setting) == 1.0


def test_every_blank_may_count():
    assert judged("Oslo", "Oslo ", whitespace="exact") == 0.0
    assert judged("Oslo", "Oslo", whitespace="exact") == 1.0


def test_two_answers_are_wrong_unless_the_last_one_counts():
    text = "The answer is Bergen.\nThe answer is Oslo."
    assert judged("Oslo", text, extract="final") == 0.0
    assert judged("Oslo", text, extract="final", several="last") == 1.0


@pytest.mark.parametrize(
    ("gold", "settings"),
    [
        (None, {}),
        ("", {}),
        ("  ", {}),
        ([], {}),
        ([None], {}),
        (True, {}),
        ({"a": 1}, {}),
        ("...", {"punctuation": False}),
    ],
)
def test_a_gold_answer_without_text_is_an_error(gold, settings):
    for completion in ("", "Oslo"):
        verdict = judged(gold, completion, **settings)
        assert isinstance(verdict, Fault)
        assert "column 'answer'" in verdict.why


@pytest.mark.parametrize("extract", ["whole", "final", "boxed", "tag", "last-line"])
def test_samples_are_right_wherever_the_answer_is_looked_for(extract):
    reward = ExactMatch(extract=extract)
    rows = list(reward.samples())
    assert reward([Rollout(row["prompt"], row["completion"], row) for row in rows]) == [1.0] * len(rows)
