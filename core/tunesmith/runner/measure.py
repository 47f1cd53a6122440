"""How often a model is right: sampled and greedy answers to prompts, judged by rewards, with intervals.

Shape letters: N prompts, n answers to each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.components import DataSpec, Generator, Reward, Sampling
from tunesmith.data.encoding import Encoder, load_tokenizer
from tunesmith.data.prompts import read_prompts
from tunesmith.data.trees import Tree
from tunesmith.models.loading import check_exists, load_policy, pick_device, pick_dtype, quiet_transformers
from tunesmith.plugins import Registry
from tunesmith.rollout.collect import rollouts_of, seed_of
from tunesmith.rollout.panel import Panel
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.settings import RunSettings

RESAMPLES = 2000
"""Bootstrap resamples of the prompts."""
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        data: the prompts.
        rewards: what judges the answers; an answer is right where their weighted sum reaches ``right``.
        sampling: of the sampled answers.
        samples: sampled answers to each prompt; 0: none.
        greedy: also the most probable answer.
        right: see ``rewards``.
        limit: prompts at most.
        seed: of the samples; the same for every model.
        max_length: tokens of a prompt at most.
    """

    data: DataSpec
    rewards: Sequence[Reward]
    generator: Generator
    sampling: Sampling
    samples: int = 8
    greedy: bool = True
    right: float = 1.0
    limit: int | None = None
    seed: int = 0
    max_length: int = 2048


@dataclass(slots=True)
class Measured:
    """What was found of one model.

    Attributes:
        model: its folder or name.
        sampled: ``[N, n]`` rewards, NaN where there is none.
        greedy: ``[N]`` rewards of the most probable answers.
        samples: a record of every answer, as in samples.jsonl.
        lengths: tokens of every answer.
        cut: share of answers that were cut off.
    """

    model: str
    sampled: Scores
    greedy: Scores
    samples: list[Mapping[str, Any]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    cut: float = 0.0


def measure(models: Sequence[str], plan: Plan, registry: Registry, settings: Mapping[str, Any]) -> list[Measured]:
    """Answer the same prompts with every model, one after the other.

    Args:
        models: folders or hub names.
        plan: what is measured.
        registry: where formats are known.
        settings: of the models: device, dtype, chat_template, tokenizer, trust_remote_code.

    Raises:
        DataError: no prompts, or one that a model's tokenizer cannot take.
        ResourceError: a model is not there.
        RewardError: see `tunesmith.rollout.panel.Panel`.
    """
    quiet_transformers()
    for model in models:
        check_exists(model, "model")
    with Panel(plan.rewards) as panel:
        return [_measure(model, plan, registry, settings, panel) for model in models]


def frozen_policy(run: RunSettings, tokenizer: Any, encoder: Encoder) -> Scorer:
    """The model of these settings on its fastest path, to be measured and not trained. Raises `ResourceError`."""
    device = pick_device(run)
    dtype = pick_dtype(run, device)
    module = load_policy(run, tokenizer, device, dtype)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else encoder.eos_id
    policy = Scorer(module.eval().requires_grad_(False), pad_id=pad, autocast=dtype == torch.bfloat16)
    choose(policy)
    return policy


def _measure(model: str, plan: Plan, registry: Registry, settings: Mapping[str, Any], panel: Panel) -> Measured:
    run = RunSettings.model_validate({"model": model, "data": (plan.data,), **settings})
    tokenizer = load_tokenizer(run)
    encoder = Encoder(tokenizer)
    trees = read_prompts(plan.data, registry, encoder, plan.rewards, limit=plan.limit, max_length=plan.max_length)
    policy = frozen_policy(run, tokenizer, encoder)
    found = Measured(model, np.empty((len(trees), 0)), np.empty(0))
    with contextlib.closing(plan.generator.open(policy, tokenizer, encoder.stop_ids)) as session, torch.no_grad():
        if plan.samples:
            sampled = _answers(found, trees, session, plan.sampling, plan.samples, plan.seed, tokenizer, panel)
            found.sampled = sampled.reshape(len(trees), plan.samples)
        if plan.greedy:
            most_probable = plan.sampling.model_copy(update={"temperature": 0.0})
            found.greedy = _answers(found, trees, session, most_probable, 1, plan.seed, tokenizer, panel)
    cut = [sample["stop"] == "length" for sample in found.samples]
    found.cut = sum(cut) / max(1, len(cut))
    return found


def _answers(
    found: Measured,
    trees: Sequence[Tree],
    session: Any,
    sampling: Sampling,
    count: int,
    seed: int,
    tokenizer: Any,
    panel: Panel,
) -> Scores:
    """Rewards of ``count`` answers to every prompt; notes the answers."""
    seeds = [[seed_of(seed, "eval", tree.row, j) for j in range(count)] for tree in trees]
    groups = session.generate([tree.trunk for tree in trees], seeds, sampling)
    rollouts = rollouts_of(trees, groups, tokenizer)
    verdicts = panel.judge(rollouts)
    totals = panel.totals(verdicts)
    drawn = [(tree, j, sample) for tree, group in zip(trees, groups, strict=True) for j, sample in enumerate(group)]
    for i, (tree, j, sample) in enumerate(drawn):
        found.lengths.append(len(sample.ids))
        said = {label: verdicts[k][i] for k, label in enumerate(panel.labels)}
        found.samples.append(
            {
                "model": found.model,
                "greedy": sampling.temperature == 0,
                "row": tree.row,
                "sample": j,
                "prompt": rollouts[i].prompt,
                "completion": rollouts[i].completion,
                "columns": dict(rollouts[i].columns),
                "rewards": {label: verdict.score for label, verdict in said.items()},
                "states": {label: verdict.state for label, verdict in said.items() if verdict.state != "score"},
                "reward": totals[i],
                "length": len(sample.ids),
                "stop": sample.stop,
            }
        )
    return np.array([np.nan if total is None else total for total in totals])


# ---------------------------------------------------------------------------------------------- statistics
@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over prompts and its 95% interval."""

    value: float
    low: float
    high: float


def pass_at(right: Scores, k: int) -> Scores:
    """``[N]`` chance that one of ``k`` answers is right, from ``right [N, n]`` of zeros and ones (NaN: unknown).

    ``1 - C(n - c, k) / C(n, k)`` for c right ones of n (arXiv:2107.03374, eq. 1): unbiased, unlike ``1 - (1 - c/n)^k``.
    NaN for prompts with fewer than ``k`` known answers.
    """
    found = []
    for row in right:
        known = row[~np.isnan(row)]
        n, c = len(known), int(known.sum())
        found.append(1 - comb(n - c, k) / comb(n, k) if n >= k else np.nan)
    return np.array(found)


def estimate(values: Scores, seed: int = 0, *, chance: bool = False) -> Estimate | None:
    """Mean over prompts with a bootstrap interval over prompts; ``None`` where nothing is known.

    ``chance``: the values are chances. Where all of them are 0, or all 1, resampling shows no spread at all, and the
    interval is the exact one of as many tosses (Clopper and Pearson 1934).
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if chance and len(set(known.tolist())) == 1 and known[0] in (0.0, 1.0):
        reach = 1 - 0.025 ** (1 / len(known))
        return Estimate(float(known[0]), *((0.0, reach) if known[0] == 0 else (1 - reach, 1.0)))
    return _resampled(known, seed)


def _resampled(known: Scores, seed: int) -> Estimate:
    draw = np.random.default_rng(seed)
    means = known[draw.integers(0, len(known), (RESAMPLES, len(known)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(known.mean()), float(low), float(high))


def figures(found: Measured, plan: Plan) -> dict[str, Estimate]:
    """Every measure of a model: pass@1 greedy, pass@k sampled, mean reward."""
    chances, rewards = _measures(found, plan)
    every = [(name, values, True) for name, values in chances.items()]
    every += [(name, values, False) for name, values in rewards.items()]
    return {name: e for name, values, chance in every if (e := estimate(values, chance=chance)) is not None}


def _measures(found: Measured, plan: Plan) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """By prompt: chances of being right, and rewards."""
    measures: dict[str, Scores] = {}
    if len(found.greedy):
        measures["greedy pass@1"] = _right(found.greedy, plan.right)
    for k in _powers(plan.samples):
        measures[f"pass@{k}"] = pass_at(_right(found.sampled, plan.right), k)
    if not plan.samples:
        return measures, {"greedy reward": found.greedy}
    counts = (~np.isnan(found.sampled)).sum(1)
    sums = np.nan_to_num(found.sampled).sum(1)
    return measures, {"mean reward": np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)}


def changes(before: Measured, after: Measured, plan: Plan) -> dict[str, Estimate]:
    """By how much every measure grew, on the same prompts: pairs of the two, so the prompts' own spread drops out."""
    one, other = (
        {name: values for kind in _measures(m, plan) for name, values in kind.items()} for m in (before, after)
    )
    return {name: e for name, values in one.items() if (e := estimate(other[name] - values)) is not None}


def _right(rewards: Scores, border: float) -> Scores:
    return np.where(np.isnan(rewards), np.nan, (rewards >= border).astype(np.float64))


def _powers(samples: int) -> list[int]:
    """1, 2, 4, ... and the number of samples."""
    return sorted({k for k in (1, 2, 4, 8, 16, 32, 64, 128, samples) if 0 < k <= samples})


def write_samples(found: Sequence[Measured], path: Path) -> None:
    """Every answer as a line; `tunesmith score` reads them."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(sample, default=str) + "\n" for one in found for sample in one.samples)
