"""Values and slopes that follow from the equation on paper, with beta 1/2 and lambda 3."""

import math

import pytest
import torch
from tunesmith import ReferencedPairLogps

from tunesmith_dpop import DPOP


def pair(chosen, rejected, reference_chosen=-4.0, reference_rejected=-6.0):
    values = torch.tensor([[chosen], [rejected]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    x = ReferencedPairLogps(
        values[0].clone().requires_grad_(), values[1].clone().requires_grad_(), 3 * one, 4 * one, 3.0,
        reference_chosen=reference_chosen * one, reference_rejected=reference_rejected * one,
    )  # fmt: skip
    return x


def loss_and_slopes(x, **settings):
    loss = DPOP(**{"beta": 0.5, "positive": 3.0, **settings})(x)
    return loss.total.item(), *(g.item() for g in torch.autograd.grad(loss.total, (x.chosen, x.rejected)))


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize(
    ("chosen", "rejected", "z", "slope_of_z"),
    [
        # r_w = 1, r_l = -1: nothing was lost, so z = (1 + 1) / 2
        (-3.0, -7.0, 1.0, 0.5),
        # r_w = -1, r_l = -3: the margin is 2 as well, but one nat was lost: z = (-1 + 3 - 3) / 2, slope (1 + 3) / 2
        (-5.0, -9.0, -0.5, 2.0),
        # r_w = -2, r_l = 1: z = (-2 - 1 - 6) / 2
        (-6.0, -5.0, -4.5, 2.0),
    ],
)
def test_value_and_slopes(chosen, rejected, z, slope_of_z):
    value, by_chosen, by_rejected = loss_and_slopes(pair(chosen, rejected))
    assert value == pytest.approx(-math.log(sigmoid(z)), rel=1e-12)
    assert by_chosen == pytest.approx(-slope_of_z * sigmoid(-z), rel=1e-12)
    assert by_rejected == pytest.approx(0.5 * sigmoid(-z), rel=1e-12)


def test_at_the_reference_it_is_ln_2_with_the_slopes_of_dpo():
    value, by_chosen, by_rejected = loss_and_slopes(pair(-4.0, -6.0))
    assert (value, by_chosen, by_rejected) == pytest.approx((math.log(2), -0.25, 0.25), rel=1e-12)


def test_without_the_penalty_it_is_dpo():
    value, by_chosen, _ = loss_and_slopes(pair(-5.0, -9.0), positive=0.0)
    assert value == pytest.approx(math.log(1 + math.exp(-1.0)), rel=1e-12)
    assert by_chosen == pytest.approx(-0.5 * sigmoid(-1.0), rel=1e-12)


def test_metrics_are_sums_over_pairs():
    metrics = DPOP(beta=0.5, positive=3.0)(pair(-5.0, -9.0)).metrics
    assert {name: value.item() for name, value in metrics.items()} == {
        "rewards/chosen": -0.5,
        "rewards/rejected": -1.5,
        "rewards/margins": 1.0,
        "rewards/accuracies": 1.0,
        "lost": 1.0,
    }
