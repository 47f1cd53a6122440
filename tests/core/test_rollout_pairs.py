"""Pairs and labels from answers with rewards: what is compared, what never is, and what earlier rounds keep."""

import random
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.rollout.pairs import (
    choose_pairs,
    distinct,
    label_trees,
    packed_trees,
    pair_trees,
    taken,
    unpacked_trees,
    weights_digest,
)

RULES = ["best-worst", "best-random", "all"]


def grown(*answers, row=0):
    """A prompt of two tokens with these answers."""
    branches = [
        Branch(np.array(ids, np.int32), np.ones(len(ids), bool), 0.0, {"sampler": -np.ones(1)}) for ids in answers
    ]
    return Tree(np.array([1, 2], np.int32), tuple(branches), 3, row, about={"prompt": "p", "columns": {}})


def some_rewards(chance):
    """Few different values, so that many are equal, and some that are missing."""
    return [chance.choice([None, 0.0, 0.25, 0.5, 1.0]) for _ in range(chance.randint(1, 9))]


@pytest.mark.parametrize("pairing", RULES)
def test_every_pair_has_a_better_one_and_the_gap(pairing):
    chance = random.Random(0)
    seen = 0
    for _ in range(300):
        rewards, gap = some_rewards(chance), chance.choice([0.0, 0.3, 0.75])
        for better, worse in choose_pairs(rewards, pairing, min_gap=gap, chance=chance):
            assert rewards[better] > rewards[worse]
            assert rewards[better] - rewards[worse] >= gap
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("pairing", RULES)
@pytest.mark.parametrize("rewards", [[0.5] * 4, [None] * 3, [1.0], [], [None, 0.3, None]])
def test_ties_and_lone_answers_give_no_pair(pairing, rewards):
    assert choose_pairs(rewards, pairing) == []


def test_best_and_worst_are_the_extremes_and_the_first_of_equals():
    assert choose_pairs([0.2, 1.0, 0.0, 1.0, 0.0], "best-worst") == [(1, 2)]


@pytest.mark.parametrize("change", [lambda r: 3 * r + 7, lambda r: r**3, lambda r: -(2.0**-r)])
def test_what_is_best_and_worst_depends_on_the_order_of_the_rewards_alone(change):
    chance = random.Random(1)
    for _ in range(100):
        rewards = some_rewards(chance)
        moved = [None if reward is None else change(reward) for reward in rewards]
        assert choose_pairs(rewards, "best-worst") == choose_pairs(moved, "best-worst")


def test_all_means_every_two_of_different_reward():
    chance = random.Random(2)
    for _ in range(100):
        rewards = some_rewards(chance)
        known = [i for i, reward in enumerate(rewards) if reward is not None]
        wanted = {frozenset(two) for two in combinations(known, 2) if rewards[two[0]] != rewards[two[1]]}
        assert {frozenset(pair) for pair in choose_pairs(rewards, "all")} == wanted


def test_a_random_worse_one_is_any_of_the_worse_ones():
    rewards = [0.0, 1.0, 0.5, 1.0, None]
    found = {pair for seed in range(50) for pair in choose_pairs(rewards, "best-random", chance=random.Random(seed))}
    assert found == {(1, 0), (1, 2)}
    one, other = (choose_pairs(rewards, "best-random", chance=random.Random(5)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("pairing", RULES)
def test_who_may_not_win_is_never_chosen(pairing):
    rewards, may_win = [1.0, 0.6, 0.0, 0.3], [False, True, True, True]
    pairs = choose_pairs(rewards, pairing, may_win=may_win)
    assert pairs
    assert all(may_win[better] for better, _ in pairs)
    assert pairs[0] == (1, 2) or pairing == "best-random"
    assert choose_pairs(rewards, pairing, may_win=[False] * 4) == []


def test_a_truncated_answer_of_little_reward_may_still_lose():
    assert choose_pairs([0.6, 0.0], "best-worst", may_win=[True, False]) == [(0, 1)]


def test_the_widest_gaps_are_kept():
    pairs = choose_pairs([0.0, 0.1, 0.6, 1.0], "all", most=3)
    assert pairs == [(3, 0), (3, 1), (2, 0)]


def test_identical_answers_are_not_compared():
    answers = [[5, 6], [7], [5, 6]]
    assert distinct([(0, 1), (0, 2), (2, 1)], answers) == [(0, 1), (2, 1)]
    same = [[5]] * 4
    assert distinct(choose_pairs([0.0, 1.0, 0.5, 0.2], "all"), same) == []


# ------------------------------------------------------------------------------------------------ trees
def test_a_pair_is_a_tree_of_the_same_prompt_with_the_better_answer_first():
    tree = grown([5], [6, 7], [8])
    (made,) = pair_trees(tree, [(2, 1)])
    assert [(branch.ids.tolist(), branch.value) for branch in made.branches] == [([8], 1.0), ([6, 7], 0.0)]
    assert made.trunk.tolist() == [1, 2]
    assert (made.source, made.row) == (3, 0)
    assert all(not branch.columns for branch in made.branches)


def test_a_label_is_a_tree_of_one_answer():
    made = label_trees(grown([5], [6, 7], [8]), {0: True, 2: False})
    assert [(tree.branches[0].ids.tolist(), tree.branches[0].value) for tree in made] == [([5], 1.0), ([8], 0.0)]


def test_trees_stand_where_the_prompt_stood():
    trees = [grown([5], [6], row=row) for row in range(3)]
    batch = Batch(trees, {"position": torch.tensor([4, 9, 7])}, {"n": 1.0}, ({"sample": 0},))
    made = taken(batch, [pair_trees(trees[0], [(0, 1), (1, 0)]), [], pair_trees(trees[2], [(1, 0)])])
    assert made.columns["position"].tolist() == [4, 4, 7]
    assert [tree.row for tree in made.trees] == [0, 0, 2]
    assert (made.totals, made.samples) == ({"n": 1.0}, ({"sample": 0},))
    assert len(taken(batch, [[], [], []])) == 0


def test_earlier_rounds_come_back_as_they_were():
    import json

    trees = [*pair_trees(grown([5], [6, 7], row=4), [(1, 0)]), *label_trees(grown([9], row=5), {0: False})]
    again = unpacked_trees(json.loads(json.dumps(packed_trees(trees))))
    for one, other in zip(trees, again, strict=True):
        assert (one.source, one.row, one.trunk.tolist()) == (other.source, other.row, other.trunk.tolist())
        assert other.trunk.dtype == np.int32
        for a, b in zip(one.branches, other.branches, strict=True):
            assert (a.ids.tolist(), a.mask.tolist(), a.value) == (b.ids.tolist(), b.mask.tolist(), b.value)


def test_a_digest_names_the_trained_weights():
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    with torch.no_grad():
        other.bias[0] += 1e-6
    assert weights_digest(one) != weights_digest(other)
    assert weights_digest(one.bfloat16()) != weights_digest(other)
    other.bias.requires_grad_(False)
    frozen = weights_digest(other)
    with torch.no_grad():
        other.bias[0] += 1
    assert weights_digest(other) == frozen
