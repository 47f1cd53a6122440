"""Group statistics, advantages, GAE, KL estimators: against loops over plain numbers and against their definitions."""

import math
import statistics
import subprocess
import sys

import pytest
import torch

from tunesmith.numerics import (
    Moments,
    adapted_kl_coef,
    discounted_sums,
    effective_sample_share,
    explained_variance,
    gae,
    group_advantages,
    grouped,
    kl_estimate,
    last_of,
    leave_one_out_advantages,
    length_weighted_advantages,
    moments,
    separate_advantages,
    sum_by,
    token_rewards,
    whiten,
)

NAN, INF = float("nan"), float("inf")
GROUPS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4]
REWARDS = [1.0, 0.0, 3.0, NAN, 2.0, 2.0, 2.0, 5.0, NAN, 4.0, 0.1, INF, 0.7]
VALID = [True, True, True, False, True, True, True, True, False, True, True, False, True]


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def ragged():
    """Five groups: with an unscorable member, all equal, one valid of two, a single answer, two valid of three."""
    return doubles(*REWARDS), grouped(torch.tensor(GROUPS), 5, torch.tensor(VALID))


def members(group):
    return [r for r, g, v in zip(REWARDS, GROUPS, VALID, strict=True) if g == group and v]


def random_groups(num=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, 8, (num,), generator=generator)
    valid = torch.rand(num, generator=generator) > 0.2
    return torch.randn(num, generator=generator, dtype=torch.float64), grouped(index, 8, valid)


# ------------------------------------------------------------------------------------------------ groups
def test_group_statistics_are_those_of_the_valid_members():
    rewards, groups = ragged()
    assert groups.sizes.tolist() == [3, 3, 1, 1, 2]
    assert groups.means(rewards).tolist() == pytest.approx([statistics.mean(members(g)) for g in range(5)])
    deviations = [statistics.stdev(members(g)) if len(members(g)) > 1 else 0.0 for g in range(5)]
    assert groups.stds(rewards).tolist() == pytest.approx(deviations)
    assert groups.spread(rewards).tolist() == [True, False, False, False, True]


def test_a_group_without_a_valid_member_has_a_mean_and_no_spread():
    groups = grouped(torch.tensor([0, 0]), 2, torch.tensor([False, False]))
    rewards = doubles(NAN, 3.0)
    assert groups.means(rewards).tolist() == groups.stds(rewards).tolist() == [0, 0]
    assert not groups.spread(rewards).any()


def test_means_of_equal_numbers_that_round_leave_no_advantage():
    """0.1 three times is not 0.3: R - mean would be 1e-17, and over a std of 1e-17 + eps no zero."""
    rewards, groups = doubles(*[0.1] * 3, *[0.7] * 6), grouped(torch.tensor([0] * 3 + [1] * 6), 2)
    for advantages in (
        group_advantages(rewards, groups, scale="group", eps=0.0),
        leave_one_out_advantages(rewards, groups),
        length_weighted_advantages(rewards, torch.arange(9) + 1, groups),
    ):
        assert advantages.tolist() == [0.0] * 9


# ------------------------------------------------------------------------------------------------ advantages
def test_group_advantages_by_hand():
    rewards, groups = ragged()
    mean, std = statistics.mean(members(0)), statistics.stdev(members(0))
    centred = group_advantages(rewards, groups)
    assert centred[:4].tolist() == pytest.approx([1 - mean, -mean, 3 - mean, 0])
    assert centred[4:10].tolist() == [0.0] * 6
    scaled = group_advantages(rewards, groups, scale="group", eps=1e-4)
    assert scaled[:3].tolist() == pytest.approx([(r - mean) / (std + 1e-4) for r in members(0)])
    everyone = [r for r, v in zip(REWARDS, VALID, strict=True) if v]
    by_batch = group_advantages(rewards, groups, scale="batch", eps=0.0)
    assert torch.allclose(by_batch, centred / statistics.stdev(everyone), rtol=1e-12)
    other = group_advantages(rewards, groups, scale="batch", eps=0.0, batch=Moments(0.0, 4 * 12.0, 13))
    assert torch.allclose(other, centred / 2, rtol=1e-12)


def test_leave_one_out_by_hand():
    rewards, groups = ragged()
    advantages = leave_one_out_advantages(rewards, groups)
    assert advantages[:4].tolist() == pytest.approx([1 - 1.5, 0 - 2, 3 - 0.5, 0])
    assert advantages[4:10].tolist() == [0.0] * 6
    assert advantages[10:].tolist() == pytest.approx([-0.6, 0, 0.6])


def test_leave_one_out_is_the_mean_baseline_times_n_over_n_minus_one():
    rewards, groups = random_groups()
    sizes = groups.sizes[groups.index]
    expected = group_advantages(rewards, groups) * sizes / (sizes - 1).clamp(min=1)
    assert torch.allclose(leave_one_out_advantages(rewards, groups), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("advantages", [group_advantages, leave_one_out_advantages])
def test_advantages_of_a_group_sum_to_zero(advantages):
    rewards, groups = random_groups()
    assert groups.sums(advantages(rewards, groups)).abs().max() < 1e-13


def test_unscorable_rows_move_nothing():
    """Whatever stands in their place; and the others are as if they were not there."""
    rewards, groups = random_groups()
    keep = groups.valid
    alone = grouped(groups.index[keep], 8)
    for noise in (NAN, INF, 1e9):
        spoilt = torch.where(keep, rewards, noise)
        for function in (group_advantages, leave_one_out_advantages):
            found = function(spoilt, groups)
            assert (found[~keep] == 0).all()
            assert torch.equal(found[keep], function(rewards[keep], alone))


def test_std_scaled_advantages_survive_an_affine_map_and_leave_one_out_scales_with_it():
    rewards, groups = random_groups()
    mapped = 7 * rewards - 3
    scaled = [group_advantages(r, groups, scale="group", eps=0.0) for r in (rewards, mapped)]
    assert torch.allclose(*scaled, rtol=1e-10)
    assert torch.allclose(leave_one_out_advantages(mapped, groups), 7 * leave_one_out_advantages(rewards, groups))


def test_two_answers_lose_the_size_of_their_difference_to_the_std():
    groups = grouped(torch.tensor([0, 0, 1, 1]), 2)
    advantages = group_advantages(doubles(0, 1, 0, 1000), groups, scale="group", eps=0.0)
    assert advantages.tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5] * 2)


def test_permuted_answers_have_permuted_advantages():
    rewards, groups = random_groups()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    moved = grouped(groups.index[order], 8, groups.valid[order])
    for scale in ("none", "group", "batch"):
        expected = group_advantages(rewards, groups, scale=scale)[order]
        assert torch.allclose(group_advantages(rewards[order], moved, scale=scale), expected, rtol=1e-12, atol=1e-15)


def test_length_weighted_baseline():
    """(1 * 10 + 3 * 2) / (10 + 2) = 4/3; the unscorable answer's length does not count."""
    groups = grouped(torch.tensor([0, 0, 0]), 1, torch.tensor([True, True, False]))
    advantages = length_weighted_advantages(doubles(1, 3, NAN), torch.tensor([10, 2, 7]), groups)
    assert advantages.tolist() == pytest.approx([1 - 4 / 3, 3 - 4 / 3, 0])


def test_separately_normalised_rewards():
    """Rewards of spread 1 and 100 count alike; one that abstains adds nothing; then the step is whitened."""
    groups = grouped(torch.tensor([0, 0, 0]), 1)
    rewards = torch.stack([doubles(0, 1, NAN), doubles(0, 100, 50)])
    valid = rewards.isfinite()
    sums = separate_advantages(rewards, doubles(1.0, 2.0), groups, valid_KR=valid, eps=0.0)
    half = 0.5**0.5
    assert sums.tolist() == pytest.approx([-half - 2, half + 2, 0])
    white = whiten(sums, moments(sums))
    assert white.mean().item() == pytest.approx(0) and white.std().item() == pytest.approx(1)


# ------------------------------------------------------------------------------------------------ whitening
def test_whitening_over_processes_is_whitening_of_the_whole():
    values = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 5
    valid = torch.arange(30) % 4 > 0
    parts = [moments(values[rows], valid[rows]) for rows in (slice(0, 7), slice(7, 30))]
    over = Moments(*(sum(getattr(part, name) for part in parts) for name in ("total", "squares", "count")))
    white = whiten(values, over, eps=0.0)[valid]
    assert white.mean().item() == pytest.approx(0, abs=1e-12) and white.std().item() == pytest.approx(1, rel=1e-12)
    kept = whiten(values, over, shift_mean=False, eps=0.0)[valid]
    assert kept.mean().item() == pytest.approx(values[valid].mean().item()) and kept.std().item() == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [3.0], [0.3] * 1000])
def test_whitening_without_spread_does_not_blow_up(values):
    values = torch.tensor(values)
    assert (whiten(values, moments(values)).abs() < 1e-6).all()
    assert moments(values).std == 0


# ------------------------------------------------------------------------------------------------ along a sequence
LENGTHS = [5, 1, 0, 9, 2, 17]
SEGMENTS = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))


def random_tokens(seed=0, num=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, len(SEGMENTS), generator=generator, dtype=torch.float64)


def loop_gae(rewards, values, discount, decay):
    """One sequence, backwards, as in the definition of delta."""
    advantages, following, after = [], 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        following = reward + discount * after - value + discount * decay * following
        advantages.append(following)
        after = value
    return advantages[::-1]


def by_segment(function, *columns):
    """The function on every segment's plain numbers, joined."""
    found = []
    for segment in range(len(LENGTHS)):
        found += function(*(column[segment == SEGMENTS].tolist() for column in columns))
    return found


@pytest.mark.parametrize(("discount", "decay"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.8), (1.0, 0.0), (0.0, 0.5)])
def test_gae_is_the_loop(discount, decay):
    rewards, values = random_tokens()
    expected = by_segment(lambda r, v: loop_gae(r, v, discount, decay), rewards, values)
    found = gae(rewards, values, SEGMENTS, discount=discount, decay=decay)
    assert found.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_gae_at_its_ends():
    """lambda 1 without discount: reward to go less value. lambda 0: the one-step error."""
    rewards, values = random_tokens()
    to_go = by_segment(lambda r: [sum(r[t:]) for t in range(len(r))], rewards)
    assert discounted_sums(rewards, SEGMENTS, 1.0).tolist() == pytest.approx(to_go, rel=1e-12, abs=1e-12)
    full = gae(rewards, values, SEGMENTS, discount=1.0, decay=1.0)
    assert full.tolist() == pytest.approx((doubles(*to_go) - values).tolist(), rel=1e-12, abs=1e-12)
    step = by_segment(
        lambda r, v: [r[t] + (v[t + 1] if t + 1 < len(v) else 0) - v[t] for t in range(len(r))],
        *(
            rewards,
            values,
        ),
    )
    assert gae(rewards, values, SEGMENTS, discount=1.0, decay=0.0).tolist() == pytest.approx(step, rel=1e-12)


def test_leaving_observations_out_is_carrying_advantage_and_value_through_them():
    """The loop that skips tokens of a tool's output, as others implement it, on one sequence."""
    rewards, values = random_tokens(seed=3)[:, :12]
    scored = torch.tensor([1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1], dtype=torch.bool)
    following = after = 0.0
    carried = []
    for t in reversed(range(12)):
        if scored[t]:
            following = (rewards[t] + 0.9 * after - values[t] + 0.9 * 0.8 * following).item()
            after = values[t].item()
        carried.append(following)
    expected = torch.tensor(carried[::-1], dtype=torch.float64)[scored]
    segments = torch.zeros(int(scored.sum()), dtype=torch.int64)
    found = gae(rewards[scored], values[scored], segments, discount=0.9, decay=0.8)
    assert torch.allclose(found, expected, rtol=1e-12)


def test_sequences_do_not_see_each_other():
    rewards, values = random_tokens()
    other = torch.where(SEGMENTS == 3, 1e6, rewards)
    one, two = (gae(r, values, SEGMENTS, discount=1.0, decay=0.95) for r in (rewards, other))
    assert torch.equal(one[SEGMENTS != 3], two[SEGMENTS != 3]) and not torch.equal(one, two)


def test_a_score_stands_at_the_last_token_and_nowhere_else():
    """Sums per answer are R - beta * sum of k1, for answers that have a token."""
    scores, (kl, _) = doubles(1, 2, 3, 4, 5, 6), random_tokens()
    rewards = token_rewards(scores, 0.1 * kl, SEGMENTS)
    total = sum_by(rewards, SEGMENTS, 6)
    expected = torch.where(torch.tensor(LENGTHS) > 0, scores, 0.0) - 0.1 * sum_by(kl, SEGMENTS, 6)
    assert torch.allclose(total, expected, rtol=1e-12)
    bare = token_rewards(scores, torch.zeros_like(kl), SEGMENTS)
    assert torch.equal(bare != 0, last_of(SEGMENTS)) and int((bare != 0).sum()) == 5


def test_nothing_at_all():
    none, segments = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert gae(none, none, segments, discount=1.0, decay=0.9).shape == (0,)
    assert token_rewards(torch.zeros(2), none, segments).shape == (0,)


# ------------------------------------------------------------------------------------------------ divergence
def test_kl_estimators_by_hand():
    log_ratio = doubles(0.5, -1.0, 0.0)
    assert kl_estimate(log_ratio, "k1").tolist() == [0.5, -1.0, 0.0]
    assert kl_estimate(log_ratio, "k2").tolist() == [0.125, 0.5, 0.0]
    expected = [math.exp(-0.5) - 0.5, math.e - 2, 0.0]
    assert kl_estimate(log_ratio, "k3").tolist() == pytest.approx(expected)


def test_kl_estimators_are_finite_far_away():
    far = torch.tensor([-1e6, 1e6, -INF, INF])
    for estimator in ("k1", "k2", "k3"):
        assert kl_estimate(far, estimator).isfinite().all()


def test_k3_keeps_its_digits_near_zero():
    """5e-9 for l = 1e-4; written as exp(-l) - 1 + l it would be a multiple of 6e-8 in fp32, perhaps a negative one."""
    assert kl_estimate(torch.tensor(1e-4), "k3").item() == pytest.approx(5e-9, abs=1e-11)
    assert (kl_estimate(torch.linspace(-1e-2, 1e-2, 1001), "k3") >= 0).all()


def test_kl_coefficient_rests_at_its_target_and_moves_by_a_fifth_at_most():
    def step(kl):
        return adapted_kl_coef(0.2, kl, target=6.0, horizon=100.0, count=10)

    assert step(6.0) == 0.2
    assert step(6.6) == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    assert step(600.0) == pytest.approx(0.2 * 1.02) and step(0.0) == step(-50.0) == pytest.approx(0.2 * 0.98)


def test_explained_variance():
    returns = random_tokens()[0]

    def of(values):
        return explained_variance(moments(returns - values), moments(returns))

    assert of(returns) == 1 and of(returns + 3) == pytest.approx(1)
    assert of(returns.mean().expand(len(returns))) == pytest.approx(0, abs=1e-12)
    assert of(-returns) == pytest.approx(-3)
    assert explained_variance(moments(returns), moments(torch.ones(4))) == 0


def test_effective_sample_share():
    assert effective_sample_share(torch.full((7,), 3.0)) == pytest.approx(1)
    assert effective_sample_share(torch.tensor([1.0, 0, 0, 0])) == pytest.approx(0.25)
    assert effective_sample_share(torch.zeros(3)) == effective_sample_share(torch.zeros(0)) == 0


def test_numerics_imports_torch_only():
    code = (
        "import sys, tunesmith.numerics;"
        "print(sorted(m for m in sys.modules if m.startswith(('tunesmith.', 'transformers', 'pyarrow'))))"
    )
    bare = "import sys, tunesmith; print(sorted(m for m in sys.modules if m.startswith('tunesmith.')))"
    found, without = (
        eval(subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout)
        for c in (code, bare)
    )
    assert set(found) - set(without) == {"tunesmith.numerics"}
