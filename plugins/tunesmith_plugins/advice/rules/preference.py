"""Pairs, thumbs and reward models."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_plugins.advice.case import PAIRED, Case, count
from tunesmith_plugins.advice.engine import Finding, Methods, Verdict, rule
from tunesmith_plugins.advice.rules.reasoning import CHECKED, LIKED

FEW_PAIRS = 1_000
"""Below this many pairs preference training is refused. Ours, not verified; the guide begins at 10,000."""
FEW_LABELS = 500
"""Below this many labelled answers as well. Ours, not verified."""
LONGER = 0.7
"""Share of pairs whose chosen answer is longer, beyond which length is learnt instead. Ours, not verified."""
CURATED = 80_000
"""Pairs of the set of Skywork-Reward (arXiv:2410.18451)."""


def usual(methods: Methods, name: str, goal: str) -> str:
    """What the card of a method says is usual."""
    facts = methods.get(name)
    volume = facts.volume(goal) if facts else None
    return str(volume) if volume else "10k-60k pairs"


@rule(
    "S1",
    when="there are pairs, and the goal is not knowledge",
    then="DPO. ORPO for a base model that nobody fine-tuned, SimPO where there is no memory for a reference.",
    both="The guide recommends ORPO and SimPO for little memory. That holds where all weights are trained (16 instead "
    "of 18 bytes per parameter); where an adapter is trained the reference costs nothing, so they save nothing.",
    source="strategy guide, sections 3 and 6.3; DPO (arXiv:2305.18290); ORPO (arXiv:2403.07691); SimPO "
    "(arXiv:2405.14734)",
)
def pairs(case: Case, methods: Methods) -> Iterator[Finding]:
    """Preference training on pairs at hand."""
    if case.goal not in CHECKED + LIKED or case.pairs is None or case.pairs < FEW_PAIRS:
        return
    facts = methods.get("dpo")
    volume = facts.volume(case.goal) if facts else None
    low = volume.low if volume else 10_000
    few = (
        f", fewer than usual ({usual(methods, 'dpo', case.goal)}): their gap must be clear" if case.pairs < low else ""
    )
    rows = f"{count(case.pairs)} pairs{few}"
    base = case.start == "base"
    yield Finding("dpo", rows, Verdict.POSSIBLE if base else Verdict.GOOD, 8, change="a base model (--start base)")
    if base:
        yield Finding("dpo", "fine-tune on the chosen answers first: it moves what the model says already")
    yield Finding("orpo", "fine-tunes and aligns in one; for a model that was not fine-tuned",
                  Verdict.GOOD if base else Verdict.POSSIBLE, 10 if base else 4)  # fmt: skip
    yield Finding("simpo", "no reference: saves memory where all weights are trained", Verdict.POSSIBLE, 5)


@rule(
    "S2",
    when="there are fewer than 1,000 pairs",
    then="Not preference training alone: collect more, or fine-tune on the chosen answers.",
    source="strategy guide, section 5.3 (10-60k pairs); the bound is ours, not verified",
)
def few_pairs(case: Case, methods: Methods) -> Iterator[Finding]:
    """Too few pairs."""
    if case.goal not in CHECKED + LIKED or case.pairs is None or case.pairs >= FEW_PAIRS:
        return
    for name in PAIRED:
        known = usual(methods, name, case.goal)
        yield Finding(name, f"{count(case.pairs)} pairs; {known} are usual", Verdict.NOT_YET, change=known)
    if case.demos is None:
        yield Finding("sft", f"on the {count(case.pairs)} chosen answers", merit=3)


@rule(
    "S3",
    when="there are single answers with a thumb up or down",
    then="KTO, with both classes weighted so that desirable and undesirable answers count 1:1 to 4:3 in all, and "
    "batches of 4 or more per step for its KL term. One class alone says nothing.",
    source="strategy guide, section 6.4; KTO (arXiv:2402.01306), section 4.2; 500 answers at least is ours",
)
def thumbs(case: Case, methods: Methods) -> Iterator[Finding]:
    """Binary logs."""
    if case.labels is None or case.goal not in CHECKED + LIKED:
        return
    good, bad = case.good or 0, case.bad or 0
    rows = f"{count(good)} thumbs up, {count(bad)} down"
    facts = methods.get("kto")
    volume = facts.volume(case.goal) if facts else None
    low = volume.low if volume else 1_000
    if not good or not bad:
        text = f"{rows}: with one class there is nothing to compare"
        yield Finding("kto", text, Verdict.NOT_YET, change="answers with the other thumb")
    elif case.labels < FEW_LABELS:
        yield Finding("kto", f"{rows}; {count(low)} or more are usual", Verdict.NOT_YET, change=f"{count(low)} logs")
    else:
        verdict = Verdict.GOOD if case.labels >= low else Verdict.POSSIBLE
        weight = f"a thumb {'down' if good > bad else 'up'} gets {max(good, bad) / min(good, bad):.2g} times the weight"
        yield Finding("kto", f"{rows}; {weight}", verdict, 6, change="pairs of answers to the same prompts")
    if case.demos is None and case.pairs is None and good:
        yield Finding("sft", f"on the {count(good)} answers with a thumb up")


@rule(
    "S4",
    when="the chosen answer is longer in more than 70% of the pairs",
    then="Length is the easiest thing to learn from such pairs: use a reward per token (SimPO) or pairs of one length.",
    source="SimPO (arXiv:2405.14734), section 4; 70% is ours, not verified",
)
def length_bias(case: Case, _: Methods) -> Iterator[Finding]:
    """Longer is not better."""
    if case.longer is None or case.longer <= LONGER or case.pairs is None:
        return
    yield Finding("", f"chosen answers are longer in {case.longer:.0%} of the pairs: length is what will be learnt")
    if case.goal in CHECKED + LIKED and case.pairs >= FEW_PAIRS:
        text = "its reward is per token, so that length alone wins nothing"
        yield Finding("simpo", text, merit=12, change="pairs of about the same length")
        yield Finding("dpo", "will make answers longer", Verdict.POSSIBLE)


@rule(
    "S5",
    when="there are pairs and a reward model, and the pairs are not the model's own",
    then="Iterative DPO: pairs of the model's own answers, judged by the reward model, in rounds.",
    source="strategy guide, section 3; RLHF Workflow (arXiv:2405.07863)",
)
def own_pairs(case: Case, _: Methods) -> Iterator[Finding]:
    """On-policy pairs."""
    if case.pairs is None or "rm" not in case.have or "own-pairs" in case.have or case.goal not in LIKED:
        return
    text = "pairs of its own answers where these are of other models; costs sampling, and needs prompts alone"
    yield Finding("iterative-dpo", text, Verdict.POSSIBLE, 6, change="the pairs are the model's own (--have own-pairs)")


@rule(
    "M1",
    when="there are 80,000 pairs or more, and no reward model",
    then="A reward model pays: it judges sampled answers (PPO, RLOO, iterative DPO).",
    both="The guide asks for 100k-1M diverse pairs; the paper got further with 80k curated ones than others with more.",
    source="strategy guide, section 5.3; Skywork-Reward (arXiv:2410.18451)",
)
def reward_model(case: Case, methods: Methods) -> Iterator[Finding]:
    """A judge of one's own."""
    if case.pairs is None or case.pairs < CURATED or "rm" in case.have or case.goal not in LIKED:
        return
    text = f"{count(case.pairs)} pairs; {usual(methods, 'rm', case.goal)} are usual, 80k curated ones have done"
    yield Finding("rm", text, Verdict.POSSIBLE, 2, then="iterative-dpo")
