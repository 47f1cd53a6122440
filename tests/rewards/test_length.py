import math

import pytest

from tunesmith import ConfigError, Fault, Rollout
from tunesmith.config import build

RIGHT = {"name": "regex", "pattern": "right"}


@pytest.fixture
def make(registry):
    return lambda **settings: build(registry, "reward", {"name": "length", **settings})


def tokens(count, text="", **kwargs):
    return Rollout("Say something.", text, ids=list(range(count)), **kwargs)


def test_the_budget_is_the_soft_overlong_penalty(make):
    reward = make(limit=100, buffer=20)
    lengths = [0, 79, 80, 85, 90, 100, 101, 5000]
    assert reward([tokens(n) for n in lengths]) == [0.0, 0.0, 0.0, -0.25, -0.5, -1.0, -1.0, -1.0]
    # equation 13 as it is written
    for n in range(130):
        expected = 0.0 if n <= 80 else (80 - n) / 20 if n <= 100 else -1.0
        assert reward([tokens(n)]) == [pytest.approx(expected)]


def test_the_buffer_is_a_fifth_of_the_limit(make):
    assert make(limit=100)([tokens(80), tokens(90)]) == [0.0, -0.5]
    assert make(limit=1)([tokens(0), tokens(1)]) == [0.0, -1.0]


def test_units(make):
    text = "four words \u00e9\u00e9n\nline"
    assert make(limit=6, buffer=4, unit="words")([Rollout("", text)]) == [-0.5]
    assert make(limit=22, buffer=10, unit="characters")([Rollout("", text)]) == [pytest.approx(-(len(text) - 12) / 10)]
    fault = make(limit=6)([Rollout("", text)])[0]
    assert isinstance(fault, Fault) and fault.state == "error" and "unit: words" in fault.why
    assert make(limit=6)([Rollout("", "", ids=[])]) == [0.0]


def test_a_target(make):
    reward = make(shape="target", target=100, tolerance=10)
    assert reward([tokens(n) for n in (100, 90, 110, 60, 160, 1000)]) == [0.0, 0.0, 0.0, -0.3, -0.5, -1.0]


def test_a_target_of_the_row(make):
    reward = make(shape="target", target="wanted")
    assert list(reward.columns()) == ["wanted"]
    assert reward([tokens(50, columns={"wanted": 100}), tokens(50, columns={"wanted": 50.0})]) == [-0.5, 0.0]
    for value in (None, "100", 0, -3, True, math.nan, math.inf):
        fault = reward([tokens(5, columns={"wanted": value})])[0]
        assert isinstance(fault, Fault) and fault.state == "error" and "'wanted'" in fault.why


def test_what_was_cut_off_is_too_long(make):
    cut = tokens(10, "right", truncated=True)
    assert make(limit=100)([cut]) == [-1.0]
    assert make(shape="target", target=10)([cut]) == [-1.0]
    assert make(shape="cosine", limit=100, correct=RIGHT, exceeded=-3)([cut]) == [-3.0]


def test_the_cosine_falls_for_right_and_rises_for_wrong_completions(make):
    reward = make(shape="cosine", limit=100, correct=RIGHT)
    right = reward([tokens(n, "right") for n in (0, 50, 99)])
    wrong = reward([tokens(n, "no") for n in (0, 50, 99)])
    assert right[:2] == [1.0, 0.75] and right[2] == pytest.approx(0.5, abs=1e-3)
    assert wrong[:2] == [-1.0, -0.5] and wrong[2] == pytest.approx(0.0, abs=1e-3)
    assert reward([tokens(100, "right"), tokens(100, "no")]) == [-1.0, -1.0]
    values = reward([tokens(n, "right") for n in range(100)])
    assert values == sorted(values, reverse=True)


def test_the_nested_reward_brings_its_columns_and_rows_and_faults(make):
    nested = {"name": "regex", "pattern": r"\d+", "column": "gold"}
    reward = make(shape="cosine", limit=100, correct=nested, threshold=0.5)
    reward.warm()
    assert list(reward.columns()) == ["gold"]
    scores = reward([tokens(0, "7", columns={"gold": 7}), tokens(0, "8", columns={"gold": 7}), tokens(0, "7")])
    assert scores[:2] == [1.0, -1.0]
    assert isinstance(scores[2], Fault) and "'gold'" in scores[2].why
    abstaining = {"name": "language", "language": "zh"}
    assert make(shape="cosine", limit=9, correct=abstaining)([tokens(0, "ok")]) == [None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "shape: budget needs limit"),
        ({"shape": "target"}, "needs target"),
        ({"shape": "cosine", "limit": 5}, "needs correct"),
        ({"shape": "cosine"}, "needs limit and correct"),
        ({"limit": 5, "target": 3}, "target would have no effect with shape: budget"),
        ({"shape": "target", "target": 3, "limit": 5}, "limit would have no effect"),
        ({"limit": 5, "buffer": 6}, "larger than limit"),
        ({"shape": "target", "target": 0}, "positive"),
        ({"shape": "cosine", "limit": 5, "correct": {"name": "regexx"}}, "no reward 'regexx'; did you mean 'regex'"),
        ({"shape": "cosine", "limit": 5, "correct": {**RIGHT, "timeout": 60}}, "covers correct too"),
        ({"shape": "cosine", "limit": 5, "correct": {"name": "reward-model", "model": "x"}}, "cannot be nested"),
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize(
    "settings", [{"limit": 9}, {"shape": "target", "target": 30}, {"shape": "target", "target": "n"}]
)
def test_samples_are_of_the_right_length(make, unit, settings):
    reward = make(unit=unit, **settings)
    rows = list(reward.samples())
    assert rows and set(reward.columns()) <= set(rows[0])
    assert reward([Rollout(r["prompt"], r["completion"], r) for r in rows]) == [0.0] * len(rows)
