"""KTO and its kin: values by hand, closed-form gradients and identities."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tunesmith import UnpairedLogps
from tunesmith_methods.objectives.unpaired import KTO, APOZeroUnpaired

BOTH = [KTO(), APOZeroUnpaired()]


def name(objective):
    return objective.name


def answers(num=9, dtype=torch.float64, **given) -> UnpairedLogps:
    """Random answers of both classes, z0 = 0.4; the log-probabilities carry gradient."""
    generator = torch.Generator().manual_seed(0)
    logps, reference = -torch.rand(2, num, generator=generator, dtype=dtype) * 9
    values = {
        "logps": logps,
        "reference": reference,
        "desirable": torch.rand(num, generator=generator) < 0.5,
        "weights": torch.rand(num, generator=generator, dtype=dtype) + 0.5,
        "baseline": 0.4,
    }
    values |= given
    values = {k: torch.as_tensor(v, dtype=torch.bool if k == "desirable" else dtype) for k, v in values.items()}
    values["logps"] = values["logps"].clone().requires_grad_()
    return UnpairedLogps(**values)


def take(x, rows):
    """Some of the answers of the same step."""
    return UnpairedLogps(x.logps[rows], x.reference[rows], x.desirable[rows], x.weights[rows], x.baseline)


def gradient(objective, x):
    return torch.autograd.grad(objective(x).total, x.logps)[0]


def sigma(x):
    return 1 / (1 + np.exp(-x))


def signed(objective, x):
    """beta (r - z0) of desirable answers, beta (z0 - r) of others; as a NumPy array."""
    z0 = 0.0 if isinstance(objective, APOZeroUnpaired) else x.baseline.item()
    r = (x.logps - x.reference).detach().numpy()
    return objective.beta * np.where(x.desirable.numpy(), r - z0, z0 - r)


def test_values_by_hand():
    """Log-ratios 3 and -1 with z0 = 1 and beta 1/2.

    Desirable: 1 - sigmoid((3 - 1) / 2) = sigmoid(-1) = 0.268941; undesirable: 1 - sigmoid((1 + 1) / 2), the same. With
    weights 1 and 3 the sum is 4 * 0.268941. Without z0, sigmoid(-3/2) + 3 sigmoid(-1/2) = 0.182426 + 3 * 0.377541.
    """
    x = answers(logps=[-1, -5], reference=[-4, -4], desirable=[True, False], weights=[1, 3], baseline=1.0)
    assert KTO(beta=0.5)(x).total.item() == pytest.approx(4 * 0.2689414214, rel=1e-9)
    assert APOZeroUnpaired(beta=0.5)(x).total.item() == pytest.approx(0.1824255238 + 3 * 0.3775406688, rel=1e-9)


@pytest.mark.parametrize("objective", BOTH, ids=name)
def test_values_and_gradient_are_those_of_the_formula(objective):
    """weight * (1 - s) with s = sigmoid(+-beta (r - z0)), and a gradient of -+ weight * beta * s * (1 - s)."""
    x = answers(num=40)
    s, weights = sigma(signed(objective, x)), x.weights.numpy()
    assert objective(x).total.item() == pytest.approx((weights * (1 - s)).sum(), rel=1e-12)
    slopes = np.where(x.desirable.numpy(), -1, 1) * weights * objective.beta * s * (1 - s)
    np.testing.assert_allclose(gradient(objective, x).numpy(), slopes, rtol=1e-10)


@pytest.mark.parametrize("objective", BOTH, ids=name)
def test_split_and_sum_equals_whole(objective):
    x = answers(num=11)
    whole, parts = objective(x), [objective(take(x, rows)) for rows in (slice(0, 1), slice(1, 6), slice(6, 11))]
    total = sum(part.total for part in parts)
    assert total.item() == pytest.approx(whole.total.item(), rel=1e-13)
    assert torch.allclose(torch.autograd.grad(total, x.logps)[0], gradient(objective, x), rtol=1e-13, atol=0)
    for key, value in whole.metrics.items():
        assert sum(part.metrics[key] for part in parts) == value
    for key, (value, count) in whole.means.items():
        assert sum(part.means[key][0] for part in parts).item() == pytest.approx(value.item(), rel=1e-12)
        assert sum(part.means[key][1] for part in parts) == count


@pytest.mark.parametrize("objective", BOTH, ids=name)
def test_answers_do_not_see_each_other(objective):
    x = answers()
    other = answers(logps=torch.cat([x.logps[:1].detach(), x.logps[1:].detach() - 1e3]))
    assert torch.equal(gradient(objective, x)[0], gradient(objective, other)[0])


def test_an_answer_of_weight_zero_cannot_matter():
    x = answers(weights=[1.0] * 8 + [0.0])
    y = answers(weights=[1.0] * 8 + [0.0], logps=torch.cat([x.logps[:8].detach(), torch.tensor([-1e6])]))
    assert KTO()(x).total == KTO()(y).total == KTO()(take(x, slice(0, 8))).total
    assert gradient(KTO(), y)[8] == 0


def test_a_policy_that_is_its_reference_loses_half_a_weight():
    """r = z0 = 0: 1 - sigmoid(0) = 1/2, slope beta / 4 per weight: 0.025 for beta 0.1."""
    x = answers(baseline=0.0, reference=answers().logps.detach(), weights=torch.ones(9))
    assert KTO(beta=0.1)(x).total.item() == 9 / 2
    assert torch.allclose(gradient(KTO(beta=0.1), x), torch.where(x.desirable, -0.025, 0.025).double(), rtol=1e-14)


@pytest.mark.parametrize("objective", BOTH, ids=name)
def test_baseline_carries_no_gradient(objective):
    """Also where a method forgot to detach it: the answers' gradient alone is what KTO descends."""
    x = answers()
    expected = gradient(objective, x)
    x.baseline = x.logps.mean() - x.logps.detach().mean() + 0.4
    assert torch.allclose(gradient(objective, x), expected, rtol=1e-13, atol=0)


def test_flipped_labels_and_negated_distances_to_the_baseline_cancel():
    """A desirable answer loses as much as an undesirable one whose log-ratio lies as far on the other side of z0."""
    x = answers()
    ratios = x.logps.detach() - x.reference
    y = answers(logps=x.reference + 2 * x.baseline - ratios, desirable=~x.desirable)
    assert KTO()(y).total.item() == pytest.approx(KTO()(x).total.item(), rel=1e-13)


@pytest.mark.parametrize("objective", BOTH, ids=name)
@pytest.mark.parametrize("label", [True, False])
def test_a_batch_of_one_class_is_finite(objective, label):
    x = answers(desirable=[label] * 9)
    loss = objective(x)
    assert torch.isfinite(loss.total) and torch.isfinite(gradient(objective, x)).all()
    absent = "rejected" if label else "chosen"
    assert [value.item() for value in loss.means[f"rewards/{absent}"]] == [0, 0]


def test_likelier_desirable_answers_lose_less_and_likelier_undesirable_ones_more():
    logps = torch.linspace(-60, 60, 200, dtype=torch.float64)
    x = answers(logps=logps, reference=torch.zeros(200), desirable=torch.ones(200), weights=torch.ones(200))
    y = answers(logps=logps, reference=torch.zeros(200), desirable=torch.zeros(200), weights=torch.ones(200))
    good, bad = (torch.stack([KTO()(take(z, [i])).total for i in range(200)]) for z in (x, y))
    assert (good.diff() < 0).all() and (bad.diff() > 0).all()


def test_a_baseline_of_zero_is_apo_zero():
    x = answers(baseline=0.0)
    assert torch.equal(KTO()(x).total, APOZeroUnpaired()(x).total)


def test_apo_zero_ignores_the_baseline():
    assert torch.equal(APOZeroUnpaired()(answers(baseline=0.0)).total, APOZeroUnpaired()(answers(baseline=7.0)).total)


def test_far_answers_keep_their_gradient_in_fp32():
    """sigmoid(-20) = 2e-9 would round to 0 as 1 - sigmoid(20); beyond about 100 it is 0 in fp32, and finite."""
    x = answers(
        dtype=torch.float32, logps=[0, -1e6], reference=[-200, 0], desirable=[True, False], weights=[1, 1], baseline=0.0
    )
    assert KTO(beta=0.1)(x).total.item() == pytest.approx(math.exp(-20), rel=1e-5)
    assert gradient(KTO(beta=0.1), x).tolist() == pytest.approx([-0.1 * math.exp(-20), 0], rel=1e-5)


def test_metrics_by_hand():
    """Log-ratios 3 and 1 (desirable) and -50 (not): rewards are a tenth; |(-50 - 1) / 10| > 4 is one of three."""
    x = answers(logps=[-1, -3, -54], reference=[-4, -4, -4], desirable=[1, 1, 0], weights=[1, 1, 1], baseline=1.0)
    loss = KTO(beta=0.1)(x)
    means = {key: (value / count).item() for key, (value, count) in loss.means.items()}
    assert means == pytest.approx(
        {"kl": 1.0, "rewards/chosen": 0.2, "rewards/rejected": -5.0, "logps/chosen": -2.0, "logps/rejected": -54.0}
    )
    assert loss.metrics["saturated"] == 1
    assert not any(t.requires_grad for t in (*loss.metrics.values(), *sum(loss.means.values(), ())))


def test_beta_must_be_positive():
    with pytest.raises(ValidationError):
        KTO(beta=0)
