"""From a critic's values to advantages and returns of single tokens.

Shape letters: S scored tokens, R answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunesmith.data.trees import Batch, Branch, Tree, best_fit
from tunesmith.numerics import (
    Moments,
    adapted_kl_coef,
    explained_variance,
    gae,
    kl_estimate,
    moments,
    token_rewards,
    whiten,
)
from tunesmith.rollout.collect import column, with_answers, write_column
from tunesmith.scoring.scorer import without_dropout

if TYPE_CHECKING:
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

ADVANTAGES, RETURNS, VALUES = "advantages", "returns", "values"


def note_values(batch: Batch, models: Models) -> Batch:
    """Write the critic's estimates into the column ``values`` of every answer."""
    with torch.no_grad(), without_dropout(models.policy.module):
        for rows in best_fit([tree.num_tokens for tree in batch.trees], models.policy.micro_tokens):
            part = Batch([batch.trees[i] for i in rows])
            write_column(part, VALUES, models.critic.values(part))
    return batch


def token_advantages(
    batch: Batch,
    *,
    kl_coef: float,
    kl_estimator: str = "k1",
    discount: float,
    decay: float,
    clip: float | None = None,
    past: Sequence[float] | None = None,
) -> Batch:
    """Write the columns ``advantages`` and ``returns``; note the KL of every answer on record.

    The reward of a token is ``-kl_coef`` times its estimated KL to the reference, plus the answer's own at its last
    token (arXiv:2203.02155, appendix C.4; arXiv:2403.17031, detail 4). Answers without a reward get NaN, and `settle`
    leaves them out.

    Args:
        batch: with the columns ``values``, and ``old`` and ``reference`` where ``kl_coef`` is not 0.
        kl_coef, discount, decay: beta, gamma, lambda.
        kl_estimator: k1, k2 or k3.
        clip: cut rewards to plus and minus this.
        past: sum, sum of squares and number of the rewards of earlier steps, to scale with.
    """
    branches = [branch for tree in batch.trees for branch in tree.branches]
    if not branches:
        return batch
    scores = torch.tensor([branch.value for branch in branches], dtype=torch.float32)
    if past is not None and past[2] > 1:
        scores = whiten(scores, Moments(*past))
    if clip is not None:
        scores = scores.clamp(-clip, clip)
    sizes = torch.tensor([int(tree.scored(b).sum()) for tree in batch.trees for b in tree.branches])
    owner = torch.arange(len(branches)).repeat_interleave(sizes)
    values = _column(batch, VALUES)
    kl = torch.zeros_like(values)
    if kl_coef:
        kl = kl_estimate(_column(batch, "old") - _column(batch, "reference"), kl_estimator)
    rewards = token_rewards(scores, kl_coef * kl, owner)
    advantages = gae(rewards, values, owner, discount=discount, decay=decay)
    write_column(batch, ADVANTAGES, advantages)
    write_column(batch, RETURNS, advantages + values)
    if not kl_coef:
        return batch
    per_answer = torch.zeros(len(branches)).index_add(0, owner, kl).tolist()
    return replace(batch, samples=[{**s, "kl": own} for s, own in zip(batch.samples, per_answer, strict=True)])


def _column(batch: Batch, name: str) -> torch.Tensor:
    found = column(batch, name, "cpu")
    assert found is not None, f"the answers have no column {name!r}"
    return found


def _learned(batch: Batch, mask_truncated: bool) -> Iterator[tuple[Tree, Branch]]:
    """The answers that are trained on."""
    samples = iter(batch.samples)
    for tree in batch.trees:
        for branch in tree.branches:
            cut = next(samples)["stop"] == "length"
            if math.isfinite(branch.value) and not (cut and mask_truncated):
                yield tree, branch


def advantage_totals(batch: Batch, *, mask_truncated: bool = False) -> dict[str, float]:
    """Sums over the tokens of the answers that are trained on."""
    parts = [branch.columns[ADVANTAGES][tree.scored(branch)] for tree, branch in _learned(batch, mask_truncated)]
    found = moments(torch.from_numpy(np.concatenate(parts)) if parts else torch.empty(0))
    return {"advantage": found.total, "advantage_squares": found.squares, "tokens": found.count}


def settle(batch: Batch, *, whiten: bool, idle: bool, mask_truncated: bool) -> Batch:
    """Scale the advantages by the moments of the whole step; leave out answers that there is nothing to learn from."""
    over = Moments(*(batch.totals[name] for name in ("advantage", "advantage_squares", "tokens")))
    samples, trees, number = [dict(sample) for sample in batch.samples], [], 0
    for tree in batch.trees:
        branches = []
        for branch in tree.branches:
            sample, number = samples[number], number + 1
            if not math.isfinite(branch.value):
                continue
            own = branch.columns[ADVANTAGES]
            sample["advantage"] = float(own.mean())
            if mask_truncated and sample["stop"] == "length":
                continue
            branches.append(replace(branch, columns={**branch.columns, ADVANTAGES: _scaled(own, over, whiten, idle)}))
        trees.append(replace(tree, branches=tuple(branches)))
    return replace(with_answers(replace(batch, trees=trees)), samples=samples)


def _scaled(own: Any, over: Moments, scale: bool, idle: bool) -> Any:
    if idle:
        return np.zeros_like(own)
    return whiten(torch.from_numpy(own), over).numpy() if scale else own


def explained(metrics: MutableMapping[str, float]) -> dict[str, float]:
    """The explained variance of a step from the mean squares that its loss reports, which it replaces."""
    names = [f"{of}/{what}" for of in ("value_error", RETURNS) for what in ("mean", "square_mean")]
    if any(name not in metrics for name in names):
        return {}
    found = {name: metrics.pop(name) for name in names}
    errors, returns = (
        Moments(found[f"{of}/mean"] * 2, found[f"{of}/square_mean"] * 2, 2) for of in ("value_error", RETURNS)
    )
    return {"returns/mean": found["returns/mean"], "explained_variance": explained_variance(errors, returns)}


def remember_rewards(ctx: Context) -> None:
    """Add the rewards of a step to the sums over all steps."""
    rewards = [sample["reward"] for sample in ctx.samples if sample["reward"] is not None]
    before = ctx.state.get("rewards", [0.0, 0.0, 0])
    ctx.state["rewards"] = [
        before[0] + sum(rewards),
        before[1] + sum(reward * reward for reward in rewards),
        before[2] + len(rewards),
    ]


def adapt(ctx: Context, start: float, target: float, horizon: int) -> float:
    """Move the weight of the KL after a step; return it."""
    kls: list[float] = [sample["kl"] for sample in ctx.samples if "kl" in sample]
    coef = float(ctx.state.get("kl_coef", start))
    if kls:
        coef = adapted_kl_coef(coef, sum(kls) / len(kls), target=target, horizon=horizon, count=len(kls))
    ctx.state["kl_coef"] = coef
    return coef
