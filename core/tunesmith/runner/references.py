"""The reference of a run, in the way that its method asks for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from tunesmith.components import Method
from tunesmith.data.trees import Tree
from tunesmith.models.loading import load_model
from tunesmith.models.reference import AdapterOff, Cached, Reference, digest_of
from tunesmith.plan.kinds import kind_of
from tunesmith.runner.checkpoint import sha256
from tunesmith.runner.processes import Processes
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.settings import RunSettings

log = logging.getLogger(__name__)


def make_reference(
    method: Method,
    settings: RunSettings,
    tokenizer: Any,
    policy: Scorer,
    dtype: torch.dtype,
    processes: Processes,
    trees: Callable[[], Iterable[Tree]],
    *,
    fresh: bool,
) -> Reference | None:
    """The reference, or ``None`` for a method without that role.

    Args:
        trees: all trees that will be scored, where they are known beforehand.
        fresh: the policy has not been trained yet, so it still is its own reference.

    Raises:
        ConfigError: a kind of reference that this run cannot have.
    """
    if "reference" not in method.active_roles():
        return None
    kind, name = kind_of(method, settings)
    if kind == "adapter-off":
        return AdapterOff(policy)

    def load() -> Reference:
        plain = {"adapter": "none", "quantize": "none", "activation_checkpointing": False, "model": name}
        module = load_model(settings.model_copy(update=plain), method, tokenizer, processes.device, dtype)
        scorer = Scorer(module.requires_grad_(False), pad_id=policy.pad_id, autocast=policy.autocast)
        scorer.micro_tokens = policy.micro_tokens
        choose(scorer)
        return Reference(scorer)

    if kind == "copy":
        return load()
    cached = Cached(_model_key(name, settings, dtype), policy)
    own = name == settings.model
    now = AdapterOff(policy) if settings.adapter != "none" and own else Reference(policy) if fresh and own else None
    _fill(cached, trees(), lambda: now or load(), processes)
    return cached


def _fill(cached: Cached, trees: Iterable[Tree], source: Callable[[], Reference], processes: Processes) -> None:
    """Compute what the cache lacks, each process its share, and tell the others."""
    missing = {digest_of(tree): tree for tree in trees}
    missing = {digest: tree for digest, tree in missing.items() if digest not in cached.known}
    log.info("reference  log-probabilities of %d trees, %d of them new", len(missing) + len(cached.known), len(missing))
    if not missing:
        return
    mine = [tree for i, tree in enumerate(missing.values()) if i % processes.count == processes.rank]
    cached.fill(mine, source())
    for known in processes.gather({digest_of(tree): cached.known[digest_of(tree)] for tree in mine}):
        cached.known.update(known)
    if processes.main:
        cached.save()


def _model_key(name: str, settings: RunSettings, dtype: torch.dtype) -> str:
    """A hash of the weights where they are local, else of the hub name and revision; and of the precision."""
    digest = hashlib.sha256(f"1 {dtype} {settings.quantize}".encode())
    folder = Path(name)
    if folder.is_dir():
        for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*config.json")]):
            digest.update(f"{path.name} {sha256(path)}".encode())
    else:
        digest.update(f"{name} {settings.revision}".encode())
    return digest.hexdigest()[:32]
