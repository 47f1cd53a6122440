"""The critic of a run, in the way that its method asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tunesmith.components import Method
from tunesmith.errors import ConfigError
from tunesmith.models.critic import AdapterCritic, Critic
from tunesmith.models.loading import load_model
from tunesmith.online import HasCritic
from tunesmith.plan.kinds import critic_kind
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer
from tunesmith.settings import RunSettings

CRITIC = "critic"
"""Folder of the critic, in a checkpoint and in a finished run."""


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
