"""The DPO family: step-0 identities, the optimum of a known problem, and what each variant promises."""

import math

import pytest
import torch

from tunesmith import ReferencedPairLogps
from tunesmith_methods.objectives.pair import CDPO, IPO, RPO, APODown, APOZero, Hinge, Robust, Sigmoid


def name(objective):
    return objective.name


def swapped(x):
    return ReferencedPairLogps(
        x.rejected,
        x.chosen,
        x.rejected_tokens,
        x.chosen_tokens,
        x.tokens_per_pair,
        x.reference_rejected,
        x.reference_chosen,
    )


def test_a_policy_that_is_its_reference_loses_ln_2_and_earns_nothing(pairs):
    x = pairs()
    y = pairs(reference_chosen=x.chosen.detach(), reference_rejected=x.rejected.detach())
    loss = Sigmoid()(y)
    assert loss.total.item() == pytest.approx(7 * math.log(2), rel=1e-15)
    means = {key: value.item() / 7 for key, value in loss.metrics.items()}
    assert [means[f"rewards/{key}"] for key in ("chosen", "rejected", "margins", "accuracies")] == [0, 0, 0, 0.5]


def test_swapping_the_pair_negates_the_margin(pairs):
    """softplus(d) - softplus(-d) = d; accuracies become their complement."""
    x, objective = pairs(), Sigmoid(beta=0.3)
    one, two = objective(x), objective(swapped(x))
    assert (two.total - one.total).item() == pytest.approx(one.metrics["rewards/margins"].item(), rel=1e-12)
    assert two.metrics["rewards/margins"] == -one.metrics["rewards/margins"]
    assert two.metrics["rewards/accuracies"] == 7 - one.metrics["rewards/accuracies"]


@pytest.mark.parametrize("objective", [Sigmoid(), Hinge(), CDPO(), Robust(), RPO()], ids=name)
def test_a_constant_added_to_both_references_cancels(objective, pairs):
    x = pairs()
    y = pairs(reference_chosen=x.reference_chosen + 3.5, reference_rejected=x.reference_rejected + 3.5)
    assert objective(y).total.item() == pytest.approx(objective(x).total.item(), rel=1e-13)


def test_a_small_beta_raises_chosen_and_lowers_rejected_answers_equally(pairs, gradient):
    """sigmoid(-d) -> 1/2 as beta -> 0, so gradient / beta -> -1/2 and 1/2, whatever the margin."""
    beta = 1e-9
    chosen, rejected = gradient(Sigmoid(beta=beta), pairs())
    assert torch.allclose(chosen / beta, torch.full_like(chosen, -0.5), atol=1e-7)
    assert torch.allclose(rejected / beta, torch.full_like(rejected, 0.5), atol=1e-7)


def bandit(objective, reference, weight):
    """The policy over three arms that minimises the loss over all ordered pairs, by L-BFGS."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    order = [(i, j) for i in range(3) for j in range(3) if i != j]
    optimizer = torch.optim.LBFGS(
        [logits], lr=1, max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )
    one = torch.ones(1, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        logps = logits.log_softmax(0)
        losses = [
            weight(i, j)
            * objective(ReferencedPairLogps(logps[[i]], logps[[j]], one, one, 1.0, ref[[i]], ref[[j]])).total
            for i, j in order
        ]
        loss = torch.stack(losses).sum()
        loss.backward()
        return loss

    ref = reference.log()
    optimizer.step(closure)
    return logits.detach().softmax(0)


def test_dpo_finds_the_optimum_of_a_bandit():
    """With preferences drawn from Bradley-Terry, pi* = ref * exp(r / beta) / Z (arXiv:2305.18290, eq. 4)."""
    reward = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
    reference, beta = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 0.7
    policy = bandit(Sigmoid(beta=beta), reference, lambda i, j: torch.sigmoid(reward[i] - reward[j]))
    expected = reference * torch.exp(reward / beta)
    assert torch.allclose(policy, expected / expected.sum(), atol=1e-8)


def test_ipo_keeps_to_its_target_where_labels_are_certain():
    """Arm 0 always beats arm 1, which always beats arm 2.

    The least-squares fit of log-ratios h to a margin of 1 / (2 beta) for each of the three pairs is
    h = (2/3, 0, -2/3) / (2 beta), where DPO would drive the margins to infinity.
    """
    reference, beta = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 0.4
    policy = bandit(IPO(beta=beta), reference, lambda i, j: float(i < j))
    h = (policy / reference).log()
    expected = torch.tensor([2 / 3, 0, -2 / 3], dtype=torch.float64) / (2 * beta)
    assert torch.allclose(h - h.mean(), expected, atol=1e-8)


def test_ipo_is_zero_and_flat_at_its_target(one_pair, gradient):
    """Per token: 5 more than the reference over 2 tokens, 2.5, is 1 / (2 * 0.2)."""
    x = one_pair(reference_chosen=[-7.0], reference_rejected=[-5.0])
    assert IPO(beta=0.2)(x).total == 0
    assert all(g == 0 for g in gradient(IPO(beta=0.2), x))
    assert gradient(IPO(beta=0.19), x)[0] < 0 < gradient(IPO(beta=0.21), x)[0]


@pytest.mark.parametrize("objective", [CDPO(label_smoothing=0), Robust(label_smoothing=0), RPO(alpha=0)], ids=name)
def test_a_switch_at_zero_is_dpo(objective, pairs, gradient):
    x, dpo = pairs(), Sigmoid()
    assert torch.allclose(objective(x).total, dpo(x).total, rtol=1e-15)
    for got, expected in zip(gradient(objective, x), gradient(dpo, x), strict=True):
        assert torch.allclose(got, expected, rtol=1e-14, atol=0)


def test_robust_dpo_is_unbiased_under_flipped_labels(pairs):
    """With a share e of labels flipped, the expected robust loss is the clean DPO loss."""
    x, e = pairs(), 0.2
    robust = Robust(label_smoothing=e)
    expected = (1 - e) * robust(x).total + e * robust(swapped(x)).total
    assert expected.item() == pytest.approx(Sigmoid()(x).total.item(), rel=1e-13)


def test_cdpo_stops_where_the_policy_is_as_sure_as_the_labels(one_pair, gradient):
    """The gradient vanishes at sigmoid(beta * margin) = 1 - e: a margin of log(0.8 / 0.2) / beta."""
    x = one_pair(reference_chosen=[-2.0 - math.log(4) / 0.5], reference_rejected=[-5.0])
    assert gradient(CDPO(beta=0.5, label_smoothing=0.2), x)[0].item() == pytest.approx(0, abs=1e-15)


def test_hinge_has_no_gradient_beyond_its_margin(one_pair, gradient):
    """The margin of ONE is 2, so with beta 0.51 the pair is right by enough and with 0.49 it is not."""
    assert [g.item() for g in gradient(Hinge(beta=0.51), one_pair())] == [0, 0]
    assert [g.item() for g in gradient(Hinge(beta=0.49), one_pair())] == pytest.approx([-0.49, 0.49])


def test_apo_zero_raises_chosen_and_lowers_rejected_answers(pairs, gradient):
    chosen, rejected = gradient(APOZero(), pairs(num=100))
    assert (chosen < 0).all() and (rejected > 0).all()


def test_apo_down_lowers_the_rejected_answer_more(one_pair, gradient):
    """At pi = ref both slopes of the sigmoid are 1/4: the chosen answer has no net push, the rejected one goes down.

    As soon as the margin is wider than the chosen answer's own log-ratio, both go down.
    """
    equal = one_pair(reference_chosen=[-2.0], reference_rejected=[-5.0])
    assert [g.item() for g in gradient(APODown(beta=0.4), equal)] == pytest.approx([0, 0.1], abs=1e-15)
    apart = one_pair(reference_chosen=[-3.0], reference_rejected=[1.0])
    chosen, rejected = gradient(APODown(beta=0.4), apart)
    assert 0 < chosen < 0.1 and rejected > 0
