"""Drawing tokens by the inverse of the cumulative distribution: one uniform number a token, no random state."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith import Sampling

BLOCK = 64
"""Probabilities summed together before the running sum, which is the slow part of a draw on a CPU."""


def uniforms(seed: int, count: int) -> list[float]:
    """``count`` numbers in [0, 1) that depend on the seed and their position only."""
    counter = np.random.Philox(key=seed % (1 << 64))
    return np.random.Generator(counter).random(count).tolist()


def draw(logits: Tensor, chances: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """One token for every row.

    Args:
        logits: ``[n, V]`` fp32; overwritten.
        chances: ``[n]`` fp64 uniform numbers; not read at temperature 0.
        sampling: how to draw.

    Returns:
        ``[n]`` int64 tokens and their ``[n]`` fp32 log-probabilities, as in `tunesmith.Sample`.
    """
    if sampling.temperature not in (0.0, 1.0):
        logits.div_(sampling.temperature)
    if sampling.temperature == 0.0 or chances is None:
        tokens = logits.argmax(1)
        return tokens, logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(1)
    p = logits.softmax(1)
    tokens = invert(p if sampling.whole else truncated(p, sampling), chances)
    return tokens, p.gather(1, tokens[:, None]).squeeze(1).log_()


def invert(weights: Tensor, chances: Tensor) -> Tensor:
    """The token of each row of ``weights [n, V]`` where the running sum passes ``chances [n]`` of the total.

    Never a token of weight 0.
    """
    if weights.shape[1] % BLOCK:
        weights = F.pad(weights, (0, -weights.shape[1] % BLOCK))
    blocks = weights.view(len(weights), -1, BLOCK)
    upto = blocks.sum(2).double().cumsum_(1)
    aim = _below(chances[:, None] * upto[:, -1:], upto[:, -1:])
    block = torch.searchsorted(upto, aim, right=True)
    inner = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK)).squeeze(1).double().cumsum_(1)
    before = upto.gather(1, (block - 1).clamp_(min=0)).masked_fill_(block == 0, 0.0)
    # rounding of the two sums may leave more to go than the block has: then its last token of weight above 0
    rest = _below(aim - before, inner[:, -1:])
    return (block * BLOCK + torch.searchsorted(inner, rest, right=True)).squeeze(1)


def _below(values: Tensor, ends: Tensor) -> Tensor:
    """The values, at most the last number before the end."""
    return torch.minimum(values, torch.nextafter(ends, torch.zeros_like(ends)))


def truncated(p: Tensor, sampling: Sampling) -> Tensor:
    """``[n, V]`` with zeros where the settings allow no token: top-k first, of what is left top-p, then min-p."""
    kept = p
    if 0 < sampling.top_k < p.shape[1]:
        kept = kept.masked_fill(p < p.topk(sampling.top_k, 1).values[:, -1:], 0.0)
    if sampling.top_p < 1.0:
        kept = kept.masked_fill(p < _nucleus_edge(kept, sampling), 0.0)
    if sampling.min_p > 0.0:
        kept = kept.masked_fill(p < sampling.min_p * p.amax(1, keepdim=True), 0.0)
    return kept


SHORTLIST = 256


def _nucleus_edge(p: Tensor, sampling: Sampling) -> Tensor:
    """``[n, 1]``: the smallest probability within the nucleus; tokens that tie with it belong to it as well."""
    need = sampling.top_p * p.sum(1, keepdim=True, dtype=torch.float64)
    ranked = p.topk(min(SHORTLIST, p.shape[1]), 1).values
    if bool((ranked.sum(1, keepdim=True, dtype=torch.float64) < need).any()):
        ranked = p.sort(1, descending=True).values
    reached = ranked.double().cumsum_(1)
    last = torch.searchsorted(reached, need).clamp_(max=ranked.shape[1] - 1)
    return ranked.gather(1, last)
