"""Several adapters on one base: switching between them, and reward models that are an adapter on the policy's base."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tunesmith.data.trees import Batch
from tunesmith.errors import ResourceError
from tunesmith.models.loading import recomputing
from tunesmith.scoring.scorer import Scorer, base_of, without_dropout
from tunesmith.scoring.scores import ScoreScorer

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
HEAD = "score.weight"


@contextlib.contextmanager
def unchanged(module: Any) -> Iterator[None]:
    """What is active and what trains is in the end as it was; peft freezes whatever is not active."""
    before, trains = module.active_adapter, _trains(module)
    try:
        yield
    finally:
        module.set_adapter(before)
        _restore(trains)


@contextlib.contextmanager
def active_adapter(module: Any, name: str) -> Iterator[None]:
    """Compute with another adapter for a while. What trains stays as it is, so that gradients reach all that do."""
    trains = _trains(module)
    with unchanged(module):
        module.set_adapter(name)
        _restore(trains)
        yield


class _Recomputing:
    """While a layer is computed again in the backward pass, the adapter is active that was so in the forward pass."""

    def __init__(self, module: Any) -> None:
        self.module, self.name, self.stack = module, module.active_adapter, contextlib.ExitStack()

    def __enter__(self) -> None:
        if self.module.active_adapter != self.name:
            self.stack.enter_context(active_adapter(self.module, self.name))

    def __exit__(self, *error: object) -> None:
        self.stack.close()


def recompute_as_computed(module: Any) -> None:
    """Let layers that compute their activations again do so with their adapter; needed where there are several."""
    from torch.utils.checkpoint import checkpoint

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _Recomputing(module)

    for layer in recomputing(module):
        if layer.gradient_checkpointing:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=contexts)


def _trains(module: nn.Module) -> list[tuple[nn.Parameter, bool]]:
    return [(parameter, parameter.requires_grad) for parameter in module.parameters()]


def _restore(trains: list[tuple[nn.Parameter, bool]]) -> None:
    for parameter, was in trains:
        if parameter.requires_grad is not was:
            parameter.requires_grad_(was)


def shares_base(policy: Scorer, folder: Path) -> bool:
    """True where the policy is an adapter on the very base that the adapter in ``folder`` was trained on."""
    module: Any = policy.module
    if base_of(module) is module or policy.path == "stock":
        return False
    mine = module.peft_config[module.active_adapter].base_model_name_or_path
    theirs = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    return _place(str(mine)) == _place(str(theirs))


def _place(base: str) -> str:
    path = Path(base)
    return str(path.resolve()) if path.exists() else base


class AdapterScores(ScoreScorer):
    """A reward model that is a frozen adapter and a score head on the policy's base.

    Args:
        policy: see `shares_base`; an adapter is added to it.
        folder: of the adapter.

    Raises:
        ResourceError: the adapter's weights do not fit the policy's base.
    """

    def __init__(self, policy: Scorer, folder: Path) -> None:
        super().__init__(policy.module, pad_id=policy.pad_id, autocast=policy.autocast)
        self.path = policy.path
        module: Any = policy.module
        taken = module.peft_config
        self.name = next(name for i in itertools.count(1) if (name := f"reward_{i}") not in taken)
        tensors = load_file(folder / WEIGHTS)
        self._score: Tensor = tensors.pop(f"{PREFIX}{HEAD}").to(policy.device)
        with unchanged(module):
            _add(module, self.name, folder, tensors)
        for name, parameter in module.named_parameters():
            if f".{self.name}." in name:
                parameter.requires_grad_(False)

    @property
    def score_weight(self) -> Tensor:
        """``[1, H]``, of the adapter's own head."""
        return self._score

    def scores(self, batch: Batch) -> Tensor:
        """``[R]`` fp32, without gradient."""
        with torch.no_grad(), active_adapter(self.module, self.name), without_dropout(self.module):
            return super().scores(batch)


def _add(module: Any, name: str, folder: Path, tensors: dict[str, Tensor]) -> None:
    """An adapter with the weights of another kind of model on the same base."""
    from peft import PeftConfig, set_peft_model_state_dict

    config: Any = PeftConfig.from_pretrained(str(folder))
    config.modules_to_save, config.inference_mode = None, True
    module.add_adapter(name, config)
    report = set_peft_model_state_dict(module, tensors, adapter_name=name)
    missing = [key for key in report.missing_keys if f".{name}." in key]
    if missing or report.unexpected_keys:
        raise ResourceError(
            f"the adapter {folder} does not fit the policy's base",
            why=f"{len(missing)} of its weights are missing there, {len(report.unexpected_keys)} are unknown",
            fix="use a reward model that is trained on this base",
        )
