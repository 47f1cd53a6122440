"""Judged answers as rows: what is taken, what is left out and said, and which lines are refused."""

import json
import logging

import pytest

from tunesmith import DataError
from tunesmith.testing import conformance
from tunesmith_plugins.sources.samples import Samples

LINES = [
    ("a", "right", 1.0), ("a", "wrong", 0.0), ("a", "half", 0.5), ("a", "right", 1.0),
    ("b", "fine", 1.0), ("b", "good", 1.0), ("c", " ", 1.0), ("c", "none", None), ("c", "bad", 0.0),
]  # fmt: skip

test_conformance = conformance(Samples)


@pytest.fixture
def source(tmp_path):
    """``source(**settings)``: reads the lines above and one that was cut off."""
    lines = [
        {"prompt": prompt, "completion": said, "reward": reward, "rewards": {"form": 1.0}, "stop": "eos"}
        for prompt, said, reward in LINES
    ]
    lines.append({**lines[0], "completion": "right and", "stop": "length"})
    path = tmp_path / "rl" / "samples.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lambda **settings: Samples(path=str(path), **settings)


def taken(source, *columns):
    return [tuple(row.data[column] for column in ("prompt", *columns)) for row in source.rows()]


def test_right_answers_are_demonstrations(source, caplog):
    with caplog.at_level(logging.INFO):
        assert taken(source(), "completion") == [("a", "right"), ("b", "fine"), ("b", "good")]
    assert "rl-samples: 3 demonstrations of 10 answers; " in caplog.text
    for said in ("3 wrong", "1 said before", "1 blank", "1 not judged", "1 cut off"):
        assert said in caplog.text
    assert taken(source(right=0.5), "completion")[1] == ("a", "half")
    assert taken(source(per_prompt=1), "completion") == [("a", "right"), ("b", "fine")]


def test_pairs_are_the_best_with_the_worst_of_a_prompt(source):
    assert taken(source(take="pairs"), "chosen", "rejected") == [("a", "right", "wrong")]


def test_labels_are_all_answers_with_a_thumb(source):
    found = taken(source(take="labels"), "completion", "label")
    assert [label for *_, label in found] == [True, False, False, True, True, False]


def test_one_reward_may_decide(source):
    assert len(taken(source(reward="form"), "completion")) == 7
    unknown = Samples.rows(source(reward="forms"))
    assert "it has no reward 'forms'; rewards: form" in next(unknown).problem


def test_lines_of_something_else_are_problems(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "reward": 1}\n{"prompt": "a", "completion": "b"}\n{"prom\n')
    problems = [row.problem for row in Samples(path=str(path)).rows()]
    assert sum(map(bool, problems)) == 2 and any("it has no reward" in problem for problem in problems)


def test_nothing_to_take_is_an_error_that_counts(source):
    with pytest.raises(DataError, match="none of the 10 answers can be taken for demonstrations") as error:
        list(source(right=2.0).rows())
    assert "6 wrong" in str(error.value.why)
