"""Runs that see the same rows in another way, which should not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.online import OnlineMethod
from tunesmith.runner.loop import Trainer
from tunesmith.runner.signals import StopRequest


def permuted(trainer: Trainer) -> None:
    """Every batch in another order; each tree keeps the place that its random numbers depend on."""
    draw, share = trainer.sampler.batch, trainer._of_step

    def batch(step: int) -> list[Tree]:
        trees = draw(step)
        return [trees[i] for i in _order(len(trees))]

    def of_step(whole: Batch, before: int = 0) -> Batch:
        order = torch.tensor(_order(len(whole))) + before
        return share(whole if "position" in whole.columns else whole.with_columns(position=order), before)

    setattr(trainer.sampler, "batch", batch)  # noqa: B010  (of this one run)
    setattr(trainer, "_of_step", of_step)  # noqa: B010


def _order(count: int) -> list[int]:
    """No place stays, and neighbours part."""
    return [*range(1, count, 2), *range(0, count, 2)]


def with_tails(trainer: Trainer) -> None:
    """Tokens that are not trained on behind every answer: nothing that is trained on can see them."""
    draw, collected = trainer.sampler.batch, trainer._collected

    def batch(step: int) -> list[Tree]:
        return [_with_tail(tree) for tree in draw(step)]

    def after(stop: StopRequest) -> Batch:
        done = collected(stop)
        return replace(done, trees=[_with_tail(tree) for tree in done.trees])

    if isinstance(trainer.method, OnlineMethod):
        setattr(trainer, "_collected", after)  # noqa: B010
    else:
        setattr(trainer.sampler, "batch", batch)  # noqa: B010  (of this one run)


def _with_tail(tree: Tree, length: int = 3) -> Tree:
    """Numbers of its tokens are such that any use of them shows."""
    return replace(tree, branches=tuple(_longer(branch, length) for branch in tree.branches))


def _longer(branch: Branch, length: int) -> Branch:
    ids = np.concatenate([branch.ids, np.arange(5, 5 + length, dtype=np.int32)])
    mask = np.concatenate([branch.mask, np.zeros(length, dtype=np.bool_)])
    odd = np.full(length, 1e3, dtype=np.float32)
    columns = {name: np.concatenate([values, odd]) for name, values in branch.columns.items()}
    return replace(branch, ids=ids, mask=mask, columns=columns)
