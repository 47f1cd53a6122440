"""Losses on single answers with a thumb up or down: one value per sequence, fp32.

Shape letters: R sequences. ``ratios_R`` are log-ratios ``lp(y) - ref(y)`` of sequence sums, in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kto(ratios_R: Tensor, desirable_R: Tensor, *, baseline: Tensor | float, beta: float) -> Tensor:
    """KTO: ``1 - sigmoid(beta (r - z0))`` for a desirable answer, ``1 - sigmoid(beta (z0 - r))`` for another.

    arXiv:2402.01306, eq. 8, before the class weights.

    Args:
        ratios_R: ``[R]`` log-ratios.
        desirable_R: ``[R]`` bool.
        baseline: z0, one number for the whole optimizer step, >= 0, without gradient; with 0 this is APO-zero on
            single answers (arXiv:2408.06266, eq. 7, term by term).
        beta: risk aversion.

    Returns:
        ``[R]``. At ``r = z0`` it is 1/2 with gradient ``-+ beta / 4``.
    """
    sign = torch.where(desirable_R, 1.0, -1.0).to(ratios_R)
    return torch.sigmoid(-beta * sign * (ratios_R - baseline))  # 1 - sigmoid loses its tail
