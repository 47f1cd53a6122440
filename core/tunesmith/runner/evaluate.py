"""Held-out loss: nats per trained token, whatever the batch size, packing or number of processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tunesmith.components import Method
from tunesmith.data.loading import Corpus
from tunesmith.data.trees import Batch
from tunesmith.inputs import TokenLogps
from tunesmith.models.roles import Models
from tunesmith.runner.processes import Processes
from tunesmith.scoring.scorer import without_dropout

TREES_AT_A_TIME = 64


def evaluate(
    method: Method, models: Models, sets: Mapping[str, Corpus], processes: Processes, micro_tokens: int
) -> dict[str, float]:
    """The loss of every set. Methods that score tokens report the negative log-likelihood, so that objectives can be
    compared; others the mean of their objective.
    """
    with torch.no_grad(), without_dropout(models.policy.module):
        return {name: _mean_loss(method, models, corpus, processes, micro_tokens) for name, corpus in sets.items()}


def _mean_loss(method: Method, models: Models, corpus: Corpus, processes: Processes, micro_tokens: int) -> float:
    total = count = 0.0
    for start in range(0, len(corpus), TREES_AT_A_TIME):
        trees = [corpus[i] for i in range(start, min(len(corpus), start + TREES_AT_A_TIME))]
        mine = Batch([trees[i] for i in processes.share(trees)])
        for part in mine.split(micro_tokens):
            x = method.forward(models, part)
            if isinstance(x, TokenLogps):
                total, count = total - float(x.logps.double().sum()), count + len(x.logps)
            else:
                total += float(method.objective(x).total)
                count += part.count(method.objective.unit)
    total, count = processes.sum([total, count])
    return total / count
