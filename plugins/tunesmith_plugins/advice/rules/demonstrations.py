"""Examples to imitate, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_plugins.advice.case import Case, count
from tunesmith_plugins.advice.engine import Finding, Methods, Verdict, rule
from tunesmith_plugins.advice.rules.preference import FEW_PAIRS
from tunesmith_plugins.advice.rules.reasoning import COLD_START, LIKED

FORMED = ("style", "safety", "format", "task", "tool-use")
"""Goals that examples can teach."""
MANY = 50_000
"""Rows beyond which copies are likely."""
SMALL = 0.1
"""Below this share of the least that is usual, a prompt does better. Ours, not verified."""


def examples(case: Case) -> int | None:
    """Rows to imitate: demonstrations, or else the better answers of too few pairs or of one-sided logs."""
    if case.demos is not None:
        return case.demos
    if case.pairs is not None and case.pairs < FEW_PAIRS:
        return case.pairs
    return case.good if case.pairs is None and case.good else None


@rule(
    "T1",
    when="the goal is a form of answers, and there are examples of it or nothing",
    then="1-10k curated chats, or 500-2k examples of one task; about a thousand good ones do. With less than a tenth "
    "of that, put them into the prompt first. Beyond 50,000 look for near-copies.",
    source="strategy guide, sections 2, 5.2 and 6.4; LIMA (arXiv:2305.11206); a tenth is ours, not verified",
)
def imitation(case: Case, methods: Methods) -> Iterator[Finding]:
    """Fine-tuning on examples."""
    if case.goal not in FORMED:
        return
    facts = methods.get("sft")
    volume = facts.volume(case.goal) if facts else None
    low, usual = (volume.low, str(volume)) if volume else (1_000, "1k-10k rows")
    yield Finding(
        "prompting", "a few examples in the prompt cost nothing: record how far they get", Verdict.POSSIBLE, -9
    )
    if case.nothing:
        then = "dpo" if case.goal in LIKED else ""
        text = f"about a thousand curated examples are enough to begin with ({usual})"
        yield Finding("sft", text, Verdict.GOOD, 5, then=then, change="pairs (10k or more) or thumbs at hand")
        if then:
            yield Finding("dpo", "second: pairs of answers say what is better", Verdict.POSSIBLE)
        return
    if case.text_tokens is not None:
        text = (
            "documents do not show how the task is done; write examples, or let a model write them from the documents"
        )
        yield Finding("cpt", text, Verdict.NOT_YET, change=f"examples: {usual}")
    rows = examples(case)
    if rows is None:
        return
    known = f"{count(rows)} examples; {usual} are usual"
    if rows < SMALL * low:
        yield Finding("sft", f"{known}: put them into the prompt", Verdict.NOT_YET, change=f"{count(low)} examples")
        return
    curb = ": few epochs, a held-out set" if rows < low else ""
    verdict = Verdict.POSSIBLE if rows < low else Verdict.GOOD
    yield Finding("sft", f"{known}{curb}", verdict, 4, change=f"fewer than {count(SMALL * low)} examples")
    if rows > MANY:
        yield Finding("sft", "more rows than such a goal takes: drop near-copies, keep what differs")


@rule(
    "T2",
    when="an adapter can be trained on rows, pairs or prompts",
    then="LoRA on all linear layers, at about 10 times the learning rate of full training; all weights for raw text.",
    source="LoRA Without Regret (Thinking Machines, 2025); Biderman et al. (arXiv:2405.09673): less learnt, less lost",
)
def adapter(case: Case, methods: Methods) -> Iterator[Finding]:
    """What to train."""
    if case.adapter != "auto":
        return
    wanted = {"sft"} if case.goal in FORMED and (case.demos or 0) >= COLD_START else set()
    wanted |= {"dpo", "kto", "grpo"}
    for name in sorted(wanted):
        if name in methods and methods[name].adaptable:
            yield Finding(name, "train an adapter (lora) at about 10 times the rate of full training")
