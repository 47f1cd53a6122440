"""Proximal policy optimisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    CriticLogps,
    HasCritic,
    Method,
    Objective,
    OnlineMethod,
    ParamGroup,
    Role,
    Volume,
)

if TYPE_CHECKING:
    from tunesmith.data.trees import Batch, Tree
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context


class PPO(OnlineMethod, HasCritic):
    """Proximal policy optimisation: a critic says what to expect of every token, and answers are held against it."""

    name: ClassVar[str] = "ppo"
    supplies: ClassVar[type] = CriticLogps
    roles: ClassVar[frozenset[Role]] = frozenset({"policy", "reference", "value"})
    card: ClassVar[Card] = Card(
        paper="PPO (arXiv:1707.06347); N+ implementation details of RLHF with PPO (arXiv:2403.17031)",
        use_when="A reward model on open-ended answers, where one sample a prompt must do, or credit must be given to "
        "single tokens. Otherwise GRPO and RLOO are simpler and need no critic.",
        data="10k-50k prompts, and a reward model trained on 100k-1M pairs or a verifier.",
        memory="34 bytes per parameter in full (policy and critic 16 each, reference 2, and the reward model); with "
        "lora all of them share one base.",
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
        goals=("reasoning", "style", "safety", "tool-use"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-6, "batch_size": 64, "betas": (0.9, 0.95)}
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-5}

    objective: AnyObjective = Field(default="ppo")  # type: ignore[assignment]
    """Loss: one that reads a critic's values."""
    group_size: int = Field(default=1, ge=1)
    """Answers to each prompt."""
    update_epochs: int = Field(default=4, ge=1)
    """Passes over the answers of a step."""
    kl_coef: float = Field(default=0.05, ge=0)
    """Beta: every token's reward is less by beta times its log-ratio to the reference."""
    kl_target: float | None = Field(default=None, gt=0)
    """Adapt kl_coef so that the KL of an answer stays near this (arXiv:1909.08593, section 2.2)."""
    kl_horizon: int = Field(default=10_000, ge=1)
    """Answers over which it adapts."""
    discount: float = Field(default=1.0, ge=0, le=1)
    """Gamma: what a reward one token later is worth."""
    decay: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation: 1 is unbiased, less is steadier (1 for long reasoning)."""
    whiten: bool = True
    """Scale the advantages of a step to mean 0 and deviation 1, over all its tokens."""
    normalise_rewards: bool = False
    """Scale rewards by the mean and deviation of all that were given so far."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Cut rewards (after they were scaled) to plus and minus this."""

    @model_validator(mode="after")
    def _trains_its_critic(self) -> PPO:
        if not issubclass(self.objective.inputs, CriticLogps):
            raise ValueError(
                f"objective: {self.objective.name} reads no values, so the critic would never learn; use objective: "
                "ppo, or the method that goes without a critic"
            )
        return self

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Two passes are enough to be off-policy."""
        return {**super().settings_for_checks(folder), "update_epochs": 2}

    @classmethod
    def fits(cls, objective: type[Objective]) -> bool:
        """Only one that trains the critic."""
        return issubclass(objective.inputs, CriticLogps) and super().fits(objective)

    def param_groups(self, models: Models) -> list[ParamGroup]:
        """The policy's groups, and the critic's at a rate of their own."""
        critic = models.critic.parameters()
        own = {id(parameter) for parameter in critic}
        groups = super().param_groups(models)
        for group in groups:
            group.params = [parameter for parameter in group.params if id(parameter) not in own]
        shapes = (
            ("matrices", True, [p for p in critic if p.ndim >= 2]),
            ("vectors", False, [p for p in critic if p.ndim < 2]),
        )
        return [
            *groups,
            *(ParamGroup(f"critic {n}", ps, self.critic_lr_scale, decays) for n, decays, ps in shapes if ps),
        ]

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Begin with the KL's weight as it is set."""
        super().started(ctx, trees)
        ctx.state["kl_coef"] = self.kl_coef

    def shaped(self, batch: Batch, ctx: Context) -> Batch:
        """Ask the critic; give every token its reward, advantage and return."""
        from tunesmith.rollout import critic

        scale = ctx.state.get("rewards") if self.normalise_rewards else None
        return critic.token_advantages(
            critic.note_values(batch, ctx.models),
            kl_coef=ctx.state.get("kl_coef", self.kl_coef),
            kl_estimator=self.kl_estimator,
            discount=self.discount,
            decay=self.decay,
            clip=self.reward_clip,
            past=scale,
        )

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """With the moments of the advantages of all tokens."""
        from tunesmith.rollout import critic

        return {**super().totals(batch), **critic.advantage_totals(batch, mask_truncated=self.mask_truncated)}

    def settle(self, batch: Batch, ctx: Context) -> Batch:
        """Whiten the advantages over the whole step; in the critic's warm-up there are none."""
        from tunesmith.rollout import critic

        idle = ctx.step < self.critic_warmup
        return critic.settle(batch, whiten=self.whiten, idle=idle, mask_truncated=self.mask_truncated)

    def forward(self, models: Models, batch: Batch) -> CriticLogps:
        """With the critic's values."""
        from tunesmith.rollout.collect import column

        x = super().forward(models, batch)
        old, returns = (column(batch, name, x.logps.device) for name in ("values", "returns"))
        assert old is not None and returns is not None, "collect() asks the critic"
        own = {field.name: getattr(x, field.name) for field in fields(x)}
        return CriticLogps(**own, values=models.critic.values(batch), old_values=old, returns=returns)

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Explained variance; adapt the KL's weight, and what is known of rewards."""
        from tunesmith.rollout import critic

        metrics = dict(super().after_step(ctx))
        metrics |= critic.explained(ctx.metrics)
        critic.remember_rewards(ctx)
        if self.kl_target is not None:
            metrics["kl_coef"] = critic.adapt(ctx, self.kl_coef, self.kl_target, self.kl_horizon)
        return metrics


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [PPO]
