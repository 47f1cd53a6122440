"""A model that gives a whole answer one score: a reward model.

Shape letters: R branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.data.trees import Batch
from tunesmith.inputs import Loss
from tunesmith.scoring import attention
from tunesmith.scoring.layout import pack, pad
from tunesmith.scoring.scorer import Scorer


class ScoreScorer(Scorer):
    """Scores of branches: the score head on the hidden state of each branch's last token, in fp32."""

    @property
    def score_weight(self) -> Tensor:
        """``[1, H]``, of the score head."""
        weight: Tensor = self.language_model.score.weight
        return weight

    def scores(self, batch: Batch) -> Tensor:
        """``[R]`` fp32, with gradient where gradients are enabled."""
        if self.path == "stock":
            return self.stock_scores(batch)
        ends = torch.from_numpy(_last_positions(batch)).to(self.device)
        with self._precision():
            if self.path == "packed":
                layout = pack(batch.trees, self.device)
                states = self._backbone(
                    input_ids=layout.input_ids, position_ids=layout.position_ids, **{attention.ARGUMENT: layout}
                )[0].index_select(0, ends)
            else:
                padded = pad(batch.trees, self.pad_id, self.device)
                rows = self._backbone(
                    input_ids=padded.input_ids,
                    attention_mask=padded.attention_mask,
                    position_ids=padded.position_ids,
                )
                last = padded.attention_mask.sum(1) - 1
                states = rows[torch.arange(len(rows), device=self.device), last]
        return torch.nn.functional.linear(states.float(), self.score_weight.float()).squeeze(-1)

    def token_values(self, batch: Batch) -> Tensor:
        """``[S]`` fp32: the score head on the hidden states that predict the scored tokens."""
        with self._precision():
            if self.path == "packed":
                layout = pack(batch.trees, self.device)
                states = self._backbone(
                    input_ids=layout.input_ids, position_ids=layout.position_ids, **{attention.ARGUMENT: layout}
                )[0].index_select(0, layout.source_S)
            else:
                padded = pad(batch.trees, self.pad_id, self.device)
                rows = self._backbone(
                    input_ids=padded.input_ids,
                    attention_mask=padded.attention_mask,
                    position_ids=padded.position_ids,
                )
                states = rows.flatten(0, 1).index_select(0, padded.source_S)
        return torch.nn.functional.linear(states.float(), self.score_weight.float()).squeeze(-1)

    def stock_scores(self, batch: Batch) -> Tensor:
        """The same from the model's own forward, one branch at a time: what the other ways are held against."""
        scores = []
        for tree in batch.trees:
            for branch in tree.branches:
                ids = torch.from_numpy(np.concatenate([tree.trunk, branch.ids]).astype(np.int64))[None]
                scores.append(self.module(input_ids=ids.to(self.device), use_cache=False).logits[0, 0].float())
        return torch.stack(scores)

    def written_in_place(self) -> list[Tensor]:
        """None."""
        return []

    def backward(
        self, part: Batch, loss_of: Callable[[Batch], Loss], count: float, stats: dict[str, Any] | None = None
    ) -> Loss:
        """Add the gradient of ``loss_of(part).total / count``; a score head is too small to be worth chunks."""
        loss = loss_of(part)
        (loss.total / count).backward()  # type: ignore[no-untyped-call]
        return Loss(loss.total.detach(), loss.metrics, loss.means, loss.maxima)


def _last_positions(batch: Batch) -> Any:
    """``[R]`` int64: where the last token of every branch lies in the packed stream."""
    sizes = [(len(tree.trunk), [len(branch) for branch in tree.branches]) for tree in batch.trees]
    ends, start = [], 0
    for trunk, branches in sizes:
        start += trunk
        for size in branches:
            start += size
            ends.append(start - 1)
    return np.array(ends, dtype=np.int64)
