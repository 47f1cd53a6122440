"""Pure functions of tensors that several methods share."""

from __future__ import annotations

import torch
from torch import Tensor


def sum_by(values_S: Tensor, index_S: Tensor, count: int) -> Tensor:
    """Sums of the values that share an index.

    Args:
        values_S: ``[S]``, any floating dtype.
        index_S: ``[S]`` int64 in ``[0, count)``.
        count: number of sums.

    Returns:
        ``[count]`` fp32; 0 where no value has the index.
    """
    return torch.zeros(count, device=values_S.device).index_add(0, index_S, values_S.float())


def counts_by(index_S: Tensor, count: int) -> Tensor:
    """How often every index in ``[0, count)`` occurs; ``[count]`` fp32."""
    return torch.bincount(index_S, minlength=count).float()
