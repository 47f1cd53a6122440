"""What the rewards said of the answers of a step, in numbers under the names that the field knows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

STATES = ("abstained", "timeout", "error", "infrastructure")


def rollout_metrics(samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the completions of a step (lines of samples.jsonl); empty where there are none.

    ``reward`` is as the rewards gave it, before a KL is taken off; ``reward_std`` the mean over groups of the deviation
    within a group (over all where groups are of one); ``frac_reward_zero_std`` the share of groups without any;
    ``pass_at_1`` and ``pass_at_k`` where rewards are 0 or 1; ``rewards/NAME/mean``, ``/std`` and the share of every
    state that is no score; ``completions/...`` lengths in tokens and the share that was cut off.
    """
    if not samples:
        return {}
    groups = list(_groups(samples).values())
    metrics = {**_totals(groups), **_lengths(samples)}
    kls = [sample["kl"] for sample in samples if "kl" in sample]
    if kls:
        metrics["kl_per_answer"] = statistics.fmean(kls)
    for label in samples[0]["rewards"]:
        metrics |= _by_reward(label, samples)
    return metrics


def _groups(samples: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """Answers to the same prompt: a new group begins with its first answer."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    number = -1
    for sample in samples:
        number += sample["sample"] == 0
        groups.setdefault(number, []).append(sample)
    return groups


def _totals(groups: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    scored = [[sample["reward"] for sample in group if sample["reward"] is not None] for group in groups]
    scored = [rewards for rewards in scored if rewards]
    everything = [reward for rewards in scored for reward in rewards]
    size = sum(len(group) for group in groups)
    metrics = {"rewards/unscored": 1 - len(everything) / size}
    if not everything:
        return metrics
    metrics["reward"] = statistics.fmean(everything)
    compared = [rewards for rewards in scored if len(rewards) > 1]
    if compared:
        metrics["reward_std"] = statistics.fmean(map(statistics.stdev, compared))
        metrics["frac_reward_zero_std"] = sum(max(rewards) == min(rewards) for rewards in compared) / len(compared)
    elif len(everything) > 1:
        metrics["reward_std"] = statistics.stdev(everything)
    if all(reward in (0.0, 1.0) for reward in everything):
        metrics["pass_at_1"] = metrics["reward"]
        if compared:
            metrics["pass_at_k"] = sum(max(rewards) == 1.0 for rewards in scored) / len(scored)
    return metrics


def _lengths(samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    lengths = [sample["length"] for sample in samples]
    ended = [sample["length"] for sample in samples if sample["stop"] != "length"]
    found = {
        "completions/mean_length": statistics.fmean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": 1 - len(ended) / len(lengths),
    }
    if ended:
        found["completions/mean_terminated_length"] = statistics.fmean(ended)
    return found


def _by_reward(label: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    scores = [sample["rewards"][label] for sample in samples if sample["rewards"][label] is not None]
    states = [sample["states"].get(label) for sample in samples]
    found = {f"rewards/{label}/{state}": states.count(state) / len(states) for state in STATES if state in states}
    if scores:
        found[f"rewards/{label}/mean"] = statistics.fmean(scores)
        found[f"rewards/{label}/std"] = statistics.pstdev(scores)
    return found
