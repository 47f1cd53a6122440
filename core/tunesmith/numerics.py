"""Pure functions of tensors that several methods share.

Shape letters: S scored tokens, R answers (branches), N groups of answers (trees), K rewards. ``groups_R`` is the group
of each answer, in ``[0, N)``; groups may be of different sizes. ``valid_R`` is True where an answer could be judged;
the others count nowhere, whatever their numbers are (NaN too).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to plus and minus this before the exponential."""


# ---------------------------------------------------------------------------------------------------- sums
def sum_by(values_S: Tensor, index_S: Tensor, count: int) -> Tensor:
    """Sums of the values that share an index.

    Args:
        values_S: ``[S]``, any floating dtype.
        index_S: ``[S]`` int64 in ``[0, count)``.
        count: number of sums.

    Returns:
        ``[count]`` fp32, or fp64 for fp64 values; 0 where no value has the index.
    """
    values = values_S if values_S.dtype == torch.float64 else values_S.float()
    return values.new_zeros(count).index_add(0, index_S, values)


def counts_by(index_S: Tensor, count: int) -> Tensor:
    """How often every index in ``[0, count)`` occurs; ``[count]`` fp32."""
    return sum_by(torch.ones(index_S.shape, device=index_S.device), index_S, count)  # bincount would wait for a GPU


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums of values, of their squares, and how many there are: what can be added up over processes."""

    total: float
    squares: float
    count: float

    @property
    def mean(self) -> float:
        """0 where there is no value."""
        return self.total / self.count if self.count else 0.0

    @property
    def std(self) -> float:
        """Unbiased (n - 1); 0 where there are fewer than two values, or where nothing but rounding tells them apart."""
        spread = self.squares - self.total * self.mean
        if self.count < 2 or spread <= 1e-12 * self.squares:
            return 0.0
        return math.sqrt(spread / (self.count - 1))


def moments(values: Tensor, valid: Tensor | None = None) -> Moments:
    """Of the valid values, in fp64."""
    chosen = (values if valid is None else values[valid]).detach().cpu().double()
    return Moments(float(chosen.sum()), float((chosen**2).sum()), float(chosen.numel()))


def whiten(values: Tensor, over: Moments, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """``(values - mean) / (std + eps)`` with the mean and std of ``over``, which may cover other processes too.

    Without ``shift_mean`` the mean stays where it is. Values are left alone but for their mean where ``over`` has no
    spread.
    """
    shifted = values - over.mean
    scaled = shifted / (over.std + eps) if over.std > 0 else shifted
    return scaled if shift_mean else scaled + over.mean


# ---------------------------------------------------------------------------------------------------- groups
@dataclass(frozen=True, slots=True)
class Groups:
    """Valid answers by group.

    Attributes:
        index: ``[R]`` int64, the group of each answer.
        valid: ``[R]`` bool.
        sizes: ``[N]`` fp32, the number of valid answers.
    """

    index: Tensor
    valid: Tensor
    sizes: Tensor

    def sums(self, values_R: Tensor) -> Tensor:
        """``[N]``, over the valid answers."""
        return sum_by(torch.where(self.valid, values_R, 0.0), self.index, len(self.sizes))

    def means(self, values_R: Tensor) -> Tensor:
        """``[N]``; 0 where no answer is valid."""
        return self.sums(values_R) / self.sizes.clamp(min=1)

    def stds(self, values_R: Tensor) -> Tensor:
        """``[N]`` unbiased (n - 1); 0 where fewer than two answers are valid."""
        squares = self.sums((values_R - self.means(values_R)[self.index]) ** 2)
        return (squares / (self.sizes - 1).clamp(min=1)).sqrt()

    def spread(self, values_R: Tensor) -> Tensor:
        """``[N]`` bool: True where two valid answers of the group differ, to the bit.

        Ask it of the rewards as they were given: a mean of equal numbers may differ from them by a rounding error,
        which a small std would then blow up into an advantage.
        """
        ends = []
        for reduce, missing in (("amax", -torch.inf), ("amin", torch.inf)):
            values = torch.where(self.valid, values_R, missing)
            ends.append(values.new_full(self.sizes.shape, missing).scatter_reduce(0, self.index, values, reduce))
        return ends[0] > ends[1]


def grouped(groups_R: Tensor, num_groups: int, valid_R: Tensor | None = None) -> Groups:
    """Answers by group; ``None``: all are valid."""
    valid = torch.ones_like(groups_R, dtype=torch.bool) if valid_R is None else valid_R
    return Groups(groups_R, valid, counts_by(groups_R[valid], num_groups))


# ---------------------------------------------------------------------------------------------------- advantages
Scale = Literal["group", "batch", "none"]


def group_advantages(
    rewards_R: Tensor, groups: Groups, *, scale: Scale = "none", eps: float = 1e-4, batch: Moments | None = None
) -> Tensor:
    """GRPO: ``R - mean`` of the group (arXiv:2402.03300, section 4.1.2), divided by the std that ``scale`` names.

    The baseline holds the answer's own reward, so the expected gradient is (n - 1) / n of the true one; dividing by
    the group's std changes its direction too, which ``none`` (Dr. GRPO, arXiv:2503.20783) does not.

    Args:
        rewards_R: ``[R]``.
        groups: see `grouped`.
        scale: ``group``, unbiased std of the group; ``batch``, of all rewards (arXiv:2508.08221); ``none``.
        eps: added to the std.
        batch: moments of the rewards of the whole step where other processes have some too.

    Returns:
        ``[R]``; exactly 0 for answers that are not valid and for groups whose valid rewards are all equal.
    """
    rewards = torch.where(groups.valid, rewards_R, 0.0)
    advantages = rewards - groups.means(rewards)[groups.index]
    if scale == "group":
        advantages = advantages / (groups.stds(rewards)[groups.index] + eps)
    elif scale == "batch":
        advantages = advantages / ((batch or moments(rewards, groups.valid)).std + eps)
    return _informative(advantages, rewards, groups)


def leave_one_out_advantages(rewards_R: Tensor, groups: Groups) -> Tensor:
    """RLOO: the reward less the mean of the *other* valid answers of the group (arXiv:2402.14740).

    Unbiased, and n / (n - 1) times ``R - mean``.

    Returns:
        ``[R]``; exactly 0 for answers that are not valid or have no valid sibling, and where all rewards are equal.
    """
    rewards = torch.where(groups.valid, rewards_R, 0.0)
    others = groups.sums(rewards)[groups.index] - rewards
    baseline = others / (groups.sizes[groups.index] - 1).clamp(min=1)
    return _informative(rewards - baseline, rewards, groups)


def length_weighted_advantages(rewards_R: Tensor, lengths_R: Tensor, groups: Groups) -> Tensor:
    """OPO: the reward less the mean of the group weighted by length (arXiv:2505.23585).

    Args:
        rewards_R: ``[R]``.
        lengths_R: ``[R]`` tokens of each answer.
        groups: see `grouped`.
    """
    rewards = torch.where(groups.valid, rewards_R, 0.0)
    weights = lengths_R.to(rewards)
    baseline = groups.sums(weights * rewards) / groups.sums(weights).clamp(min=1)
    return _informative(rewards - baseline[groups.index], rewards, groups)


def separate_advantages(
    rewards_KR: Tensor, weights_K: Tensor, groups: Groups, *, valid_KR: Tensor | None = None, eps: float = 1e-4
) -> Tensor:
    """GDPO before its last step: every reward is normalised in its group on its own, then summed (arXiv:2601.05242).

    So a reward of small spread is not drowned by one of large spread. The last step is `whiten` with the `moments`
    of these sums over the valid answers of the whole step.

    Args:
        rewards_KR: ``[K, R]``.
        weights_K: ``[K]``.
        groups: see `grouped`; answers that no reward could judge are not valid.
        valid_KR: ``[K, R]`` bool, where each single reward could judge; ``None``: as ``groups``.
        eps: added to every std.

    Returns:
        ``[R]``; a reward that cannot judge an answer adds nothing to it.
    """
    total = rewards_KR.new_zeros(rewards_KR.shape[1])
    for k, rewards in enumerate(rewards_KR):
        valid = groups.valid if valid_KR is None else groups.valid & valid_KR[k]
        own = grouped(groups.index, len(groups.sizes), valid)
        total = total + weights_K[k] * group_advantages(rewards, own, scale="group", eps=eps)
    return total


def _informative(advantages_R: Tensor, rewards_R: Tensor, groups: Groups) -> Tensor:
    """Advantages, 0 where a group teaches nothing; rounding must not leave a trace there."""
    return torch.where(groups.valid & groups.spread(rewards_R)[groups.index], advantages_R, 0.0)


# ---------------------------------------------------------------------------------------------------- along a sequence
def discounted_sums(values_S: Tensor, segments_S: Tensor, discount: float) -> Tensor:
    """``sum_k discount^k x[t + k]`` over the rest of the token's segment; ``discount`` 1 gives the reward to go.

    Args:
        values_S: ``[S]``.
        segments_S: ``[S]`` int64; equal for the tokens of a segment, which stand next to each other.
        discount: in [0, 1].

    Returns:
        ``[S]``, by doubling: about log2 of the longest segment passes over all tokens, and no loop over positions.
    """
    sums, shift, factor = values_S, 1, discount
    while factor and shift < len(sums):
        same = segments_S[shift:] == segments_S[:-shift]
        if not bool(same.any()):
            break
        sums = torch.cat([sums[:-shift] + factor * torch.where(same, sums[shift:], 0.0), sums[-shift:]])
        shift, factor = 2 * shift, factor * factor
    return sums


def gae(rewards_S: Tensor, values_S: Tensor, segments_S: Tensor, *, discount: float, decay: float) -> Tensor:
    """Generalised advantage estimation, ``sum_k (g l)^k (r + g V' - V)[t + k]`` (arXiv:1506.02438, eq. 16).

    Args:
        rewards_S: ``[S]`` reward of each token, see `token_rewards`.
        values_S: ``[S]`` estimate of the return in the state before each token; after the last token it is 0.
        segments_S: ``[S]`` int64, as in `discounted_sums`. Tokens that are not scored do not stand here at all,
            which equals carrying advantage and value through them.
        discount: gamma.
        decay: lambda.

    Returns:
        ``[S]`` advantages; plus ``values_S`` they are the returns. With both factors 1: reward to go less value.
    """
    after = torch.where(last_of(segments_S), 0.0, values_S.roll(-1))
    return discounted_sums(rewards_S + discount * after - values_S, segments_S, discount * decay)


def last_of(segments_S: Tensor) -> Tensor:
    """``[S]`` bool: True at the last token of every segment."""
    last = torch.ones_like(segments_S, dtype=torch.bool)
    last[:-1] = segments_S[1:] != segments_S[:-1]
    return last


def token_rewards(scores_R: Tensor, penalties_S: Tensor, branches_S: Tensor) -> Tensor:
    """The score of an answer at its last scored token, less a penalty (such as beta times KL) at each of its tokens.

    ``[S]``. An answer without a scored token has nowhere to put its score, and teaches nothing.
    """
    return torch.where(last_of(branches_S), scores_R[branches_S], 0.0) - penalties_S


# ---------------------------------------------------------------------------------------------------- divergence
def kl_estimate(log_ratio: Tensor, estimator: str) -> Tensor:
    """Schulman's estimators of KL(p || q) from ``l = log p - log q`` of a sample from p, elementwise.

    ``k1 = l``, ``k2 = l^2 / 2``, ``k3 = e^-l - 1 + l``; k1 and k3 are unbiased, k2 and k3 never negative. ``l`` is
    clamped to +-20, so that the exponential is finite; there is no gradient beyond. What their gradients estimate is
    another matter: where they stand in a loss, see the loss.
    """
    bounded = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if estimator == "k1":
        return bounded
    if estimator == "k2":
        return bounded**2 / 2
    assert estimator == "k3", estimator
    return torch.expm1(-bounded) + bounded


def adapted_kl_coef(coef: float, kl: float, *, target: float, horizon: float, count: float) -> float:
    """The weight of the KL after ``count`` answers of mean sequence KL ``kl`` (arXiv:1909.08593, section 2.2).

    ``coef (1 + clip(kl / target - 1, +-0.2) count / horizon)``: unchanged at the target. Once per rollout batch.
    """
    error = min(0.2, max(-0.2, kl / target - 1))
    return coef * (1 + error * count / horizon)


def explained_variance(errors: Moments, returns: Moments) -> float:
    """``1 - Var(return - value) / Var(return)``: 1 for a perfect critic, 0 for a constant one, below 0 for a worse one.

    0 where the returns do not vary.
    """
    return 1 - (errors.std / returns.std) ** 2 if returns.std > 0 else 0.0


def effective_sample_share(weights: Tensor) -> float:
    """``1 / mean((w / mean w)^2)``: the share of the samples that importance weights leave; 1 where all are equal."""
    if not weights.numel() or not float(weights.sum()):
        return 0.0
    exact = weights.detach().cpu().double()
    return float(exact.mean() ** 2 / (exact**2).mean())
