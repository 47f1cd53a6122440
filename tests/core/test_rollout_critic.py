"""Advantages of single tokens against a plain loop; what is whitened, and over what; the controller's state."""

import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tunesmith.data.trees import Batch, Branch, Tree, joined
from tunesmith.numerics import kl_estimate
from tunesmith.rollout import critic

NAN = float("nan")


def answer(chance, size, reward):
    columns = {name: chance.normal(size=size).astype(np.float32) for name in ("values", "old", "reference")}
    return Branch(np.arange(size, dtype=np.int32), np.ones(size, bool), reward, columns)


def answers(sizes=((3, 1), (5,), (2, 4)), rewards=((1.0, -2.0), (7.0,), (NAN, 0.5)), stops=None, seed=0):
    """Prompts with answers of these lengths and rewards, and what is on record of them."""
    chance = np.random.default_rng(seed)
    trees = [
        Tree(
            np.array([1, 2], np.int32), tuple(answer(chance, *each) for each in zip(own, values, strict=True)), row=row
        )
        for row, (own, values) in enumerate(zip(sizes, rewards, strict=True))
    ]
    flat = [value for values in rewards for value in values]
    stops = stops or ["eos"] * len(flat)
    records = [
        {"sample": 0, "reward": None if math.isnan(value) else value, "stop": stop}
        for value, stop in zip(flat, stops, strict=True)
    ]
    return Batch(trees, {"position": torch.arange(len(trees))}, {}, records)


def loop(branch, reward, *, kl_coef, discount, decay, estimator="k1"):
    """Advantages and returns of an answer, token by token from its end."""
    values = [float(v) for v in branch.columns["values"]]
    gaps = [float(o - r) for o, r in zip(branch.columns["old"], branch.columns["reference"], strict=True)]
    rewards = [-kl_coef * float(kl_estimate(torch.tensor(gap), estimator)) for gap in gaps]
    rewards[-1] += reward
    advantages, after, later = [], 0.0, 0.0
    for value, own in zip(reversed(values), reversed(rewards), strict=True):
        later = own + discount * after - value + discount * decay * later
        advantages.append(later)
        after = value
    advantages.reverse()
    return advantages, [a + v for a, v in zip(advantages, values, strict=True)]


PLAIN = {"kl_coef": 0.1, "discount": 0.97, "decay": 0.8}


def branches(batch):
    return [branch for tree in batch.trees for branch in tree.branches]


@pytest.mark.parametrize(
    "settings",
    [PLAIN, {"kl_coef": 0.0, "discount": 1.0, "decay": 1.0}, {**PLAIN, "decay": 0.0}, {**PLAIN, "estimator": "k3"}],
)
def test_tokens_get_what_a_loop_gives_them(settings):
    given = {("kl_estimator" if k == "estimator" else k): v for k, v in settings.items()}
    found = critic.token_advantages(answers(), **given)
    for branch in branches(found):
        if math.isnan(branch.value):
            assert np.isnan(branch.columns["advantages"][-1])
            continue
        advantages, returns = loop(branch, branch.value, **settings)
        assert branch.columns["advantages"].tolist() == pytest.approx(advantages, abs=1e-5)
        assert branch.columns["returns"].tolist() == pytest.approx(returns, abs=1e-5)


def test_the_reward_stands_at_the_last_token_alone():
    """Without discount and with lambda 0 an advantage is the token's own reward and what the critic expected."""
    batch = answers(sizes=((4,),), rewards=((3.0,),))
    other = answers(sizes=((4,),), rewards=((5.0,),))
    one, two = (critic.token_advantages(b, kl_coef=0.1, discount=0.0, decay=0.0) for b in (batch, other))
    moved = branches(two)[0].columns["advantages"] - branches(one)[0].columns["advantages"]
    assert moved.tolist() == pytest.approx([0, 0, 0, 2.0], abs=1e-6)


def test_an_answer_that_was_cut_off_gets_its_reward_at_its_last_token_too():
    found = critic.token_advantages(answers(stops=["length"] * 5), **PLAIN)
    ended = critic.token_advantages(answers(), **PLAIN)
    for one, other in zip(branches(found), branches(ended), strict=True):
        np.testing.assert_array_equal(one.columns["advantages"], other.columns["advantages"])


def test_rewards_can_be_scaled_by_those_given_before_and_cut():
    past = [10.0, 60.0, 5]  # mean 2, variance (60 - 20) / 4 = 10
    found = critic.token_advantages(answers(), **PLAIN, past=past, clip=1.0)
    for branch in branches(found):
        if math.isfinite(branch.value):
            scaled = max(-1.0, min(1.0, (branch.value - 2) / math.sqrt(10)))
            assert branch.columns["advantages"].tolist() == pytest.approx(loop(branch, scaled, **PLAIN)[0], abs=1e-5)
    first = critic.token_advantages(answers(), **PLAIN, past=[1.0, 1.0, 1])  # one reward has no deviation
    assert branches(first)[0].columns["advantages"].tolist() == pytest.approx(loop(branches(first)[0], 1.0, **PLAIN)[0])


def test_the_kl_on_record_is_the_sum_over_the_answer():
    found = critic.token_advantages(answers(), **PLAIN)
    for branch, sample in zip(branches(found), found.samples, strict=True):
        assert sample["kl"] == pytest.approx(
            float((branch.columns["old"] - branch.columns["reference"]).sum()), abs=1e-5
        )
    assert all("kl" not in sample for sample in critic.token_advantages(answers(), **{**PLAIN, "kl_coef": 0.0}).samples)


def test_nothing_sampled_is_nothing_done():
    assert critic.token_advantages(Batch([]), **PLAIN).trees == []
    assert critic.advantage_totals(Batch([])) == {"advantage": 0.0, "advantage_squares": 0.0, "tokens": 0.0}


# ------------------------------------------------------------------------------------------------ the whole step
def settled(batch, totals, **given):
    batch = Batch(batch.trees, batch.columns, totals, batch.samples)
    return critic.settle(batch, **{"whiten": True, "idle": False, "mask_truncated": False, **given})


def summed(*parts):
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def tokens_of(batch):
    return [float(a) for branch in branches(batch) for a in branch.columns["advantages"]]


def test_whitening_is_over_the_tokens_of_all_processes():
    parts = [critic.token_advantages(answers(seed=seed), **PLAIN) for seed in (1, 2)]
    totals = summed(*(critic.advantage_totals(part) for part in parts))
    assert totals["tokens"] == 2 * 13
    apart = [tokens_of(settled(part, totals)) for part in parts]
    together = tokens_of(settled(joined(*parts), totals))
    assert apart[0] + apart[1] == together
    assert statistics.fmean(together) == pytest.approx(0, abs=1e-6)
    assert statistics.stdev(together) == pytest.approx(1, abs=1e-6)
    assert abs(statistics.fmean(apart[0])) > 1e-3


def test_masked_answers_leave_the_loss_and_the_moments():
    stops = ["eos", "length", "eos", "eos", "length"]
    batch = critic.token_advantages(answers(stops=stops), **PLAIN)
    totals = critic.advantage_totals(batch, mask_truncated=True)
    found = settled(batch, totals, mask_truncated=True)
    assert len(tokens_of(found)) == totals["tokens"] == 3 + 5
    assert statistics.fmean(tokens_of(found)) == pytest.approx(0, abs=1e-6)
    assert [tree.row for tree in found.trees] == [0, 1]
    assert found.samples[1]["advantage"] is not None


def test_answers_without_a_reward_are_left_out():
    batch = critic.token_advantages(answers(), **PLAIN)
    found = settled(batch, critic.advantage_totals(batch))
    assert [len(tree.branches) for tree in found.trees] == [2, 1, 1]
    assert all(math.isfinite(value) for value in tokens_of(found))
    assert "advantage" not in found.samples[3]
    for sample, branch in zip([s for i, s in enumerate(batch.samples) if i != 3], branches(found), strict=True):
        assert sample["reward"] == branch.value


def test_in_the_warm_up_of_the_critic_nothing_pulls_at_the_policy():
    batch = critic.token_advantages(answers(), **PLAIN)
    assert set(tokens_of(settled(batch, critic.advantage_totals(batch), idle=True))) == {0.0}


def test_without_whitening_advantages_stay_as_they_are():
    batch = critic.token_advantages(answers(), **PLAIN)
    found = settled(batch, critic.advantage_totals(batch), whiten=False)
    wanted = [
        a for branch in branches(batch) if math.isfinite(branch.value) for a in branch.columns["advantages"].tolist()
    ]
    assert tokens_of(found) == wanted


# ------------------------------------------------------------------------------------------------ after a step
def test_explained_variance_is_that_of_returns_and_errors():
    chance = np.random.default_rng(0)
    returns = chance.normal(size=50) + 3
    values = returns + chance.normal(size=50) * 0.5 + 1
    errors = returns - values
    metrics = {"loss": 1.0}
    for name, numbers in (("returns", returns), ("value_error", errors)):
        metrics |= {f"{name}/mean": numbers.mean(), f"{name}/square_mean": (numbers**2).mean()}
    found = critic.explained(metrics)
    assert found["explained_variance"] == pytest.approx(1 - errors.var() / returns.var())
    assert found["returns/mean"] == pytest.approx(returns.mean())
    assert metrics == {"loss": 1.0}
    assert critic.explained({"loss": 1.0}) == {}


def context(samples, **state):
    return SimpleNamespace(samples=samples, state=state)


def test_rewards_are_remembered_over_steps():
    ctx = context([{"reward": 1.0}, {"reward": None}, {"reward": 0.0}])
    critic.remember_rewards(ctx)
    ctx.samples = [{"reward": -3.0}]
    critic.remember_rewards(ctx)
    assert ctx.state["rewards"] == [-2.0, 10.0, 3]


def test_the_weight_of_the_kl_moves_towards_its_target_and_stays_there():
    def moved(kl):
        return critic.adapt(context([{"kl": kl}] * 10, kl_coef=0.2), 0.5, target=6.0, horizon=100)

    assert moved(6.0) == 0.2
    assert moved(6.6) == pytest.approx(0.2 * (1 + 0.1 * 10 / 100))
    assert moved(60.0) == pytest.approx(0.2 * (1 + 0.2 * 10 / 100))
    assert moved(-60.0) == pytest.approx(0.2 * (1 - 0.2 * 10 / 100))
    empty = context([])
    assert critic.adapt(empty, 0.5, 6.0, 100) == empty.state["kl_coef"] == 0.5
