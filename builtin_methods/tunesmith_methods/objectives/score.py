"""Losses over scalar scores of a reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from tunesmith import Loss, Objective, RankedScores


class BradleyTerry(Objective):
    """The preferred answer scores higher: -log sigmoid of the difference, over all pairs of a prompt (InstructGPT)."""

    name: ClassVar[str] = "bradley-terry"
    inputs: ClassVar[type] = RankedScores
    unit: ClassVar[Any] = "pair"
    centering: float = Field(default=0.0, ge=0)
    """Weight of (r_w + r_l)^2, which keeps scores around zero; 0.01 in arXiv:2312.09244."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""

    def at_start(self) -> Mapping[str, float]:
        """Each of two answers may be the better one."""
        return {"loss": math.log(2), "accuracy": 0.5, "margin": 0.0}

    def __call__(self, x: Any) -> Loss:
        """Sum over prompts of the mean over their comparable pairs; a prompt without any adds nothing."""
        import torch

        from .losses.score import bradley_terry, centering

        same = x.prompts[:, None] == x.prompts[None, :]
        better, worse = torch.nonzero(same & (x.ranks[:, None] > x.ranks[None, :]), as_tuple=True)
        prompt = x.prompts[better]
        pairs = torch.bincount(prompt, minlength=len(x.margins)).to(x.scores)
        share = 1 / pairs[prompt]
        difference = x.scores[better] - x.scores[worse]
        values = bradley_terry(difference, margin=x.margins[prompt], label_smoothing=self.label_smoothing)
        if self.centering:
            values = values + self.centering * centering(x.scores[better], x.scores[worse])
        gap = difference.detach()
        right = (gap > 0).float() + 0.5 * (gap == 0).float()
        metrics = {"accuracy": right, "margin": gap, "mean_reward": (x.scores[better] + x.scores[worse]).detach() / 2}
        prompts = (pairs > 0).to(pairs).sum()
        return Loss((values * share).sum(), means={k: ((v * share).sum(), prompts) for k, v in metrics.items()})
