"""Losses on scalar scores of a reward model: one value per pair of answers, fp32."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(difference: Tensor, *, margin: Tensor | float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """``-log sigmoid(r_w - r_l - margin)``, the negative log-likelihood of the preference (arXiv:2203.02155, eq. 1).

    Args:
        difference: any shape, score of the better less that of the worse answer.
        margin: by how much it should be better (arXiv:2307.09288, eq. 2).
        label_smoothing: share of labels taken to be flipped.

    Returns:
        The shape of ``difference``; ln 2 where the scores are equal and the margin is 0.
    """
    gap = difference - margin
    return -(1 - label_smoothing) * F.logsigmoid(gap) - label_smoothing * F.logsigmoid(-gap)


def centering(first: Tensor, second: Tensor) -> Tensor:
    """``(r_w + r_l)^2``: keeps scores around zero, which preferences alone leave open (arXiv:2312.09244, eq. 2)."""
    return (first + second) ** 2
