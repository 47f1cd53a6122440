"""What stands beside the policy gradient: corrections of the sampler, the KL, and the critic."""

import math

import numpy as np
import pytest
import torch

from tunesmith import ConfigError
from tunesmith_methods.objectives.policy import GRPO, PPO


def gradient(objective, x):
    """Of the sum, with respect to the log-probabilities."""
    return torch.autograd.grad(objective(x).total, x.logps)[0]


# ------------------------------------------------------------------------------------------------ sampler
def gaps_of(x):
    gap = (x.old - x.sampler).exp()
    whole = torch.stack([gap[x.branches == b].prod() for b in range(x.num_branches)])
    return gap, whole[x.branches]


@pytest.mark.parametrize(
    ("kind", "bounds", "weight"),
    [
        ("token-tis", {"correction_high": 1.1}, lambda t, s: t.clamp(max=1.1)),
        ("sequence-tis", {"correction_high": 1.1, "correction_low": 0.8}, lambda t, s: s.clamp(0.8, 1.1)),
        ("token-mask", {"correction_low": 0.9, "correction_high": 1.1}, lambda t, s: t * ((t >= 0.9) & (t <= 1.1))),
        ("sequence-mask", {"correction_high": 1.1}, lambda t, s: s * (s <= 1.1)),
        ("token-tis", {}, lambda t, s: t.clamp(max=2)),
        ("token-mask", {}, lambda t, s: t * ((t >= 0.5) & (t <= 5))),
        ("sequence-mask", {}, lambda t, s: s * (s <= 3)),
    ],
)
def test_correction_weighs_the_gradient(kind, bounds, weight, answers):
    """The weights have no gradient of their own: it is that of the loss times them."""
    x = answers()
    weights = weight(*gaps_of(x))
    found = gradient(GRPO(correction=kind, **bounds), x)
    assert torch.allclose(found, weights * gradient(GRPO(), x), rtol=1e-12)


def test_tokens_that_the_engine_could_not_score_are_not_corrected(answers):
    x = answers()
    x.sampler[4] = math.nan
    y = answers()
    y.sampler[4] = y.old[4]
    objective = GRPO(correction="sequence-tis")
    assert torch.equal(gradient(objective, x), gradient(objective, y))
    total, count = objective(x).means["sampling/sampling_logp_difference/mean"]
    assert count == 22 - 1 and total.isfinite()
    gaps = (x.old - x.sampler).abs()[~x.sampler.isnan()]
    assert objective(x).maxima["sampling/sampling_logp_difference/max"] == gaps.max()


def test_correction_without_the_sampler_s_log_probabilities_is_an_error(answers):
    with pytest.raises(ConfigError, match="sampler's log-probabilities"):
        GRPO(correction="token-tis")(answers(sampler=None))


def test_bad_answers_that_were_left_behind_are_dropped(answers):
    """Answers of 3 tokens: good and far, bad and far, bad and near. Drift is the sampler's less the policy's."""
    x = answers(sizes=[3, 3, 3], trees=[0, 0, 0], advantages=np.repeat([1, -1, -1], 3), sampler=None)
    x.old = x.logps.detach() + torch.tensor([0.9, 0.9, 0.9, 0.9, 0.0, 0.9, 0.3, -0.9, 0.9], dtype=torch.float64)
    objective = GRPO(off_policy_mask=0.5, surrogate="none")
    found, plain = gradient(objective, x), gradient(GRPO(surrogate="none"), x)
    assert torch.equal(found != 0, torch.tensor([True] * 3 + [False] * 3 + [True] * 3))
    assert torch.equal(found[[0, 1, 2, 6, 7, 8]], plain[[0, 1, 2, 6, 7, 8]])
    assert objective(x).means["off_policy_masked"] == (3, 9)
    x.sampler = x.logps.detach() + 0.6  # the sampler's, where they are known
    assert torch.equal(gradient(objective, x) != 0, torch.tensor([True] * 3 + [False] * 6))


# ------------------------------------------------------------------------------------------------ KL
@pytest.mark.parametrize(
    ("estimator", "correction", "slope"),
    [
        # of the penalty with respect to log p, at ratio 1; gap is the log-ratio to the reference
        ("k2", "none", lambda gap: gap),
        ("k3", "none", lambda gap: 1 - torch.exp(-gap)),
        ("k1", "importance", lambda gap: 1 + gap),
        ("k3", "importance", lambda gap: torch.exp(-gap) - 1 + gap + 1 - torch.exp(-gap)),
        ("k1", "straight-through", lambda gap: gap),
        ("k3", "straight-through", lambda gap: gap),
    ],
)
def test_gradient_of_the_kl(estimator, correction, slope, answers):
    x = answers(old=None, advantages=0.0)
    objective = GRPO(kl_coef=0.3, kl_estimator=estimator, kl_correction=correction)
    expected = 0.3 * slope((x.logps - x.reference).detach())
    assert torch.allclose(gradient(objective, x), expected, rtol=1e-10, atol=1e-14)
    total, count = objective(x).means["kl"]
    assert objective(x).total.item() == pytest.approx(0.3 * total.item()) and count == 22


def test_kl_coefficient_matters_and_nothing_changes_at_zero(answers):
    x = answers()
    assert torch.equal(gradient(GRPO(), x), gradient(GRPO(kl_coef=0.0, kl_estimator="k2"), x))
    assert not torch.allclose(gradient(GRPO(), x), gradient(GRPO(kl_coef=10.0), x))
    x.reference = None
    assert "kl" not in GRPO()(x).means
    with pytest.raises(ConfigError, match="reference"):
        GRPO(kl_coef=0.1)(x)


# ------------------------------------------------------------------------------------------------ PPO
def test_value_loss_by_hand(answers):
    """Estimates 1, 1, 1 with old ones 0, 1, 3 and returns 2, 1, 1; clipped to 0.5, 1, 2.5.

    Squared errors: max(1, 2.25), max(0, 0), max(0, 2.25); half of their sum is 2.25.
    """
    x = answers(
        old=None, sizes=[3], trees=[0], advantages=[0, 0, 0], values=[1, 1, 1], old_values=[0, 1, 3], returns=[2, 1, 1]
    )
    loss = PPO(value_coef=0.1, value_clip=0.5)(x)
    assert loss.metrics["value_loss"].item() == pytest.approx(2.25)
    assert loss.total.item() == pytest.approx(0.225)
    assert loss.means["value_clip_ratio"] == (2, 3)
    slopes = torch.autograd.grad(loss.total, x.values)[0]
    assert slopes.tolist() == [0.0, 0.0, 0.0]  # beyond the clip, or right
    free = torch.autograd.grad(PPO(value_coef=0.1, value_clip=None)(x).total, x.values)[0]
    assert free.tolist() == pytest.approx([-0.1, 0, 0])


def test_value_clip_does_nothing_while_the_critic_has_not_moved(answers):
    x = answers()
    x.old_values = x.values.detach()
    one, two = PPO(value_clip=0.01)(x), PPO(value_clip=None)(x)
    assert one.total.item() == pytest.approx(two.total.item(), rel=1e-12)
    slopes = [torch.autograd.grad(loss.total, x.values)[0] for loss in (one, two)]
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-12)
    assert torch.allclose(slopes[1], 0.1 * (x.values - x.returns), rtol=1e-12)
    assert one.means["value_clip_ratio"][0] == 0


def test_policy_and_critic_do_not_see_each_other(answers):
    x = answers()
    assert torch.equal(gradient(PPO(clip_high=0.28), x), gradient(GRPO(), x))
    y = answers(logps=x.logps.detach() - 3)
    one, two = (torch.autograd.grad(PPO()(z).total, z.values)[0] for z in (x, y))
    assert torch.equal(one, two)


def test_explained_variance_of_the_step_follows_from_the_metrics(answers):
    x = answers()
    means = {name: (total / count).item() for name, (total, count) in PPO()(x).means.items()}
    spread = [means[f"{name}/square_mean"] - means[f"{name}/mean"] ** 2 for name in ("value_error", "returns")]
    expected = 1 - (x.returns - x.values).var() / x.returns.var()
    assert 1 - spread[0] / spread[1] == pytest.approx(expected.item())
