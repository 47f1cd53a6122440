"""NLL and DFT by hand, and their gradients."""

import math

import pytest
import torch

from tunesmith_methods.objectives.losses.token import dft, nll


def test_nll_by_hand():
    """-ln(1/2) - ln(1/4) = 3 ln 2."""
    assert nll(torch.tensor([0.5, 0.25]).log()).item() == pytest.approx(3 * math.log(2))


def test_dft_by_hand():
    """-(1/2) ln(1/2) - (1/4) ln(1/4) = ln 2."""
    assert dft(torch.tensor([0.5, 0.25]).log()).item() == pytest.approx(math.log(2))


def test_dft_gradient_is_p_times_the_nll_gradient():
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 4, 0])
    gradients = []
    for loss in (nll, dft):
        logps = logits.log_softmax(-1)[torch.arange(6), targets]
        gradients.append(torch.autograd.grad(loss(logps), logits)[0])
    p = logits.detach().softmax(-1)[torch.arange(6), targets]
    assert torch.allclose(gradients[1], p[:, None] * gradients[0], atol=1e-12)
