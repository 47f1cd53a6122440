"""The critic of a run, in the way that its method asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tunesmith.components import Method
from tunesmith.errors import ConfigError
from tunesmith.models.critic import AdapterCritic, Critic
from tunesmith.models.loading import check_exists, load_model
from tunesmith.online import HasCritic
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer
from tunesmith.settings import RunSettings

CRITIC = "critic"
"""Folder of the critic, in a checkpoint and in a finished run."""


def critic_kind(method: Method, settings: RunSettings) -> str:
    """``model`` or ``adapter``. Raises `ConfigError` for a kind that this run cannot have."""
    assert isinstance(method, HasCritic), f"{method.name} declares the role 'value' and has no settings of a critic"
    check_exists(method.critic_model or settings.model, "critic model")
    kind = method.critic
    if kind == "auto":
        kind = "adapter" if settings.adapter != "none" and method.critic_model is None else "model"
    if kind == "adapter" and settings.adapter == "none":
        raise ConfigError(
            "critic: adapter needs an adapter on the policy's base", fix="--adapter lora, or --critic model"
        )
    if kind == "adapter" and method.critic_model is not None:
        raise ConfigError("critic: adapter starts on the policy's base, not on critic_model", fix="--critic model")
    if kind == "adapter" and settings.activation_checkpointing:
        raise ConfigError(
            "critic: adapter cannot recompute activations: the policy's adapter would be active by then",
            fix="--critic model, or without activation_checkpointing",
        )
    return kind


def make_critic(
    method: Method,
    settings: RunSettings,
    tokenizer: Any,
    policy: Scorer,
    dtype: torch.dtype,
    device: torch.device,
    checkpoint: Path | None,
) -> Critic | None:
    """The critic, or ``None`` for a method without that role; from a checkpoint of the run when it goes on."""
    if "value" not in method.active_roles():
        return None
    assert isinstance(method, HasCritic)
    saved = checkpoint / CRITIC if checkpoint is not None else None
    if critic_kind(method, settings) == "adapter":
        if policy.path == "stock":
            raise ConfigError("critic: adapter cannot read this model's hidden states", fix="--critic model")
        return AdapterCritic(policy, saved)
    own = {"adapter": "none", "quantize": "none", "model": str(saved or method.critic_model or settings.model)}
    module = load_model(settings.model_copy(update=own), method, tokenizer, device, dtype, head="score")
    scorer = ScoreScorer(module, pad_id=policy.pad_id, autocast=policy.autocast)
    scorer.micro_tokens = policy.micro_tokens
    choose(scorer)
    return Critic(scorer)
