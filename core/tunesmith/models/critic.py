"""Critics: estimates of the return in the state before each token, by a model of their own or on the policy's base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.data.trees import Batch
from tunesmith.models.adapters import active_adapter, recompute_as_computed, unchanged
from tunesmith.models.saving import check_finite, save_model
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer

HEAD_FILE = "value_head.safetensors"
ADAPTER = "value"
"""Name of the critic's adapter on the policy's base."""


class Critic:
    """A model of its own with one output a token.

    Args:
        scorer: of that model.
    """

    def __init__(self, scorer: ScoreScorer) -> None:
        self.scorer: Scorer | None = scorer
        self._scores = scorer

    def values(self, batch: Batch) -> Tensor:
        """``[S]`` fp32, one for every scored token, with gradient where gradients are enabled."""
        return self._scores.token_values(batch)

    def parameters(self) -> list[nn.Parameter]:
        """What trains."""
        return [p for p in self._scores.module.parameters() if p.requires_grad]

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write a model folder that a critic or a reward model can start from."""
        save_model(self._scores.module, tokenizer, folder)


class AdapterCritic(Critic):
    """An adapter and a head on the policy's base: no second model.

    Args:
        policy: of a peft model; the adapter ``value`` is added to it.
        saved: a folder that `save` wrote, to go on from.
    """

    def __init__(self, policy: Scorer, saved: Path | None = None) -> None:
        self.scorer, self.policy = None, policy
        module: Any = policy.module
        with unchanged(module):
            if saved is not None:
                module.load_adapter(str(saved / ADAPTER), ADAPTER, is_trainable=True)
            else:
                module.add_adapter(ADAPTER, module.peft_config[module.active_adapter])
        for parameter in self._own():
            parameter.requires_grad_(True)
        recompute_as_computed(module)
        self.head = nn.Linear(_width(policy), 1, bias=False, device=policy.device)
        with torch.no_grad():
            self.head.weight.zero_()
            if saved is not None:
                self.head.weight.copy_(load_file(saved / HEAD_FILE)["weight"])

    def _own(self) -> list[nn.Parameter]:
        return [p for name, p in self.policy.module.named_parameters() if f".{ADAPTER}." in name]

    def values(self, batch: Batch) -> Tensor:
        """``[S]`` fp32, from the policy's base with the critic's adapter."""
        with active_adapter(self.policy.module, ADAPTER):
            hidden = self.policy.scored_states(batch)
        return nn.functional.linear(hidden.float(), self.head.weight).squeeze(-1)

    def parameters(self) -> list[nn.Parameter]:
        """The adapter and the head."""
        return [*self._own(), *self.head.parameters()]

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write the adapter and the head."""
        check_finite(self.head)
        module: Any = self.policy.module
        module.save_pretrained(folder, selected_adapters=[ADAPTER])
        save_file({"weight": self.head.weight.detach().cpu().contiguous()}, folder / HEAD_FILE)


def _width(policy: Scorer) -> int:
    return int(policy.language_model.config.get_text_config().hidden_size)
