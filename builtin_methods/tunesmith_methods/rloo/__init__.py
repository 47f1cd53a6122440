"""REINFORCE with a leave-one-out baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, OnlineMethod, Volume

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.data.trees import Batch
    from tunesmith.numerics import Groups


class RLOO(OnlineMethod):
    """REINFORCE leave-one-out: an answer is held against the mean of the others to its prompt, as one action."""

    name: ClassVar[str] = "rloo"
    card: ClassVar[Card] = Card(
        paper="Back to Basics: Revisiting REINFORCE-Style Optimization (arXiv:2402.14740)",
        use_when="As GRPO: verifiable tasks, or a reward model, on few samples a prompt. Its gradient is unbiased.",
        data="10k-50k prompts of mixed difficulty.",
        memory="18 bytes per parameter in full (16 without KL); no critic.",
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

    objective: AnyObjective = Field(default="rloo")  # type: ignore[assignment]
    """Loss: any that reads sampled answers."""
    group_size: int = Field(default=4, ge=2)
    """Answers to each prompt."""
    kl_coef: float = Field(default=0.03, ge=0)
    """Beta: the reward of an answer is less by beta times its log-ratio to the reference (arXiv:2402.14740, eq. 6)."""

    def advantages(self, rewards: Tensor, groups: Groups, batch: Batch) -> Tensor:
        """Reward less KL, less the mean of the same over the other answers (arXiv:2402.14740, eq. 8)."""
        from tunesmith.numerics import leave_one_out_advantages

        return leave_one_out_advantages(rewards, groups)


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [RLOO]
