"""Held-out measurements: the same whatever the batch size, packing or number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from tunesmith.components import Method
from tunesmith.data.corpus import Corpus
from tunesmith.data.trees import Batch, Tree
from tunesmith.inputs import Loss, TokenLogps
from tunesmith.online import OnlineMethod
from tunesmith.rollout.metrics import rollout_metrics
from tunesmith.runner.context import Context
from tunesmith.runner.processes import Processes
from tunesmith.scoring.scorer import merge, without_dropout

TREES_AT_A_TIME = 1024


def evaluate(
    method: Method, context: Context, sets: Mapping[str, Corpus], processes: Processes, micro_tokens: int
) -> dict[str, dict[str, float]]:
    """``loss`` and the objective's metrics of every set.

    Methods that score tokens report the negative log-likelihood in nats per token, so that objectives can be
    compared; others the mean of their objective over its units.
    """
    if isinstance(method, OnlineMethod):
        return {name: _sampled(method, context, name, corpus, processes) for name, corpus in sets.items()}
    with torch.no_grad(), without_dropout(context.models.policy.module):
        return {name: _measure(method, context, corpus, processes, micro_tokens) for name, corpus in sets.items()}


def _sampled(
    method: OnlineMethod, context: Context, name: str, corpus: Corpus, processes: Processes
) -> dict[str, float]:
    """What the rewards say of answers to held-out prompts."""
    trees = [corpus[i] for i in range(len(corpus))]
    own = method.measure([trees[i] for i in processes.share(trees)], context, name)
    return rollout_metrics([sample for samples in processes.gather(list(own)) for sample in samples])


def arranged(method: Method, corpus: Corpus) -> Iterator[Sequence[Tree]]:
    """The trees of a set, as the method wants them, many at a time."""
    for start in range(0, len(corpus), TREES_AT_A_TIME):
        yield method.arrange([corpus[i] for i in range(start, min(len(corpus), start + TREES_AT_A_TIME))])


def _measure(
    method: Method, context: Context, corpus: Corpus, processes: Processes, micro_tokens: int
) -> dict[str, float]:
    whole, count = Loss(torch.zeros((), dtype=torch.float64)), 0
    for trees in arranged(method, corpus):
        mine = Batch([trees[i] for i in processes.share(trees)])
        mine = method.collect(mine, context) if len(mine) else mine
        mine.totals = processes.sum_named(method.totals(mine) if len(mine) else {})
        for part in mine.split(micro_tokens):
            x = method.forward(context.models, part)
            loss = Loss(-x.logps.cpu().double().sum()) if isinstance(x, TokenLogps) else method.objective(x)
            whole.total += loss.total.cpu()
            merge(whole, loss)
            count += part.count(method.objective.unit)
    return _means(whole, count, processes)


def _means(whole: Loss, count: int, processes: Processes) -> dict[str, float]:
    sums = {"loss": float(whole.total), **{name: float(value) for name, value in whole.metrics.items()}}
    own = {f"{name}\nsum": float(total) for name, (total, _) in whole.means.items()}
    own |= {f"{name}\ncount": float(number) for name, (_, number) in whole.means.items()}
    summed = processes.sum_named({**sums, **own, "\ncount": count})
    number = summed.pop("\ncount")
    means = {}
    for name, value in summed.items():
        key, _, part = name.partition("\n")
        if not part:
            means[key] = value / number
        elif part == "sum" and summed[f"{key}\ncount"] > 0:
            means[key] = value / summed[f"{key}\ncount"]
    return means
