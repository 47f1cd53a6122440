"""Advantages worked out by hand."""

from math import sqrt
from types import SimpleNamespace

import pytest
import torch
from tunesmith.numerics import grouped, moments

from tunesmith_reinforce_plus_plus import ReinforcePlusPlus, less_baseline

NAN = float("nan")


def advantages(rewards, trees, baseline="none"):
    # the objective and the rewards are looked up by name, and play no part here
    method = ReinforcePlusPlus.model_construct(baseline=baseline)
    rewards, trees = torch.tensor(rewards, dtype=torch.float64), torch.tensor(trees)
    groups = grouped(trees, int(trees.max()) + 1, rewards.isfinite())
    found = moments(less_baseline(rewards, groups, baseline), groups.valid)
    totals = {"centred": found.total, "centred_squares": found.squares, "answers": found.count}
    return method.advantages(rewards, groups, SimpleNamespace(totals=totals)).tolist()


def test_rewards_are_normalised_over_the_whole_step():
    # mean 1/2, variance 6 * 1/4 / 5 = 3/10; the second prompt, always solved, counts as well
    found = advantages([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0, 0, 0, 0, 1, 1])
    a = 0.5 / sqrt(0.3)
    assert found == pytest.approx([a, -a, -a, -a, a, a], rel=1e-6)


def test_baseline_is_the_mean_of_the_group():
    # less 1/4 and 1: 3/4, -1/4 three times, 0 twice; mean 0, variance (9/16 + 3/16) / 5 = 3/20
    found = advantages([1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0, 0, 0, 0, 1, 1], "group")
    assert found == pytest.approx([0.75 / sqrt(0.15), *[-0.25 / sqrt(0.15)] * 3, 0.0, 0.0], rel=1e-6)


def test_one_answer_to_each_prompt_is_enough():
    # mean 2, variance (1 + 0 + 1) / 2
    assert advantages([1.0, 2.0, 3.0], [0, 1, 2]) == pytest.approx([-1.0, 0.0, 1.0], rel=1e-6)


def test_answers_without_a_reward_change_nothing():
    some = advantages([1.0, NAN, 0.0, 0.0], [0, 0, 0, 1])
    without = advantages([1.0, 0.0, 0.0], [0, 0, 1])
    assert [some[0], some[2], some[3]] == pytest.approx(without, rel=1e-12)


def test_equal_rewards_teach_nothing():
    assert advantages([1.0, 1.0, 1.0], [0, 1, 2]) == [0.0, 0.0, 0.0]


def test_baseline_of_a_group_needs_a_group():
    with pytest.raises(ValueError, match="raise group_size to 2 or more"):
        ReinforcePlusPlus.model_construct(baseline="group", group_size=1)._has_a_group()
    assert ReinforcePlusPlus.model_construct(baseline="group", group_size=2)._has_a_group()
