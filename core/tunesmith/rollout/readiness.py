"""Before any training: can the policy learn from these prompts and rewards at all?"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.data.trees import Batch, Tree
from tunesmith.errors import ConfigError
from tunesmith.rollout.collect import check_room, grow, seed_of
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
    facts = f"{_some(prompts, 'prompt')}, {_some(group_size, 'answer')} each"
    if "reward" not in metrics:
        return Readiness("no signal", f"{facts}: no answer got a reward", "check the rewards with `tunesmith score`")
    low, high = (f(s["reward"] for s in samples if s["reward"] is not None) for f in (min, max))
    differ = 1 - metrics.get("frac_reward_zero_std", float(low == high))
    facts += f"; reward {metrics['reward']:.3f} ({low:.3g} to {high:.3g})"
    facts += f", it differs in {differ:.0%} of the groups" if group_size > 1 else ""
    if "pass_at_k" in metrics:
        facts += f"; pass@1 {metrics['pass_at_1']:.0%}, pass@{group_size} {metrics['pass_at_k']:.0%}"
    if (cut := metrics["completions/clipped_ratio"]) > MANY_CUT:
        facts += f"; {cut:.0%} of the answers are cut off at max_new_tokens"
    if low == high:
        return _equal(low, facts, "pass_at_1" in metrics)
    if metrics.get("pass_at_1", 0.0) >= ALL_RIGHT:
        return Readiness("too easy", facts, "give harder prompts: these are nearly always solved")
    if group_size > 1 and differ < FEW_DIFFER:
        easy = metrics.get("pass_at_1", 0.0) > 0.5
        fix = f"raise group_size, or give {'harder prompts' if easy else 'prompts that are sometimes solved'}"
        cold = "" if easy else "; where the format is the trouble, fine-tune on a few worked examples first"
        return Readiness("too easy" if easy else "too hard", facts, f"{fix}{cold}")
    return Readiness("good", facts)


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


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


def _fitting(method: OnlineMethod, ctx: Context, trees: Iterable[Tree]) -> Iterator[Tree]:
    """The trees; a prompt that leaves no room for an answer is found now, and not at the step that comes to it."""
    for tree in trees:
        check_room(method, len(tree.trunk), ctx.models.policy)
        yield tree


def probe(method: OnlineMethod, ctx: Context, trees: Iterable[Tree]) -> None:
    """See that every prompt leaves room for an answer; sample answers to a few of them and say the verdict.

    Raises:
        ConfigError: a prompt is too long; or nothing can be learned, and ``force`` is not set.
    """
    numbered = enumerate(_fitting(method, ctx, trees))
    chosen = heapq.nsmallest(max(1, method.probe), numbered, key=lambda item: seed_of(ctx.seed, "probe", item[0]))
    if not chosen or not method.probe:
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
