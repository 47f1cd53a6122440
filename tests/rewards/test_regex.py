import pytest

from tunesmith import ConfigError, Fault, Rollout
from tunesmith.config import build
from tunesmith.rollout.panel import Panel


@pytest.fixture
def score(registry):
    def judge(completion, columns=None, **settings):
        reward = build(registry, "reward", {"name": "regex", **settings})
        reward.warm()
        return reward([Rollout("Say a number.", completion, columns or {})])[0]

    return judge


def test_search_and_fullmatch(score):
    assert score("it is 42 then", pattern=r"\d+") == 1.0
    assert score("it is 42 then", pattern=r"\d+", match="fullmatch") == 0.0
    assert score(" 42\n", pattern=r"\d+", match="fullmatch") == 1.0
    assert score("forty-two", pattern=r"\d+") == 0.0


def test_every_pattern_must_match_and_none_is_split(score):
    assert score("a1", pattern=["[a-z]", r"\d"]) == 1.0
    assert score("a", pattern=["[a-z]", r"\d"]) == 0.0
    assert score("aaa", pattern="^a{2,3}$") == 1.0
    assert score("aaaa", pattern="^a{2,3}$") == 0.0


def test_flags(score):
    assert [score("x\nABC", pattern="^abc$", **f) for f in ({}, {"ignore_case": True, "multiline": True})] == [0.0, 1.0]
    assert [score("a\nb", pattern="a.b", dotall=on) for on in (False, True)] == [0.0, 1.0]


def test_what_is_thought_does_not_count(score):
    assert score("<think>42</think>I do not know", pattern="42") == 0.0
    assert score("<think>42", pattern="42") == 0.0
    assert score("<think>42</think>I do not know", pattern="^<think>42", part="whole") == 1.0


def test_a_group_is_compared_with_a_column(score):
    settings = {"pattern": r"answer: (?P<said>\w+)", "column": "gold", "group": "said"}
    assert score("answer: 42", {"gold": "42"}, **settings) == 1.0
    assert score("answer: 42", {"gold": 42}, **settings) == 1.0
    assert score("answer: 42", {"gold": " 42 "}, **settings) == 1.0
    assert score("answer: 421", {"gold": "42"}, **settings) == 0.0
    assert score("42", {"gold": "42"}, **settings) == 0.0
    assert score("answer: Ab", {"gold": "aB"}, **settings) == 0.0
    assert score("answer: Ab", {"gold": "aB"}, **settings, ignore_case=True) == 1.0


def test_of_several_matches_the_last_counts(score):
    settings = {"pattern": r"answer: (\d+)", "column": "gold", "group": 1}
    every = " ".join(f"answer: {i}" for i in range(101))
    assert [score(every, {"gold": gold}, **settings) for gold in ("42", "100")] == [0.0, 1.0]


def test_a_group_that_took_no_part_is_no_match(score):
    assert score("b", {"gold": "a"}, pattern="(a)|b", column="gold", group=1) == 0.0


def test_the_first_pattern_with_the_group_is_compared(score):
    settings = {"pattern": ["^x", r"=(\d)", r"(\w)$"], "column": "gold", "group": 1}
    assert [score("x=1 y", {"gold": gold}, **settings) for gold in ("1", "y")] == [1.0, 0.0]
    assert score("x=1 ?", {"gold": "1"}, **settings) == 0.0


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_row_without_its_answer_is_an_error(score, value):
    fault = score("42", {"gold": value}, pattern=r"\d+", column="gold")
    assert isinstance(fault, Fault) and fault.state == "error" and "'gold'" in fault.why


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": "(a"}, r"'\(a' cannot be read: .*position 0"),
        ({"pattern": ["a", "*"]}, "nothing to repeat"),
        ({"pattern": "a{99999999999999999999}"}, "cannot be read"),
        ({"pattern": []}, "pattern"),
        ({}, "pattern is missing"),
        ({"pattern": "a", "group": 1}, "only with column"),
        ({"pattern": "a", "column": "gold", "group": 1}, "no pattern has a group 1"),
        ({"pattern": "(?P<x>a)", "column": "gold", "group": "y"}, "no pattern has a group 'y'"),
        ({"pattern": "(a)", "column": "gold", "group": -1}, "no pattern has a group -1"),
    ],
)
def test_patterns_are_checked_before_anything_starts(registry, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(registry, "reward", {"name": "regex", **settings})


def test_a_pattern_that_backtracks_without_end_is_stopped(registry):
    reward = build(registry, "reward", {"name": "regex", "pattern": "(a+)+$", "timeout": 0.5, "on_error": "mask"})
    with Panel([reward], workers=1) as panel:
        [verdicts] = panel.judge([Rollout("", "aaa"), Rollout("", "a" * 60 + "b"), Rollout("", "b")])
    assert [verdict.state for verdict in verdicts] == ["score", "timeout", "score"]
    assert [verdict.score for verdict in verdicts] == [1.0, None, 0.0]


def test_the_column_is_asked_for(registry):
    assert list(build(registry, "reward", {"name": "regex", "pattern": "a", "column": "gold"}).columns()) == ["gold"]
    assert list(build(registry, "reward", {"name": "regex", "pattern": "a"}).columns()) == []
