"""ORPO and SimPO, which need no reference: identities, equivalences and digits."""

import math

import numpy as np
import pytest
import torch

from tunesmith import PairLogps, ReferencedPairLogps, TokenLogps
from tunesmith_methods.objectives.losses.pair import log1mexp, log_odds, odds_ratio
from tunesmith_methods.objectives.pair import ORPO, SigmoidNorm, SimPO
from tunesmith_methods.objectives.token import NLL


def pairs(num=7, dtype=torch.float64, **given) -> PairLogps:
    """Random pairs of answers of 1 to 12 tokens; chosen and rejected carry gradient."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 13, (2, num), generator=generator).to(dtype)
    sums = -tokens * torch.rand(2, num, generator=generator, dtype=dtype) * 2
    values = {"chosen": sums[0], "rejected": sums[1], "chosen_tokens": tokens[0], "rejected_tokens": tokens[1]}
    values |= {key: torch.as_tensor(value, dtype=dtype) for key, value in given.items()}
    chosen, rejected = (values.pop(key).clone().requires_grad_() for key in ("chosen", "rejected"))
    return PairLogps(chosen, rejected, **values, tokens_per_pair=values["chosen_tokens"].mean().item())


def gradient(objective, x):
    """Gradient of the sum with respect to the log-probabilities of chosen and rejected answers."""
    return torch.autograd.grad(objective(x).total, (x.chosen, x.rejected))


ONE = {"chosen": [-2.0], "rejected": [-5.0], "chosen_tokens": [2.0], "rejected_tokens": [4.0]}


def test_odds_term_of_equal_means_is_ln_2_and_antisymmetric():
    a = torch.tensor([-0.01, -1.0, -9.0], dtype=torch.float64)
    w, v = a.clone().requires_grad_(), a.clone().requires_grad_()
    values = odds_ratio(w, v)
    assert torch.allclose(values, torch.full_like(a, math.log(2)), rtol=1e-15)
    up, down = torch.autograd.grad(values.sum(), (w, v))
    assert torch.equal(up, -down) and (up < 0).all()


def test_odds_term_depends_on_means_alone():
    """Every token twice: sums and counts double, means and so the odds stay."""
    x, y = pairs(), pairs()
    for key in ("chosen", "rejected", "chosen_tokens", "rejected_tokens"):
        setattr(y, key, getattr(x, key) * 2)
    assert torch.equal(ORPO()(x).metrics["log_odds_ratio"], ORPO()(y).metrics["log_odds_ratio"])


def test_orpo_without_odds_term_is_nll_of_the_chosen_answers():
    """Four pairs of 8 tokens on average: divided by pairs, the sum is that of the tokens divided by 32, to the bit."""
    x = pairs(num=4, dtype=torch.float32, chosen_tokens=[4.0, 12, 6, 10])
    loss = ORPO(beta=0)(x)
    tokens = TokenLogps(x.chosen, torch.arange(4), 4)
    assert torch.equal(loss.total / 4, NLL()(tokens).total / 32)
    assert torch.equal(gradient(ORPO(beta=0), x)[0] / 4, torch.full((4,), -1 / 32))
    assert torch.equal(loss.metrics["nll_loss"], loss.total)


def test_odds_term_keeps_its_digits_in_fp32():
    """For means in [-20, -1e-6] value and gradient agree with fp64 on the same inputs."""
    grid = -torch.logspace(math.log10(20), -6, 80)
    w, v = (part.flatten() for part in torch.meshgrid(grid, grid, indexing="ij"))
    results = []
    for dtype in (torch.float32, torch.float64):
        x, y = w.to(dtype).requires_grad_(), v.to(dtype).requires_grad_()
        values = odds_ratio(x, y)
        results.append((values, *torch.autograd.grad(values.sum(), (x, y))))
    for single, double in zip(*results, strict=True):
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), double, rtol=1e-5, atol=1e-9)


def test_log1mexp_is_exact_on_both_sides_of_ln_2():
    x = -torch.logspace(-7, 1.3, 400, dtype=torch.float64)
    expected = np.array([math.log(-math.expm1(v)) if v > -0.7 else math.log1p(-math.exp(v)) for v in x.tolist()])
    np.testing.assert_allclose(log1mexp(x).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(log1mexp(x.float()).double().numpy(), log1mexp(x.float().double()).numpy(), rtol=3e-7)


@pytest.mark.parametrize(("chosen", "rejected"), [(0.0, -1.0), (-1.0, 0.0), (0.0, 0.0), (-1e-30, -1e4), (-1e4, -1e-9)])
def test_odds_term_of_certain_and_impossible_answers_is_finite(chosen, rejected):
    w, v = torch.tensor([chosen]).requires_grad_(), torch.tensor([rejected]).requires_grad_()
    value = odds_ratio(w, v)
    assert torch.isfinite(torch.stack([value, *torch.autograd.grad(value.sum(), (w, v))])).all()
    assert torch.isfinite(log_odds(w, v)).all()


def test_orpo_metrics():
    """Of ONE, with beta 1/2: rewards are half the means -1 and -5/4."""
    metrics = {key: value.item() for key, value in ORPO(beta=0.5)(pairs(**ONE)).metrics.items()}
    assert metrics["rewards/margins"] == pytest.approx(0.125)
    assert metrics["rewards/accuracies"] == 1
    lo = 0.25 + math.log((1 - math.exp(-1.25)) / (1 - math.exp(-1)))
    assert metrics["log_odds_chosen"] == pytest.approx(lo)
    assert metrics["log_odds_ratio"] == pytest.approx(-math.log1p(math.exp(-lo)))


@pytest.mark.parametrize(("first", "second"), [(3.0, 300.0), (1.0, 1.0)])
def test_simpo_of_equal_means_is_softplus_of_gamma(first, second):
    """softplus(2.5 * 0.55) = softplus(1.375) = 1.60041, whatever the lengths."""
    given = {"chosen_tokens": [first], "rejected_tokens": [second], "chosen": [-first], "rejected": [-second]}
    loss = SimPO(beta=2.5, gamma_beta_ratio=0.55)(pairs(**ONE | given)).total.item()
    assert loss == pytest.approx(1.60041, abs=5e-6)
    assert loss == pytest.approx(math.log1p(math.exp(1.375)), rel=1e-14)


def test_simpo_ignores_tokens_of_mean_probability():
    """Three more tokens, each of the mean log-probability so far."""
    x, y = pairs(), pairs()
    y.chosen, y.chosen_tokens = x.chosen + 3 * x.chosen / x.chosen_tokens, x.chosen_tokens + 3
    assert SimPO()(y).total.item() == pytest.approx(SimPO()(x).total.item(), rel=1e-13)


def test_simpo_without_margin_is_dpo_per_token_against_a_uniform_reference():
    """A reference that gives every token the same probability, here e^-1.7, cancels."""
    x = pairs()
    uniform = (-1.7 * x.chosen_tokens, -1.7 * x.rejected_tokens)
    y = ReferencedPairLogps(x.chosen, x.rejected, x.chosen_tokens, x.rejected_tokens, x.tokens_per_pair, *uniform)
    simpo, dpo = SimPO(beta=3.0, gamma_beta_ratio=0), SigmoidNorm(beta=3.0)
    assert simpo(x).total.item() == pytest.approx(dpo(y).total.item(), rel=1e-13)
    for got, expected in zip(gradient(simpo, x), gradient(dpo, y), strict=True):
        assert torch.allclose(got, expected, rtol=1e-12, atol=0)


def test_gamma_shifts_the_margin():
    """loss(gamma) = softplus(gamma - beta (a_w - a_l)): with beta 2.5, gamma 2.5 cancels a difference of 1."""
    x = pairs(**ONE | {"chosen": [-2.0], "rejected": [-8.0]})
    losses = [SimPO(beta=2.5, gamma_beta_ratio=r)(x).total.item() for r in (0.0, 0.5, 1.0)]
    assert losses == pytest.approx([math.log1p(math.exp(v)) for v in (-2.5, -1.25, 0.0)], rel=1e-13)
