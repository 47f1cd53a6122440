"""Which cache is exact for a model: found by sampling a little with each, never by the model's name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith import ConfigError, Sample
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.scoring.probe import LONGEST_PROBE, TOLERANCE
from tunesmith.scoring.sampling import ready
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import native
from tunesmith_plugins.generators.cached import Cached, LeftPadded
from tunesmith_plugins.generators.model import Ids, longest_allowed
from tunesmith_plugins.generators.slots import Slots

log = logging.getLogger(__name__)
NEW_TOKENS = 4


def choose(policy: Scorer) -> type[native.Cache]:
    """The fastest cache that is exact.

    Raises:
        ConfigError: none is.
    """
    caches: list[type[native.Cache]] = [LeftPadded, Cached]
    if policy.path == "packed":
        caches.insert(0, Slots)
    reasons = []
    with ready(policy):
        for cache in caches:
            problem = _try(policy, cache)
            if problem is None:
                break
            reasons.append(f"{cache.__name__.lower()}: {problem}")
            log.info("sampling without the faster cache, %s", reasons[-1])
        else:
            raise ConfigError(
                f"cannot sample from a {type(policy.language_model).__name__} with a key-value cache",
                why="; ".join(reasons),
                fix="choose another engine, see `tunesmith list generators`",
            )
    return cache


def trial_prompts(policy: Scorer, new_tokens: int = NEW_TOKENS) -> list[Ids]:
    """Two short prompts of different length, and one that outgrows a sliding window while it is completed."""
    config = policy.language_model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    long = window - 1 if 0 < window <= LONGEST_PROBE else 11
    sizes = {min(n, (longest_allowed(policy) or n + new_tokens) - new_tokens) for n in (2, 5, max(long, 1))}
    random = np.random.default_rng(0)
    return [random.integers(0, config.vocab_size, n, dtype=np.int32) for n in sorted(sizes) if n > 0]


def _try(policy: Scorer, cache_type: type[native.Cache]) -> str | None:
    """Why a cache is not exact for this model, or `None`."""
    prompts = trial_prompts(policy)
    random = np.random.default_rng(1)
    # of any tokens, not of drawn ones: what a model is sure of does not show whether its states are right
    rows = random.integers(0, policy.language_model.config.get_text_config().vocab_size, (len(prompts), 2, NEW_TOKENS))
    cache = cache_type(policy, 2 * len(prompts), max(map(len, prompts)) + NEW_TOKENS)
    together = [[i] for i in range(len(prompts))] if cache.one_length else [list(range(len(prompts)))]
    try:
        with cache.running():
            samples = [sample for chosen in together for sample in _forced(cache, chosen, prompts, rows)]
    except LookupError as error:
        return str(error)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    precision: Any = torch.bfloat16 if policy.autocast else next(policy.module.parameters()).dtype
    tolerance = TOLERANCE.get(precision, 1e-3)
    gap = largest_gap(policy, samples)
    if not gap <= tolerance:
        return f"log-probabilities differ by {gap:.1e} from those without a cache (at most {tolerance:.0e})"
    return None


def _forced(
    cache: native.Cache, chosen: list[int], prompts: list[Ids], rows: npt.NDArray[np.int64]
) -> list[tuple[Ids, Sample]]:
    """Two given completions of each chosen prompt as if they had been sampled; a row ends half-way."""
    ids = torch.from_numpy(rows[chosen].reshape(-1, NEW_TOKENS)).to(cache.policy.device)
    logits = cache.admit(cache.prefill([prompts[i] for i in chosen]), [2] * len(chosen))
    order = list(range(len(ids)))
    logps: list[list[float]] = [[] for _ in order]
    for step in range(NEW_TOKENS):
        drawn = ids[order, step]
        for row, value in zip(order, logits.log_softmax(1).gather(1, drawn[:, None])[:, 0].tolist(), strict=True):
            logps[row].append(value)
        if step == NEW_TOKENS // 2:
            kept = [len(order) - 1, *range(1, len(order) - 1)]
            cache.keep(kept)
            order, drawn = [order[i] for i in kept], drawn[kept]
        logits = cache.step(drawn)
    cache.keep([])
    samples = []
    for row, values in enumerate(logps):
        taken = ids[row, : len(values)].cpu().numpy().astype(np.int32)
        samples.append((prompts[chosen[row // 2]], Sample(taken, np.array(values, dtype=np.float32), "length")))
    return samples


def largest_gap(policy: Scorer, samples: Sequence[tuple[Ids, Sample]]) -> float:
    """Largest difference between the log-probabilities of samples, at temperature 1, and what the trainer says."""
    trees = [Tree(prompt, (Branch(s.ids, np.ones(len(s.ids), dtype=np.bool_)),)) for prompt, s in samples]
    found = torch.from_numpy(np.concatenate([sample.logps for _, sample in samples]))
    temperature, policy.temperature = policy.temperature, 1.0  # a run may score at another one
    try:
        return (found - policy.token_logps(Batch(trees)).logps.cpu()).abs().max().item()
    finally:
        policy.temperature = temperature
