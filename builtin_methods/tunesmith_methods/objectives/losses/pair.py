"""Losses on preference pairs: one value per pair, fp32.

Shape letters: P pairs. ``margin_P`` is the difference of log-ratios ``(lp(y_w) - ref(y_w)) - (lp(y_l) - ref(y_l))``,
of sequence sums in nats; ``mean`` values are per token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid(margin_P: Tensor, *, beta: float) -> Tensor:
    """DPO: ``-log sigmoid(beta * margin)`` (arXiv:2305.18290, eq. 7).

    Args:
        margin_P: ``[P]`` difference of log-ratios.
        beta: strength of the pull towards the reference.

    Returns:
        ``[P]``. At ``margin = 0`` it is ln 2 with gradient ``-beta / 2``.
    """
    return -F.logsigmoid(beta * margin_P)


def smoothed(margin_P: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """Conservative DPO: a share ``label_smoothing`` of the labels is taken to be flipped.

    ``-(1 - e) log sigmoid(beta m) - e log sigmoid(-beta m)`` (Mitchell, "A note on DPO with noisy preferences", 2023,
    eq. 3).
    """
    scaled = beta * margin_P
    return -(1 - label_smoothing) * F.logsigmoid(scaled) - label_smoothing * F.logsigmoid(-scaled)


def robust(margin_P: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """Provably robust DPO: an unbiased estimate of the clean loss when that share of labels is flipped.

    ``[-(1 - e) log sigmoid(beta m) + e log sigmoid(-beta m)] / (1 - 2e)`` (arXiv:2403.00409, section 3.1).
    """
    scaled = beta * margin_P
    noisy = -(1 - label_smoothing) * F.logsigmoid(scaled) + label_smoothing * F.logsigmoid(-scaled)
    return noisy / (1 - 2 * label_smoothing)


def hinge(margin_P: Tensor, *, beta: float) -> Tensor:
    """SLiC's hinge on the DPO margin: ``relu(1 - beta * margin)`` (arXiv:2305.10425; arXiv:2309.06657, eq. 10).

    ``1 / beta`` is the margin of log-ratios beyond which a pair has no gradient.
    """
    return torch.relu(1 - beta * margin_P)


def ipo(mean_margin_P: Tensor, *, beta: float) -> Tensor:
    """IPO: ``(margin - 1 / (2 beta))^2`` (arXiv:2310.12036, eq. 17).

    Args:
        mean_margin_P: ``[P]`` difference of log-ratios *per token*; with sums, long answers dominate, and the
            authors confirmed that means are meant.
        beta: the paper's tau.
    """
    return (mean_margin_P - 1 / (2 * beta)) ** 2


def apo_zero(chosen_P: Tensor, rejected_P: Tensor, *, beta: float) -> Tensor:
    """Anchored preference optimisation, zero: chosen up, rejected down, each against the reference.

    ``(1 - sigmoid(beta r_w)) + sigmoid(beta r_l)`` with ``r`` the log-ratios (arXiv:2408.06266, eq. 7, plus 1).
    """
    return torch.sigmoid(-beta * chosen_P) + torch.sigmoid(beta * rejected_P)  # 1 - sigmoid loses its tail


def apo_down(chosen_P: Tensor, rejected_P: Tensor, *, beta: float) -> Tensor:
    """Anchored preference optimisation, down: both down, rejected more (for pairs worse than the model).

    ``sigmoid(beta r_w) + 1 - sigmoid(beta (r_w - r_l))`` (arXiv:2408.06266, eq. 8, plus 1).
    """
    return torch.sigmoid(beta * chosen_P) + torch.sigmoid(-beta * (chosen_P - rejected_P))


def simpo(mean_chosen_P: Tensor, mean_rejected_P: Tensor, *, beta: float, gamma: float) -> Tensor:
    """SimPO: ``-log sigmoid(beta (a_w - a_l) - gamma)`` (arXiv:2405.14734, eq. 6).

    Args:
        mean_chosen_P, mean_rejected_P: ``[P]`` log-probability per token.
        beta: scale of the implicit reward.
        gamma: target margin, in units of the reward.
    """
    return -F.logsigmoid(beta * (mean_chosen_P - mean_rejected_P) - gamma)


def log_odds(mean_chosen_P: Tensor, mean_rejected_P: Tensor) -> Tensor:
    """Log of the odds ratio of two length-normalised likelihoods (arXiv:2403.07691, eqs. 4 and 5).

    ``(a_w - a_l) - (log(1 - e^a_w) - log(1 - e^a_l))``, with a ``log(1 - e^a)`` that is exact in fp32 down to
    ``a = -1e-7``, where ``a`` is clamped: the naive form is minus infinity from about -3e-8 on. The gradient
    ``1 / (1 - e^a)`` grows without bound as an answer becomes certain; beyond the clamp it is 0.
    """
    chosen, rejected = mean_chosen_P.clamp(max=-1e-7), mean_rejected_P.clamp(max=-1e-7)
    return (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - e^x)`` for ``x < 0`` (Maechler 2012, eq. 7): each branch is used where it loses no digits."""
    near_zero = x > -0.6931472
    safe_near = torch.where(near_zero, x, torch.full_like(x, -0.1))
    safe_far = torch.where(near_zero, torch.full_like(x, -1.0), x)
    return torch.where(near_zero, torch.log(-torch.expm1(safe_near)), torch.log1p(-torch.exp(safe_far)))


def odds_ratio(mean_chosen_P: Tensor, mean_rejected_P: Tensor) -> Tensor:
    """ORPO's penalty ``-log sigmoid(log odds ratio)`` (arXiv:2403.07691, eq. 7); ``[P]``."""
    return -F.logsigmoid(log_odds(mean_chosen_P, mean_rejected_P))
