"""Losses over pairs: values by hand, closed-form gradients, identities and the optimum of a known problem."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tunesmith import PairLogps, ReferencedPairLogps
from tunesmith_methods.objectives.losses.pair import apo_zero
from tunesmith_methods.objectives.pair import (
    CDPO,
    IPO,
    ORPO,
    RPO,
    APODown,
    APOZero,
    Hinge,
    Robust,
    Sigmoid,
    SigmoidNorm,
    SimPO,
)

REFERENCED = [Sigmoid(), SigmoidNorm(), Hinge(), IPO(), CDPO(), Robust(), APOZero(), APODown(), RPO()]
ALL = [*REFERENCED, ORPO(), SimPO(), SimPO(sft_weight=0.5)]
USES_LENGTHS = {"sigmoid-norm", "ipo", "rpo", "orpo", "simpo"}


def name(objective):
    return objective.name


def softplus(x):
    return np.logaddexp(0, x)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def margin(x):
    """Difference of log-ratios, of sums, and of means per token; as NumPy arrays."""
    w = (x.chosen - x.reference_chosen).detach().numpy()
    v = (x.rejected - x.reference_rejected).detach().numpy()
    return w, v, w / x.chosen_tokens.numpy() - v / x.rejected_tokens.numpy()


def mean_logps(x):
    return (x.chosen / x.chosen_tokens).detach().numpy(), (x.rejected / x.rejected_tokens).detach().numpy()


# ------------------------------------------------------------------------------------------------ values
S = math.log1p(math.exp(-1))  # softplus(-1) = 0.313262


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Sigmoid(beta=0.5), S),
        (SigmoidNorm(beta=4.0), math.log1p(math.exp(-3))),
        (Hinge(beta=0.25), 0.5),
        (Hinge(beta=0.5), 0.0),
        (IPO(beta=0.5), 0.0625),
        (CDPO(beta=0.5, label_smoothing=0.1), S + 0.1),
        (Robust(beta=0.5, label_smoothing=0.1), S - 0.125),
        (APOZero(beta=0.5), 2 * 0.3775406688),
        (APODown(beta=0.5), 0.6224593312 + 0.2689414214),
        (RPO(beta=0.5, alpha=1.0), S + 1.0),
        (RPO(beta=0.5, alpha=0.2), S + 0.2),
        (SimPO(beta=2.0, gamma_beta_ratio=0.5), math.log1p(math.exp(0.5))),
        (SimPO(beta=2.0, gamma_beta_ratio=0.5, sft_weight=0.1), math.log1p(math.exp(0.5)) + 0.1),
        (ORPO(beta=0.0), 1.0),
        (ORPO(beta=1.0), 1.0 + math.log1p(math.exp(-0.25) * (1 - math.exp(-1)) / (1 - math.exp(-1.25)))),
    ],
)
def test_values_by_hand(objective, expected, one_pair):
    """The log-ratios are -2 + 3 = 1 and -5 + 4 = -1, so the margin is 2 and, per token, 1/2 + 1/4 = 3/4.

    With beta 1/2 the scaled margin is 1: DPO is softplus(-1) = s = 0.3133. As softplus(1) = s + 1, cDPO is
    0.9 s + 0.1 (s + 1) = s + 0.1 and robust DPO (0.9 s - 0.1 (s + 1)) / 0.8 = s - 1/8. The hinge is 1 - 2 beta, and 0
    from beta 1/2 on. IPO's target is 1 / (2 beta) = 1, so (3/4 - 1)^2 = 1/16. Per token with beta 4: softplus(-3).
    APO-zero is sigmoid(-1/2) + sigmoid(-1/2) and APO-down sigmoid(1/2) + sigmoid(-1).
    Mean log-probabilities are -1 and -5/4: the NLL per token of the chosen answer is 1, SimPO's margin with beta 2 and
    gamma 1 is 2/4 - 1 = -1/2, and ORPO's odds ratio is e^(1/4) (1 - e^(-5/4)) / (1 - e^-1).
    """
    assert objective(one_pair()).total.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def references(objective, x):
    """The loss of every pair in NumPy, written from the papers' formulas."""
    w, v, per_token = margin(x)
    a, b = mean_logps(x)
    beta = objective.beta
    d = beta * (w - v)
    smoothing = getattr(objective, "label_smoothing", 0)
    nll = -x.chosen.detach().numpy()
    return {
        "sigmoid": lambda: softplus(-d),
        "sigmoid-norm": lambda: softplus(-beta * per_token),
        "hinge": lambda: np.maximum(0, 1 - d),
        "ipo": lambda: (per_token - 1 / (2 * beta)) ** 2,
        "cdpo": lambda: (1 - smoothing) * softplus(-d) + smoothing * softplus(d),
        "robust": lambda: ((1 - smoothing) * softplus(-d) - smoothing * softplus(d)) / (1 - 2 * smoothing),
        "apo-zero": lambda: 1 - sigma(beta * w) + sigma(beta * v),
        "apo-down": lambda: sigma(beta * w) + 1 - sigma(d),
        "rpo": lambda: softplus(-d) + objective.alpha * nll / x.chosen_tokens.numpy(),
        "orpo": lambda: (
            nll / x.tokens_per_pair
            + beta * softplus(-np.log(np.exp(a) / (1 - np.exp(a))) + np.log(np.exp(b) / (1 - np.exp(b))))
        ),
        "simpo": lambda: (
            softplus(beta * objective.gamma_beta_ratio - beta * (a - b))
            + objective.sft_weight * nll / x.tokens_per_pair
        ),
    }[objective.name]()


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_values_are_those_of_the_formula(objective, pairs):
    x = pairs(num=50)
    assert objective(x).total.item() == pytest.approx(references(objective, x).sum(), rel=1e-12)


def take(x, rows):
    """Some of the pairs of the same step."""
    own = {key: getattr(x, key)[rows] for key in x.__dataclass_fields__ if key not in ("tokens_per_pair", "prompt")}
    return ReferencedPairLogps(**own, tokens_per_pair=x.tokens_per_pair)


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_split_and_sum_equals_whole(objective, pairs, gradient):
    """Parts of a step add up, whatever their sizes, in value, gradient and metrics."""
    x = pairs(num=11)
    whole, parts = objective(x), [objective(take(x, rows)) for rows in (slice(0, 1), slice(1, 7), slice(7, 11))]
    total = sum(part.total for part in parts)
    assert total.item() == pytest.approx(whole.total.item(), rel=1e-13)
    for key, value in whole.metrics.items():
        assert sum(part.metrics[key] for part in parts).item() == pytest.approx(value.item(), rel=1e-12, abs=1e-12), key
    for split, joint in zip(torch.autograd.grad(total, (x.chosen, x.rejected)), gradient(objective, x), strict=True):
        assert torch.allclose(split, joint, rtol=1e-13, atol=0)


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_pairs_do_not_see_each_other(objective, pairs, gradient):
    """The gradient of a pair stays the same to the bit when the others are changed beyond recognition."""
    x, other = pairs(), pairs()
    with torch.no_grad():
        other.chosen[1:] -= 1e3
        other.rejected[1:] -= 1e2
    for mine, theirs in zip(gradient(objective, x), gradient(objective, other), strict=True):
        assert torch.equal(mine[0], theirs[0])


@pytest.mark.parametrize("objective", [o for o in ALL if o.name not in USES_LENGTHS], ids=name)
def test_lengths_do_not_matter_to_losses_of_sums(objective, pairs):
    x = pairs()
    y = pairs(chosen_tokens=x.chosen_tokens * 7, rejected_tokens=x.rejected_tokens + 1e6, tokens_per_pair=1e-3)
    assert torch.equal(objective(x).total, objective(y).total)


@pytest.mark.parametrize("objective", [ORPO(), SimPO()], ids=name)
def test_a_loss_without_reference_needs_none(objective, pairs):
    x = pairs()
    plain = PairLogps(x.chosen, x.rejected, x.chosen_tokens, x.rejected_tokens, x.tokens_per_pair)
    assert torch.equal(objective(plain).total, objective(x).total)


# ------------------------------------------------------------------------------------------------ gradients
def closed_form(objective, x):
    """d loss / d chosen and d loss / d rejected of every pair."""
    w, v, per_token = margin(x)
    a, b = mean_logps(x)
    tw, tl = x.chosen_tokens.numpy(), x.rejected_tokens.numpy()
    beta, tpp = objective.beta, x.tokens_per_pair
    d = beta * (w - v)
    e = getattr(objective, "label_smoothing", 0)

    def slope(z):
        return sigma(z) * (1 - sigma(z))

    def both(g, chosen_share=1.0, rejected_share=1.0):
        return -g * chosen_share, g * rejected_share

    def orpo():
        lo = a - b - np.log(1 - np.exp(a)) + np.log(1 - np.exp(b))
        s = beta * sigma(-lo)
        return -1 / tpp - s / (1 - np.exp(a)) / tw, s / (1 - np.exp(b)) / tl

    def simpo():
        s = beta * sigma(beta * objective.gamma_beta_ratio - beta * (a - b))
        return -s / tw - objective.sft_weight / tpp, s / tl

    return {
        "sigmoid": lambda: both(beta * sigma(-d)),
        "sigmoid-norm": lambda: both(beta * sigma(-beta * per_token), 1 / tw, 1 / tl),
        "hinge": lambda: both(beta * (d < 1)),
        "ipo": lambda: both(-2 * (per_token - 1 / (2 * beta)), 1 / tw, 1 / tl),
        "cdpo": lambda: both(beta * ((1 - e) * sigma(-d) - e * sigma(d))),
        "robust": lambda: both(beta * ((1 - e) * sigma(-d) + e * sigma(d)) / (1 - 2 * e)),
        "apo-zero": lambda: (-beta * slope(beta * w), beta * slope(beta * v)),
        "apo-down": lambda: (beta * (slope(beta * w) - slope(d)), beta * slope(d)),
        "rpo": lambda: (-beta * sigma(-d) - objective.alpha / tw, beta * sigma(-d)),
        "orpo": orpo,
        "simpo": simpo,
    }[objective.name]()


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_gradient_is_the_closed_form(objective, pairs, gradient):
    x = pairs(num=50, seed=1)
    for got, expected in zip(gradient(objective, x), closed_form(objective, x), strict=True):
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10, atol=0)


# ------------------------------------------------------------------------------------------------ edges
@pytest.mark.parametrize("objective", ALL, ids=name)
@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_huge_margins_stay_finite_in_fp32(objective, scale, pairs, gradient):
    """Answers of one token, near certain and near impossible, on either side of the pair and of the reference."""
    corner = torch.cartesian_prod(*[torch.tensor([-1e-6, -scale])] * 4).T
    x = pairs(
        dtype=torch.float32,
        chosen=corner[0],
        rejected=corner[1],
        reference_chosen=corner[2],
        reference_rejected=corner[3],
        chosen_tokens=torch.ones(16),
        rejected_tokens=torch.ones(16),
        tokens_per_pair=1.0,
    )
    loss = objective(x)
    assert loss.total.dtype == torch.float32
    assert all(torch.isfinite(value).all() for value in (loss.total, *loss.metrics.values(), *gradient(objective, x)))


def test_dpo_of_a_very_wrong_pair_is_linear(one_pair, gradient):
    """softplus(1e4) = 1e4 and its slope is 1: no overflow, and no gradient lost."""
    x = one_pair(chosen=[-1e5 - 3], rejected=[-4.0], dtype=torch.float32)
    assert Sigmoid(beta=0.1)(x).total.item() == pytest.approx(1e4)
    assert [g.item() for g in gradient(Sigmoid(beta=0.1), x)] == pytest.approx([-0.1, 0.1])


def test_apo_keeps_the_gradient_of_its_tail_in_fp32():
    """At 20, 1 - sigmoid is 2e-9: it would round to 0 if it were computed as that difference."""
    x = torch.tensor([20.0], requires_grad=True)
    value = apo_zero(x, torch.tensor([-100.0]), beta=1.0)
    assert value.item() == pytest.approx(math.exp(-20), rel=1e-5)
    assert torch.autograd.grad(value.sum(), x)[0].item() == pytest.approx(-math.exp(-20), rel=1e-5)


def test_metrics_are_sums_in_which_a_tie_is_half_right(pairs):
    """Log-ratios of three pairs: 1 against -1, 0 against 0, -2 against 1, so (1 + 1/2 + 0) right."""
    x = pairs(
        chosen=[-1.0, -3, -5],
        rejected=[-2.0, -3, -6],
        reference_chosen=[-2.0, -3, -3],
        reference_rejected=[-1.0, -3, -7],
        chosen_tokens=[1.0] * 3,
        rejected_tokens=[1.0] * 3,
    )
    metrics = {key: value.item() for key, value in Sigmoid(beta=0.5)(x).metrics.items()}
    assert metrics == {
        "rewards/chosen": -0.5,
        "rewards/rejected": 0,
        "rewards/margins": -0.5,
        "rewards/accuracies": 1.5,
        "logps/chosen": -9,
        "logps/rejected": -11,
    }


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_metrics_carry_no_gradient(objective, pairs):
    assert not any(value.requires_grad for value in objective(pairs()).metrics.values())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Sigmoid, {"beta": 0}), (IPO, {"beta": 0}), (Robust, {"label_smoothing": 0.5}), (CDPO, {"label_smoothing": 0.5})],
)
def test_settings_without_a_meaning_are_refused(kind, settings):
    """beta 0 ignores the pair (IPO divides by it); with half of the labels flipped there is nothing to learn."""
    with pytest.raises(ValidationError):
        kind(**settings)
