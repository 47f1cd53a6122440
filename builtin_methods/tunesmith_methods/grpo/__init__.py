"""Group relative policy optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

import tunesmith
from tunesmith import AnyObjective, Card, Method, OnlineMethod, Preset, Volume

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.data.trees import Batch
    from tunesmith.numerics import Groups


class GRPO(OnlineMethod):
    """Group relative policy optimisation: answers to a prompt are held against the mean of their group."""

    name: ClassVar[str] = "grpo"
    card: ClassVar[Card] = Card(
        paper="DeepSeekMath (arXiv:2402.03300); Dr. GRPO (arXiv:2503.20783); DAPO (arXiv:2503.14476)",
        use_when="Reasoning with answers that a program can verify, from a model that solves some of the tasks. "
        "Start with a cold-start SFT where it does not yet keep to the format.",
        data="10k-50k prompts of mixed difficulty; those always or never solved teach nothing.",
        memory="16 bytes per parameter in full, 18 with a reference (kl_coef above 0); no critic.",
        volumes=(
            Volume(
                "online RL",
                "prompts",
                10_000,
                50_000,
                source="strategy guide, section 5.3",
                note="prompts alone: the answers are sampled",
            ),
        ),
        goals=("reasoning", "tool-use", "task", "format", "style", "safety"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-6, "batch_size": 32, "betas": (0.9, 0.99)}
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-5}
    presets: ClassVar[Mapping[str, Preset]] = {
        "deepseekmath": Preset(
            "As published in 2024: deviation of the group, means over answers, KL to the reference in the loss",
            {
                "scale": "group",
                "objective": {"name": "grpo", "aggregation": "sequence", "clip_high": 0.2, "kl_coef": 0.04},
            },
        ),
        "dr-grpo": Preset(
            "No deviation and a constant length in the denominators (arXiv:2503.20783)",
            {"scale": "none", "objective": {"name": "grpo", "aggregation": "constant", "clip_high": 0.2}},
        ),
        "dapo": Preset(
            "Clip higher, token mean, dynamic sampling, overlong answers masked (arXiv:2503.14476)",
            {
                "scale": "group",
                "max_draws": 10,
                "mask_truncated": True,
                "objective": {"name": "grpo", "aggregation": "token", "clip_high": 0.28},
            },
        ),
        "gspo": Preset(
            "Ratios of whole answers (arXiv:2507.18071)",
            {
                "scale": "group",
                "minibatches": 4,
                "objective": {
                    "name": "grpo",
                    "ratio": "sequence",
                    "aggregation": "sequence",
                    "clip_low": 3e-4,
                    "clip_high": 4e-4,
                },
            },
        ),
        "cispo": Preset(
            "Clipped weights instead of dropped tokens (arXiv:2506.13585)",
            {"scale": "batch", "objective": {"name": "grpo", "surrogate": "cispo", "aggregation": "prompt"}},
        ),
    }

    objective: AnyObjective = Field(default="grpo")  # type: ignore[assignment]
    """Loss: any that reads sampled answers."""
    scale: Literal["none", "group", "batch"] = "none"
    """Divide rewards less their group's mean by nothing (Dr. GRPO: unbiased), by the group's standard deviation (as
    published; groups of little spread then count for more), or by that of the whole batch."""
    scale_eps: float = Field(default=1e-4, ge=0)
    """Added to that deviation."""

    @model_validator(mode="after")
    def _is_a_group(self) -> GRPO:
        if self.group_size < 2:
            raise ValueError("group_size 1 leaves nothing to compare an answer with: use 2 or more")
        return self

    def advantages(self, rewards: Tensor, groups: Groups, batch: Batch) -> Tensor:
        """Reward less the mean of the group, perhaps over a deviation (arXiv:2402.03300, sec. 4.1.2)."""
        from tunesmith.numerics import group_advantages
        from tunesmith.rollout.collect import reward_moments

        return group_advantages(rewards, groups, scale=self.scale, eps=self.scale_eps, batch=reward_moments(batch))


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [GRPO]
