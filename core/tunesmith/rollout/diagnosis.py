"""What the metrics of an online run mean, in words, each with the setting to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, float]
PATIENCE = 5
"""Steps in a row that something must hold before it is said."""
SILENCE = 100
"""Steps before it is said again."""
START = 10
"""Steps whose mean is the beginning that later steps are compared with."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something worth saying.

    Attributes:
        name: kebab-case.
        says: the sentence for these metrics and those of the beginning, or ``None`` where all is well.
    """

    name: str
    says: Callable[[Metrics, Metrics], str | None]


def _equal_rewards(now: Metrics, start: Metrics) -> str | None:
    share = now.get("frac_reward_zero_std", 0.0)
    if share <= 0.7:
        return None
    solved = "too easy or too hard"
    if "pass_at_1" in now:
        solved = "too easy" if now["pass_at_1"] > 0.5 else "too hard"
    return (
        f"all rewards are equal in {share:.0%} of the groups, which teach nothing: the prompts are {solved}; change "
        "the prompts, raise group_size, or sample again for such groups with max_draws"
    )


def _cut_off(now: Metrics, start: Metrics) -> str | None:
    share = now.get("completions/clipped_ratio", 0.0)
    if share <= 0.2:
        return None
    return (
        f"{share:.0%} of the answers are cut off: raise max_new_tokens, leave them out with mask_truncated, or reward "
        "shorter answers"
    )


def _no_entropy(now: Metrics, start: Metrics) -> str | None:
    before, entropy = start.get("entropy"), now.get("entropy")
    if before is None or entropy is None or before <= 0 or entropy >= 0.3 * before:
        return None
    return (
        f"entropy has fallen from {before:.3g} to {entropy:.3g} nats: answers become all alike; raise clip_high of the "
        "objective, lower learning_rate, or add a KL to the reference (kl_coef)"
    )


def _longer_for_nothing(now: Metrics, start: Metrics) -> str | None:
    before, length = start.get("completions/mean_length"), now.get("completions/mean_length")
    if not before or length is None or length < 2 * before or now.get("reward", 0.0) > start.get("reward", 0.0) + 0.05:
        return None
    return (
        f"answers have grown from {before:.0f} to {length:.0f} tokens without more reward: weigh all tokens alike "
        "(aggregation of the objective), or reward shorter answers"
    )


def _off_policy(now: Metrics, start: Metrics) -> str | None:
    gap = now.get("sampling/sampling_logp_difference/mean", 0.0)
    if gap <= 0.02:
        return None
    return (
        f"the engine that samples and the policy differ by {gap:.3f} nats a token: set correction of the objective, "
        "or sample in the precision that is trained in"
    )


def _unscored(now: Metrics, start: Metrics) -> str | None:
    share = now.get("rewards/unscored", 0.0)
    if share <= 0.2:
        return None
    return f"{share:.0%} of the answers got no reward: see `states` in samples.jsonl for the reasons"


def _bad_critic(now: Metrics, start: Metrics) -> str | None:
    explained = now.get("explained_variance")
    if explained is None or explained >= 0:
        return None
    return (
        f"the critic explains nothing (explained variance {explained:.2f}): give it a critic_warmup, a higher "
        "critic_lr_scale, or start it from the reward model (critic_model)"
    )


SIGNS = (
    Sign("equal-rewards", _equal_rewards),
    Sign("cut-off", _cut_off),
    Sign("entropy", _no_entropy),
    Sign("length", _longer_for_nothing),
    Sign("sampler-gap", _off_policy),
    Sign("unscored", _unscored),
    Sign("critic", _bad_critic),
)


def diagnose(metrics: Metrics, state: MutableMapping[str, Any], step: int) -> Iterator[str]:
    """What is worth saying after a step: once something has held for a few steps, and then rarely.

    Args:
        metrics: of the step.
        state: JSON values, kept from step to step; changed.
        step: number of the step, from 1.
    """
    start = _beginning(metrics, state)
    for sign in SIGNS:
        seen = state.setdefault("signs", {}).setdefault(sign.name, {"held": 0, "said": None})
        sentence = sign.says(metrics, start)
        seen["held"] = seen["held"] + 1 if sentence else 0
        quiet = seen["said"] is None or step - seen["said"] >= SILENCE
        if sentence and seen["held"] >= PATIENCE and quiet:
            seen["said"] = step
            yield sentence


def _beginning(metrics: Metrics, state: MutableMapping[str, Any]) -> Metrics:
    """Means over the first steps."""
    known = state.setdefault("beginning", {"steps": 0, "sums": {}})
    if known["steps"] < START:
        known["steps"] += 1
        for name in ("entropy", "completions/mean_length", "reward"):
            if name in metrics:
                known["sums"][name] = known["sums"].get(name, 0.0) + metrics[name]
    return {name: total / known["steps"] for name, total in known["sums"].items()}
