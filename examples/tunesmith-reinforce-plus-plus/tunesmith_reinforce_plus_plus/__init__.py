"""REINFORCE++: answers are held against all answers of the step, and not against those to the same prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tunesmith
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from torch import Tensor
    from tunesmith.data.trees import Batch
    from tunesmith.numerics import Groups


class ReinforcePlusPlus(tunesmith.OnlineMethod):
    """REINFORCE++: the advantage of an answer is its reward, normalised over all answers of the step."""

    name: ClassVar[str] = "reinforce-plus-plus"
    card: ClassVar[tunesmith.Card] = tunesmith.Card(
        paper="REINFORCE++ (arXiv:2501.03262)",
        use_when="Many prompts and few answers to each, down to one: there is no group that must differ in reward. "
        "With baseline: group, as GRPO, on tasks whose difficulty varies much.",
        data="10k-100k prompts.",
        memory="16 bytes per parameter in full, 18 with a reference (kl_coef above 0); no critic.",
    )
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-6, "batch_size": 128, "betas": (0.9, 0.99)}
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-5}

    objective: tunesmith.AnyObjective = Field(  # type: ignore[assignment]  # a mapping stands for a component
        default={"name": "grpo", "aggregation": "token", "clip_high": 0.2}
    )
    """Loss: any that reads sampled answers; by default PPO's clip, as published."""
    group_size: int = Field(default=1, ge=1)
    """Answers to each prompt."""
    baseline: Literal["none", "group"] = "none"
    """What is taken off a reward before it is normalised: nothing, or the mean over the answers to its prompt
    (REINFORCE++-baseline, which wants 4 or more answers)."""
    skip_equal_groups: bool = False
    """Leave groups whose rewards are all equal out of the loss; they do teach something where there is no baseline."""

    @model_validator(mode="after")
    def _has_a_group(self) -> ReinforcePlusPlus:
        if self.baseline == "group" and self.group_size < 2:
            raise ValueError("baseline: group compares answers to the same prompt: raise group_size to 2 or more")
        return self

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """What all methods of this kind count, and sums of the rewards less their baseline and of their squares.

        They are added up over processes, so that every process normalises with the same two numbers.
        """
        from tunesmith.numerics import moments
        from tunesmith.rollout.collect import rewards_of

        rewards, groups = rewards_of(batch)
        found = moments(less_baseline(rewards, groups, self.baseline), groups.valid)
        return {**super().totals(batch), "centred": found.total, "centred_squares": found.squares}

    def advantages(self, rewards: Tensor, groups: Groups, batch: Batch) -> Tensor:
        """``A = (r - b - mean) / std``, mean and std over all answers of the step (arXiv:2501.03262).

        ``r`` is less ``kl_coef`` times the KL of the whole answer. The paper takes off, at each token, the KL of the
        rest of the answer only; as published it does without that term for verifiable rewards, and then both are the
        same.
        """
        from tunesmith.numerics import Moments, whiten

        names = ("centred", "centred_squares", "answers")
        step = Moments(*(batch.totals[name] for name in names))
        return whiten(less_baseline(rewards, groups, self.baseline), step)


def less_baseline(rewards_R: Tensor, groups: Groups, baseline: str) -> Tensor:
    """``[R]`` rewards, less the mean of their group where that is the baseline; answers without a reward have 0."""
    import torch

    rewards = torch.where(groups.valid, rewards_R, 0.0)
    return rewards - groups.means(rewards)[groups.index] if baseline == "group" else rewards


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[tunesmith.Method]]:
    """Called once, when the plugin is loaded."""
    return [ReinforcePlusPlus]
