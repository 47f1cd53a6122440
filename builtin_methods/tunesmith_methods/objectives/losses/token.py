"""Loss mathematics: pure functions of log-probabilities; sums over tokens, fp32.

Shape letters: S scored tokens.
"""

from __future__ import annotations

from torch import Tensor


def nll(logps_S: Tensor) -> Tensor:
    """Sum over tokens of ``-log p``.

    Args:
        logps_S: ``[S]`` log-probabilities in nats.

    Returns:
        ``[]``, the sum.

    >>> import torch
    >>> nll(torch.tensor([0.5, 0.25]).log()).item() == torch.tensor(8.0).log().item()  # -ln(1/2) - ln(1/4)
    True
    """
    return -logps_S.sum()


def dft(logps_S: Tensor) -> Tensor:
    """Dynamic fine-tuning: sum over tokens of ``-sg(p) * log p`` (arXiv:2508.05629, eq. 9).

    The gradient of every token is ``p`` times that of `nll`: improbable tokens no longer dominate the update.

    Args:
        logps_S: ``[S]`` log-probabilities in nats.

    Returns:
        ``[]``, the sum.
    """
    return -(logps_S.detach().exp() * logps_S).sum()
