"""Rewards together: states, labels, totals, several processes, and what a call costs."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tunesmith import ConfigError, DataError, Rollout, Verdict, plugins
from tunesmith.config import build
from tunesmith.rollout.panel import Panel, labels_of, missing_columns, shares

REGISTRY = plugins.load(files=[Path(__file__).with_name("odd_rewards.py")])


def make(name, **settings):
    return build(REGISTRY, "reward", {"name": name, **settings})


def rollouts(*words):
    return [Rollout("p", word, {"answer": 4}) for word in words]


# ---------------------------------------------------------------------------------------------- scores
def test_several_instances_of_one_reward_have_their_own_settings_labels_and_weights():
    rewards = [make("odd"), make("odd", factor=-2.0, weight=0.5), make("odd", label="odd-2"), make("odd", label="x")]
    with Panel(rewards, workers=2) as panel:
        assert panel.labels == ["odd", "odd-2", "odd-2-2", "x"]
        verdicts = panel.judge(rollouts("a", "abc", "none"))
    assert [[v.score for v in found] for found in verdicts] == [
        [1, 3, None],
        [-2, -6, None],
        [1, 3, None],
        [1, 3, None],
    ]
    assert panel.totals(verdicts) == [1 - 1 + 1 + 1, 3 - 3 + 3 + 3, None]


@pytest.mark.parametrize("name", ["odd", "odd-batch", "odd-stream", "odd-here", "odd-async"])
def test_order_number_and_workers_change_nothing(name):
    words = ["ab" * (i % 7) for i in range(90)]
    expected = dict.fromkeys(words)
    shuffled = random.Random(0).sample(words, len(words))
    for workers in (1, 3):
        with Panel([make(name)], workers=workers) as panel:
            for given in (words, shuffled, words[:1], words[:5]):
                (found,) = panel.judge(rollouts(*given))
                assert [v.score for v in found] == [float(len(word)) for word in given]
            assert panel.judge([]) == [[]]
    assert len(expected) == 7


def test_rewards_run_in_several_processes_and_none_of_them_is_ours():
    found: set[float | None] = set()
    with Panel([make("process", seconds=0.05)], workers=2) as panel:
        for _ in range(20):  # on a busy machine the second one may come when everything is done
            found |= {v.score for v in panel.judge(rollouts(*["own"] * 8))[0]}
            if len(found) == 2:
                break
        again = {v.score for v in panel.judge(rollouts(*["own"] * 8))[0]}
        (warmed,) = {v.score for v in panel.judge(rollouts(*["warmed"] * 4))[0]}
    assert len(found) == 2 and again <= found and os.getpid() not in found
    assert warmed not in found  # once, before the processes were forked


def test_threads_of_a_reward_keep_it_from_being_forked():
    with Panel([make("process", threads=True)], workers=1) as panel:
        ((own, warmed, parent),) = [
            [v.score for v in found] for found in panel.judge(rollouts("own", "warmed", "parent"))
        ]
    assert warmed == own != parent  # it made itself ready


def test_a_slow_reward_does_not_hold_up_a_fast_one():
    with Panel([make("process", seconds=0.2), make("odd")], workers=2) as panel:
        panel.judge(rollouts("own", "own"))
        start = time.monotonic()
        panel.judge(rollouts(*["own"] * 6))
    assert time.monotonic() - start < 0.9 * 6 * 0.2


def test_thousands_of_completions_take_a_moment():
    given = rollouts(*["x" * (i % 50) for i in range(5000)])
    with Panel([make("odd")], workers=2) as panel:
        panel.judge(given[:10])
        start = time.monotonic()
        (found,) = panel.judge(given)
        seconds = time.monotonic() - start
    assert [v.score for v in found] == [i % 50 for i in range(5000)]
    assert seconds < 5000 / 2000


def test_rows_go_to_rewards_as_they_are(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def told(completion, prompt, row, truncated, completion_ids):\n"
                    "    fits = prompt == [{'role': 'user', 'content': 'q'}] and row == {'a': [1, {'b': None}]}\n"
                    "    return fits and truncated and completion_ids == [1, 2]\n")  # fmt: skip
    prompt = [{"role": "user", "content": "q"}]
    with Panel([build(REGISTRY, "reward", f"{path}:told")], workers=1) as panel:
        given = [Rollout(prompt, "c", {"a": [1, {"b": None}]}, [1, 2], True), Rollout("p", "c", {}, [1], False)]
        assert [v.score for v in panel.judge(given)[0]] == [1.0, 0.0]


def test_a_column_that_cannot_be_sent_is_named():
    with (
        Panel([make("odd")], workers=1) as panel,
        pytest.raises(DataError, match=r"cannot be handed to the processes(.|\n)*columns call"),
    ):
        panel.judge([Rollout("p", "c", {"call": lambda: 1})])


# ---------------------------------------------------------------------------------------------- arithmetic
def test_totals_are_missing_where_a_reward_failed_and_rewards_of_weight_zero_only_watch():
    panel = Panel([make("odd-here"), make("odd-here", weight=2), make("odd-here", weight=0)])
    score, none, late = Verdict("score", 3.0), Verdict("abstained"), Verdict("timeout")
    columns = [
        (score, score, score),
        (score, none, late),
        (none, none, score),
        (score, late, score),
        (late, none, none),
    ]
    verdicts = [list(found) for found in zip(*columns, strict=True)]
    assert panel.totals(verdicts) == [9.0, 3.0, None, None, None]
    assert panel.totals([[], [], []]) == []
    panel.close()


def test_shares_add_up_over_all_rewards():
    score, none, late = Verdict("score", 3.0), Verdict("abstained"), Verdict("timeout")
    found = shares([[score, none], [score, late]])
    assert found == {"score": 0.5, "abstained": 0.25, "timeout": 0.25, "error": 0.0, "infrastructure": 0.0}
    assert set(shares([]).values()) == {0.0}


def test_labels_never_clash():
    rewards = [make("odd", label=label) for label in ("odd-2", None, None, "odd")]
    assert labels_of(rewards) == ["odd-2", "odd", "odd-3", "odd-4"]


def test_missing_columns_are_named_with_those_that_exist(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def needs(completion, answer, level=1):\n    return 1.0\n")
    reward = build(REGISTRY, "reward", f"{path}:needs")
    missing_columns([make("odd"), reward], ["answer"])
    with pytest.raises(ConfigError) as caught:
        missing_columns([make("odd"), reward], ["anwser", "question"])
    assert caught.value.what == "the reward 'needs' needs the column 'answer'"
    assert "'anwser', 'question'" in (caught.value.why or "") and "did you mean 'anwser'" in (caught.value.fix or "")
    with pytest.raises(ConfigError, match="no columns beside the prompt"):
        missing_columns([reward], [])
    path.write_text("def needs(completion, completions_gold):\n    return 1.0\n")
    with pytest.raises(ConfigError) as caught:  # the answer itself is never what it should be compared with
        missing_columns([build(REGISTRY, "reward", f"{path}:needs")], ["prompt", "completion"])
    assert caught.value.fix is not None and caught.value.fix.endswith(f"`tunesmith show {path}:needs`")
