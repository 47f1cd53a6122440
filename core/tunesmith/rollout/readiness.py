"""Before any training: can the policy learn from these prompts and rewards at all?"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.trees import Batch, Tree
from tunesmith.errors import ConfigError
from tunesmith.rollout.collect import grow, seed_of
from tunesmith.rollout.metrics import rollout_metrics

if TYPE_CHECKING:
    from tunesmith.online import OnlineMethod
    from tunesmith.runner.context import Context

log = logging.getLogger(__name__)
FEW_DIFFER = 0.1
"""Groups whose rewards differ: below this share most of a step teaches nothing."""
ALL_RIGHT = 0.95
MANY_CUT = 0.2


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a sample of the prompts says.

    Attributes:
        verdict: ``good``, ``no signal``, ``too hard`` or ``too easy``.
        facts: the numbers behind it.
        advice: what to do.
    """

    verdict: str
    facts: str
    advice: str = ""


def judged(samples: Sequence[Mapping[str, Any]], group_size: int) -> Readiness:
    """The verdict on completions of a few prompts (lines of samples.jsonl)."""
    metrics = rollout_metrics(samples)
    prompts = sum(sample["sample"] == 0 for sample in samples)
    facts = f"{prompts} prompts, {group_size} answers each"
    if "reward" not in metrics:
        return Readiness("no signal", f"{facts}: no answer got a reward", "check the rewards with `tunesmith score`")
    low, high = (f(s["reward"] for s in samples if s["reward"] is not None) for f in (min, max))
    differ = 1 - metrics.get("frac_reward_zero_std", float(low == high))
    facts += f"; reward {metrics['reward']:.3f} ({low:.3g} to {high:.3g}), it differs in {differ:.0%} of the groups"
    if "pass_at_k" in metrics:
        facts += f"; pass@1 {metrics['pass_at_1']:.0%}, pass@{group_size} {metrics['pass_at_k']:.0%}"
    if (cut := metrics["completions/clipped_ratio"]) > MANY_CUT:
        facts += f"; {cut:.0%} of the answers are cut off at max_new_tokens"
    if low == high:
        return _equal(low, facts, "pass_at_1" in metrics)
    if metrics.get("pass_at_1", 0.0) >= ALL_RIGHT:
        return Readiness("too easy", facts, "give harder prompts: these are nearly always solved")
    if group_size > 1 and differ < FEW_DIFFER:
        fix = "raise group_size, or give prompts that are sometimes solved"
        cold = "fine-tune on a few worked examples first"
        return Readiness("too hard", facts, f"{fix}; where the format is the trouble, {cold}")
    return Readiness("good", facts)


def _equal(reward: float, facts: str, binary: bool) -> Readiness:
    if binary and reward == 1.0:
        return Readiness("too easy", facts, "give harder prompts: these are always solved")
    if binary:
        return Readiness(
            "too hard",
            facts,
            "nothing is ever solved, so there is nothing to reinforce: fine-tune on a few worked examples first, "
            "or give easier prompts",
        )
    return Readiness("no signal", facts, "the rewards give every answer the same: check them with `tunesmith score`")


def probe(method: OnlineMethod, ctx: Context, trees: Iterable[Tree]) -> None:
    """Sample answers to a few prompts and say the verdict.

    Raises:
        ConfigError: nothing can be learned, and ``force`` is not set.
    """
    numbered = enumerate(trees)
    chosen = heapq.nsmallest(method.probe, numbered, key=lambda item: seed_of(ctx.seed, "probe", item[0]))
    if not chosen:
        return
    samples = grow(method, Batch([tree for _, tree in chosen]), ctx, "probe").samples
    found = judged(samples, method.group_size)
    ctx.state["readiness"] = found.verdict
    if found.verdict == "good":
        log.info("probe    good: %s", found.facts)
    elif method.force:
        log.warning("probe    %s: %s; training all the same", found.verdict, found.facts)
    else:
        raise ConfigError(
            f"the model is not ready for {method.name} on these prompts: {found.verdict}",
            why=found.facts,
            fix=f"{found.advice}; or train all the same with --force",
        )
