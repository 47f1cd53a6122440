"""Losses on sampled answers: one value per token, fp32 (or fp64 where that is given).

Shape letters: S scored tokens, R branches. ``branches_S`` int64 is the branch of each token, ``sizes_R`` the number of
scored tokens of each branch, perhaps 0. What belongs to a whole answer (its ratio, its correction) stands at each of
its tokens, so that everything is ``[S]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tunesmith.numerics import LOG_RATIO_LIMIT, kl_estimate, sum_by


def shares(branches_S: Tensor, sizes_R: Tensor, *, trees_R: Tensor, aggregation: str, constant: float = 1.0) -> Tensor:
    """The weight of each token in a sum over units, which the count of the units then divides.

    Args:
        branches_S, sizes_R: see above.
        trees_R: ``[R]`` int64 in ``[0, R)``, the prompt of each branch.
        aggregation: ``token``, the mean over tokens (DAPO, arXiv:2503.14476; unit: token); ``sequence``, the
            mean over answers of their mean (GRPO, arXiv:2402.03300, eq. 3), ``sum``, the mean over answers of
            their sum (REINFORCE), ``constant``, that divided by ``constant`` (Dr. GRPO, arXiv:2503.20783) (unit:
            sequence); ``prompt``, the mean over prompts of the mean over the tokens of all their answers
            (ScaleRL, arXiv:2510.13786; unit: prompt).
        constant: tokens to divide by.

    Returns:
        ``[S]``. ``sum`` and ``constant`` alone leave the direction of the policy gradient as it is; the others weigh
        answers by their length.
    """
    if aggregation == "sequence":
        return 1 / sizes_R[branches_S]
    if aggregation == "prompt":
        return 1 / sum_by(sizes_R, trees_R, len(trees_R))[trees_R][branches_S]
    assert aggregation in ("token", "sum", "constant"), aggregation
    return sizes_R.new_full(branches_S.shape, 1 / constant if aggregation == "constant" else 1.0)


def log_ratios(logps_S: Tensor, old_S: Tensor, branches_S: Tensor, sizes_R: Tensor, *, level: str) -> Tensor:
    """Log of the ratio of the policy to the one that the answers were collected with, for each token.

    Args:
        logps_S: ``[S]`` log-probabilities, with gradient.
        old_S: ``[S]`` the same when the answers were collected.
        branches_S, sizes_R: see above.
        level: ``token``; ``sequence``, the geometric mean over the answer, with gradient through it (GSPO,
            arXiv:2507.18071, eq. 7); ``sequence-token``, its value with the gradient of the token's own
            log-probability (GSPO-token, eq. 14); ``product``, the ratio of the whole answers.

    Returns:
        ``[S]``, clamped to +-20 so that its exponential is finite; there is no gradient beyond.
    """
    ratio = logps_S - old_S
    if level == "token":
        return ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    whole = sum_by(ratio, branches_S, len(sizes_R))
    if level != "product":
        whole = whole / sizes_R.clamp(min=1)
    whole = whole.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)[branches_S]
    if level == "sequence-token":
        return whole.detach() + logps_S - logps_S.detach()
    return whole


def clipped(
    ratios_S: Tensor, advantages_S: Tensor, *, clip_low: float, clip_high: float, delta: float | None = None
) -> Tensor:
    """PPO's surrogate ``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` (arXiv:1707.06347, eq. 7).

    Args:
        ratios_S: ``[S]``.
        advantages_S: ``[S]``.
        clip_low, clip_high: a token that is already this much less likely where that is wanted (more likely where
            that is) has no gradient.
        delta: the ratio is at most this where the advantage is negative as well (INTELLECT-2, arXiv:2505.07291);
            above ``1 + clip_high`` it is the same as the dual clip ``loss <= -delta A`` (arXiv:1912.09729).

    Returns:
        ``[S]``. At ``rho = 1`` it is ``-A`` with gradient ``-A`` with respect to the log-ratio.
    """
    bounded = ratios_S if delta is None else ratios_S.clamp(max=delta)
    return torch.maximum(-advantages_S * bounded, -advantages_S * ratios_S.clamp(1 - clip_low, 1 + clip_high))


def truncated(logps_S: Tensor, ratios_S: Tensor, advantages_S: Tensor, *, is_cap: float) -> Tensor:
    """CISPO: ``-sg(min(rho, cap)) A log p``, REINFORCE with truncated importance weights (arXiv:2506.13585, eq. 4).

    Args:
        is_cap: upper bound of the ratio itself, not of its distance from 1. No token is without gradient.
    """
    return -ratios_S.detach().clamp(max=is_cap) * advantages_S * logps_S


def correction(
    gap_S: Tensor, branches_S: Tensor, sizes_R: Tensor, *, kind: str, low: float = 0.0, high: float
) -> Tensor:
    """Weights that undo the difference between the trainer's and the sampler's probabilities; without gradient.

    Args:
        gap_S: ``[S]`` log-probabilities by the trainer, when the answers were collected, less those by the sampler;
            0 is taken where the sampler had none (NaN).
        branches_S, sizes_R: see above.
        kind: ``token-tis`` and ``sequence-tis`` bound the ratio of a token or of a whole answer to ``[low, high]``;
            ``token-mask`` (IcePop) and ``sequence-mask`` are 0 outside of it.
        low, high: bounds of the ratio.

    Returns:
        ``[S]``. With ``high`` beyond every ratio, sequence-tis is exact; token-tis is biased at any bound where
        an answer has more than one token.
    """
    ratios = importance(gap_S, branches_S, sizes_R, whole=kind.startswith("sequence"))
    if kind.endswith("tis"):
        return ratios.clamp(low, high)
    return torch.where((ratios >= low) & (ratios <= high), ratios, 0.0)


def importance(gap_S: Tensor, branches_S: Tensor, sizes_R: Tensor, *, whole: bool) -> Tensor:
    """``[S]``, without gradient: the exponential of the gaps (see `correction`), or of their sums over an answer."""
    gap = gap_S.detach().nan_to_num(nan=0.0)
    if whole:
        gap = sum_by(gap, branches_S, len(sizes_R))[branches_S]
    return gap.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def on_policy(drift_S: Tensor, advantages_S: Tensor, branches_S: Tensor, sizes_R: Tensor, *, limit: float) -> Tensor:
    """False for the tokens of bad answers that the policy has already moved away from (DeepSeek-V3.2).

    Args:
        drift_S: ``[S]`` log-probabilities by whoever sampled less those by the policy now.
        advantages_S: ``[S]``.
        branches_S, sizes_R: see above.
        limit: bound of its mean over an answer, in nats per token.

    Returns:
        ``[S]`` bool, True where the advantage is not negative or the mean drift is within the limit.
    """
    drift = sum_by(drift_S.detach().nan_to_num(nan=0.0), branches_S, len(sizes_R))
    mean = drift / sizes_R.clamp(min=1)
    return (advantages_S >= 0) | (mean[branches_S] <= limit)


def kl_penalty(logps_S: Tensor, reference_S: Tensor, old_S: Tensor, *, estimator: str, correction: str) -> Tensor:
    """An estimate per token of KL(policy || reference) to be added to a loss.

    Args:
        logps_S, reference_S, old_S: ``[S]`` log-probabilities of policy and reference, and of the policy when the
            answers were collected.
        estimator: see `tunesmith.numerics.kl_estimate`.
        correction: ``none``; ``importance``, times the token's ratio, with gradient: that of the KL for k1 and k3, and
            right after several updates as well (DeepSeek-V3.2, arXiv:2512.02556); ``straight-through``, the
            value of the estimator with the gradient of k2.

    Returns:
        ``[S]``. On-policy and per state, the expected gradient is that of KL(policy || reference) but for k1 without
        correction, where it is 0, and k3 without, where it is that of KL(reference || policy).
    """
    value = kl_estimate(logps_S - reference_S, estimator)
    if correction == "importance":
        return value * (logps_S - old_S).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    if correction == "straight-through":
        carrier = kl_estimate(logps_S - reference_S, "k2")
        return value.detach() + carrier - carrier.detach()
    return value


def value_errors(values_S: Tensor, old_S: Tensor, returns_S: Tensor, *, clip: float | None) -> tuple[Tensor, Tensor]:
    """Squared errors of a critic: plain, and of the estimate kept within ``clip`` of the old one.

    Args:
        values_S: ``[S]`` estimates, with gradient.
        old_S: ``[S]`` the same when the answers were collected.
        returns_S: ``[S]``.
        clip: how far an estimate may move; ``None``: as far as it likes, and both are the same.

    Returns:
        Two of ``[S]``; PPO's value loss is half of their maximum (as in its published code; not in arXiv:1707.06347).
    """
    plain = (values_S - returns_S) ** 2
    if clip is None:
        return plain, plain
    near = old_S + (values_S - old_S).clamp(-clip, clip)
    return plain, (near - returns_S) ** 2
