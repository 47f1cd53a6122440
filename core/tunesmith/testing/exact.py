"""The models of a run in float64, by their own forward: what gradients are held against."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tunesmith.models.critic import Critic
from tunesmith.models.reference import Reference
from tunesmith.models.roles import Models
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer


def exact(models: Models, parameters: Sequence[Tensor]) -> tuple[Models, list[Tensor]]:
    """Copies of the models in float64, and those of their parameters that stand for ``parameters``."""
    twins: dict[int, Tensor] = {}
    policy = _copy(models.policy, twins)
    reference = Reference(_copy(models.reference.scorer, twins)) if models.has_reference else None
    critic = None
    if models.has_critic:
        assert models.critic.scorer is not None, "without an adapter the critic is a model of its own"
        own = _copy(models.critic.scorer, twins)
        assert isinstance(own, ScoreScorer)
        critic = Critic(own)
    return Models(policy, reference, critic), [twins[id(parameter)] for parameter in parameters]


def _copy(scorer: Scorer, twins: dict[int, Tensor]) -> Scorer:
    module: Any = copy.deepcopy(scorer.module).double()
    module.set_attn_implementation("eager")  # the copy has the packed one, which needs to know the trees
    twins.update(_pairs(dict(scorer.module.named_parameters()), dict(module.named_parameters())))
    made = type(scorer)(module, pad_id=scorer.pad_id)
    made.temperature, made.path = scorer.temperature, "padded" if isinstance(scorer, ScoreScorer) else "stock"
    return made


def _pairs(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[int, Tensor]:
    return {id(parameter): theirs[name] for name, parameter in ours.items()}
