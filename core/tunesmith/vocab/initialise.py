"""Rows for new pieces, made of the rows of old tokens. Torch only.

A row that is a weighted mean of old rows (weights not negative, sum 1) gives its token a logit that is the same mean of
old logits. By Jensen's inequality ``exp(mean of logits) <= mean of exp(logits)``, so all new rows together add at most
``c * Z`` to the sum of exponentials Z, where c is the largest total weight that any old row has: the log of Z, and with
it the loss on old text, grows by at most ``ln(1 + c)``. For the mean of all V old rows that is ``ln(1 + n / V)``.

Shape letters: V old tokens, n new ones, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SMOOTHING = 1e-3
"""The constant a of `frequency_weighted`; the paper's range is 1e-4 to 1e-3."""


def subtoken_mean(pieces: Sequence[Sequence[int]], num_old: int) -> Tensor:
    """Weights ``[n, V]`` (sparse) of the plain mean of the old tokens that each new piece is made of.

    "Mean" in arXiv:2406.11477. A piece made of one old token gets an exact copy of its row.

    Args:
        pieces: for each new token, the ids of the old tokens that its text is cut into.
        num_old: V.
    """
    return _weights([[1.0] * len(ids) for ids in pieces], pieces, num_old)


def frequency_weighted(pieces: Sequence[Sequence[int]], counts: Mapping[int, int], num_old: int) -> Tensor:
    """Weights ``[n, V]`` (sparse) of a mean in which frequent old tokens count less: ``a / (a + p)``.

    Smooth inverse frequency (Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017,
    equation 3), for a word made of tokens instead of a sentence made of words: the first byte of a script's characters
    is in all of them and says little.

    Args:
        pieces: as in `subtoken_mean`.
        counts: how often each old token occurs in the text that the pieces come from; p is its share.
        num_old: V.
    """
    total = max(1, sum(counts.values()))
    weights = [[SMOOTHING / (SMOOTHING + counts.get(i, 0) / total) for i in ids] for ids in pieces]
    return _weights(weights, pieces, num_old)


def _weights(weights: Sequence[Sequence[float]], pieces: Sequence[Sequence[int]], num_old: int) -> Tensor:
    """A sparse matrix whose rows sum to 1."""
    rows = [row for row, ids in enumerate(pieces) for _ in ids]
    columns = [i for ids in pieces for i in ids]
    values = [w / sum(own) for own in weights for w in own]
    matrix: Tensor = torch.sparse_coo_tensor(
        torch.tensor([rows, columns], dtype=torch.int64).view(2, -1),
        torch.tensor(values, dtype=torch.float32),
        (len(pieces), num_old),
        check_invariants=True,
    )
    return matrix.coalesce()


def mixed(weights: Tensor, old: Tensor) -> Tensor:
    """``[n, H]`` fp32: the means of the rows ``old [V, H]`` that ``weights [n, V]`` ask for."""
    rows: Tensor = torch.sparse.mm(weights, old.float())
    return rows


def global_mean(old: Tensor, number: int, *, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """``[n, H]`` fp32: the mean of all old rows, and noise ``N(0, noise * Cov)`` of their covariance.

    Without noise the logit of a new token is the mean of the old logits for every hidden state (Hewitt, "Initializing
    New Word Embeddings for Pretrained Language Models", 2021).

    Args:
        old: ``[V, H]``.
        noise: share of the covariance.
    """
    wide = old.float()
    mean = wide.mean(0, keepdim=True)
    rows = mean.expand(number, -1).clone()
    if noise:
        centred = wide - mean
        values, vectors = torch.linalg.eigh(centred.t() @ centred / len(wide))
        chance = torch.randn(number, len(values), generator=generator)
        rows += (chance * (noise * values.clamp(min=0)).sqrt()) @ vectors.t()
    return rows


def random_rows(number: int, hidden: int, *, std: float, generator: torch.Generator | None = None) -> Tensor:
    """``[n, H]`` fp32 from ``N(0, std^2)``: what new rows start from when nobody cares; a control."""
    return torch.randn(number, hidden, generator=generator) * std


def raised_to_median(rows: Tensor, old: Tensor, means: Tensor) -> Tensor:
    """Rows whose norm averaging has shrunk, scaled up to the median norm of the old ones.

    Args:
        rows: ``[n, H]``.
        old: ``[V, H]``.
        means: ``[n]`` bool, True for rows that are means of two or more; copies stay exact.
    """
    median = old.float().norm(dim=1).median()
    norms = rows.norm(dim=1)
    factor = torch.where(means & (norms < median) & (norms > 0), median / norms.clamp(min=1e-12), 1.0)
    return rows * factor[:, None]


def log_z_bound(weights: Tensor | None, mean_rows: int, num_old: int) -> float:
    """By how much the log of the sum of exponentials can grow at most, in nats, whatever the text.

    Args:
        weights: ``[n, V]`` (sparse) of rows that are weighted means; ``None`` without any.
        mean_rows: further rows that are the mean of all old ones.
        num_old: V.
    """
    largest = 0.0
    if weights is not None and weights.shape[0]:
        largest = float(torch.sparse.sum(weights, 0).to_dense().max())
    return math.log1p(largest + mean_rows / num_old)
