"""From a batch of trees to what an objective reads.

Shape letters: N trees, G branches per tree, P pairs, R branches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.data.trees import Batch
from tunesmith.inputs import PairLogps, RankedScores, ReferencedPairLogps, TokenLogps, UnpairedLogps
from tunesmith.numerics import counts_by, sum_by
from tunesmith.scoring.scores import ScoreScorer

if TYPE_CHECKING:
    from tunesmith.models.roles import Models


def totals(supplies: type, batch: Batch) -> Mapping[str, float]:
    """See `tunesmith.Method.totals`."""
    if not issubclass(supplies, PairLogps):
        return {}
    chosen = sum(int(tree.scored(tree.branches[0]).sum()) for tree in batch.trees)
    return {"pairs": len(batch), "chosen_tokens": chosen}


def supply(supplies: type, models: Models, batch: Batch) -> Any:
    """Score the policy. Raises `TypeError` for something that only a method of its own can supply."""
    if supplies is TokenLogps:
        return models.policy.token_logps(batch)
    if issubclass(supplies, PairLogps):
        return _pairs(supplies, models, batch)
    if supplies is UnpairedLogps:
        return _unpaired(models, batch)
    if supplies is RankedScores:
        return _ranked(models, batch)
    raise TypeError(f"a method that supplies {supplies.__name__} must define forward()")


def _pairs(supplies: type[PairLogps], models: Models, batch: Batch) -> PairLogps:
    x = models.policy.token_logps(batch)
    sums = sum_by(x.logps, x.branches, x.num_branches).view(-1, 2)
    counts = counts_by(x.branches, x.num_branches).view(-1, 2)
    per_pair = batch.totals["chosen_tokens"] / batch.totals["pairs"]
    own = (sums[:, 0], sums[:, 1], counts[:, 0], counts[:, 1], per_pair)
    if not issubclass(supplies, ReferencedPairLogps):
        return supplies(*own)
    reference = batch.columns["reference"]
    return supplies(*own, reference[:, 0], reference[:, 1])


def _unpaired(models: Models, batch: Batch) -> UnpairedLogps:
    x = models.policy.token_logps(batch)
    logps = sum_by(x.logps, x.branches, x.num_branches)
    columns = batch.columns
    baseline = torch.tensor(max(0.0, batch.totals["mismatched"] / batch.totals["rows"]), device=logps.device)
    return UnpairedLogps(logps, columns["reference"], columns["desirable"], columns["weights"], baseline)


def _ranked(models: Models, batch: Batch) -> RankedScores:
    policy = models.policy
    assert isinstance(policy, ScoreScorer), "a method that supplies RankedScores declares head = 'score'"
    scores = policy.scores(batch)
    device = scores.device
    sizes = torch.tensor([len(tree.branches) for tree in batch.trees], device=device)
    prompts = torch.arange(len(batch), device=device).repeat_interleave(sizes)
    ranks = torch.tensor([branch.value for tree in batch.trees for branch in tree.branches], device=device)
    margins = torch.tensor([tree.margin for tree in batch.trees], device=device)
    return RankedScores(scores, prompts, ranks, margins)
