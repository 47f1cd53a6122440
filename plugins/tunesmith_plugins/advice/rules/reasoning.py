"""Reasoning, and whatever else a program or a reward model can judge."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_plugins.advice.case import ONLINE, Case, count
from tunesmith_plugins.advice.engine import Finding, Methods, Verdict, rule
from tunesmith_plugins.advice.memory import needed

CHECKED = ("reasoning", "tool-use", "task", "format")
"""Goals whose answers may be right or wrong."""
LIKED = ("style", "safety")
"""Goals whose answers are better or worse."""
FEW_PROMPTS, SOME_PROMPTS = 100, 1_000
"""Below the first RL is refused, below the second it is warned of. Ours, not verified."""
COLD_START = 500
"""Examples from which on a cold start is made before RL. Ours; the guide asks for 2,000."""
SOLVED = 0.95
"""Share of solved prompts beyond which there is nothing to learn (DAPO keeps 0 < share < 1)."""


def can_train(case: Case) -> bool:
    """True where answers to the prompts can be judged at all, and some but not all are right."""
    solved = case.pass_rate is not None and case.pass_rate > SOLVED
    return case.prompts is not None and case.prompts >= FEW_PROMPTS and case.can_check and not solved


def cold(case: Case) -> bool:
    """True where a cold start comes before RL: nothing is solved yet, or examples for it are at hand."""
    return case.pass_rate == 0 or (case.pass_rate is None and (case.demos or 0) >= COLD_START)


@rule(
    "R1",
    when="answers can be checked by a program, or the goal is reasoning",
    then="RL on prompts with verifiable rewards where the model solves some of them; otherwise a cold start of 2-5k "
    "worked examples first. Without anything that judges there is no RL.",
    source="strategy guide, sections 2 and 6.2; DeepSeek-R1 (arXiv:2501.12948)",
)
def verifiable(case: Case, _: Methods) -> Iterator[Finding]:
    """Verifiable rewards, after a cold start where one is needed."""
    if case.goal not in CHECKED or (case.goal != "reasoning" and not (case.prompts and case.can_check)):
        return
    if case.nothing:
        text = "first 2-5k worked examples that set the format, then RL on prompts that a program can check"
        yield Finding("sft", text, Verdict.GOOD, 5, then="grpo", change="prompts with answers that can be checked")
        yield Finding("grpo", "second, on 10-50k prompts that a program can check", Verdict.POSSIBLE)
        return
    if case.prompts is None:
        return
    if not case.can_check:
        if "rm" not in case.have:
            for name in ONLINE:
                yield Finding(name, "nothing at hand can judge an answer", Verdict.NOT_YET)
            text = "answers that a program can check (see `tunesmith list rewards`), or traces of a stronger model"
            yield Finding("collect", text, Verdict.POSSIBLE, 5, change="a verifier (--verifier NAME)")
        return
    if not can_train(case):
        return
    prompts = f"{count(case.prompts)} prompts with answers that a program can check"
    if cold(case):
        why = "it solves none of them yet" if case.pass_rate == 0 else f"{count(case.demos)} worked examples are there"
        yield Finding("sft", f"cold start: {why}, and RL needs answers that are right now and then", Verdict.GOOD, 10,
                      then="grpo", change="a share of solved prompts above 0 (--pass-rate)")  # fmt: skip
        yield Finding("grpo", f"after the cold start, on {prompts}", Verdict.POSSIBLE, 6)
        return
    yield Finding("grpo", prompts, Verdict.GOOD, 8, change="the model solves none of the prompts (--pass-rate 0)")
    yield Finding("rloo", prompts, Verdict.GOOD, 6)
    if case.goal == "reasoning" and case.demos is None:
        text = "as a cold start of 2-5k worked examples, where the probe finds that the model solves nothing"
        yield Finding("sft", text, Verdict.POSSIBLE, -1)


@rule(
    "R2",
    when="there are prompts that can be checked",
    then="Sample several answers to 100 prompts first, and keep prompts that are solved at a rate of 0.05-0.95; where "
    "all answers to a prompt score alike, nothing is learnt from it.",
    source="DAPO (arXiv:2503.14476), dynamic sampling; the bounds are ours, not verified",
)
def probe(case: Case, _: Methods) -> Iterator[Finding]:
    """How many prompts the model solves."""
    if case.prompts is None or not case.can_check or case.goal not in CHECKED:
        return
    if case.pass_rate is None:
        text = "not known: the share of prompts that the model solves now; measure it on 100 of them before RL"
        yield Finding("", text, change="the share of prompts that the model solves (--pass-rate)")
    elif case.pass_rate > SOLVED:
        for name in ONLINE:
            yield Finding(name, f"{case.pass_rate:.0%} are solved already: equal scores teach nothing", Verdict.NOT_YET)
        yield Finding("collect", "harder prompts", Verdict.POSSIBLE, change="prompts that are not solved yet")
    else:
        yield Finding("", f"{case.pass_rate:.0%} of the prompts are solved now; drop those always or never solved")


@rule(
    "R3",
    when="the goal is reasoning, there are worked examples and nothing to check new ones",
    then="100k-1M traces of a stronger model: distillation by SFT. Fewer set the format, as a cold start.",
    source="strategy guide, section 5.2; DeepSeek-R1 (arXiv:2501.12948): 600k traces and 200k other examples",
)
def distil(case: Case, methods: Methods) -> Iterator[Finding]:
    """Traces of a stronger model."""
    if case.goal != "reasoning" or case.demos is None or (case.prompts and case.can_check):
        return
    facts = methods.get("sft")
    volumes = facts.for_goal("reasoning") if facts else ()
    many = max((v.low for v in volumes), default=100_000)
    some = min((v.low for v in volumes), default=2_000)
    rows = f"{count(case.demos)} examples"
    if case.traces < 0.5:
        text = f"{rows}, but {case.traces:.0%} show their reasoning: answers alone teach no way to them"
        yield Finding("sft", text, Verdict.POSSIBLE, -1, change="traces that reason before they answer")
    elif case.demos >= many:
        yield Finding("sft", f"{rows} that reason: distillation takes {count(many)} or more", Verdict.GOOD, 8)
    else:
        text = f"{rows} set the format; they become a reasoner with RL after them, or with {count(many)} of them"
        verdict = Verdict.POSSIBLE if case.demos >= some // 10 else Verdict.NOT_YET
        yield Finding("sft", text, verdict, 2, change="prompts that a program can check")
    if case.demos < some // 10:
        yield Finding("collect", "worked examples, or prompts with answers that can be checked", Verdict.POSSIBLE)


@rule(
    "R4",
    when="answers are sampled and judged",
    then="GRPO by default; RLOO where an unbiased gradient is wanted; PPO where a reward model gives dense scores and "
    "there is memory for a critic.",
    both="The guide calls GRPO biased for its group mean: that only scales the gradient by (G-1)/G; what biases it is "
    "dividing by the deviation and by the length, which both have switches here. The guide's 50% less memory without a "
    "critic is right for all weights (36 against 18 bytes per parameter); where adapters share one base it is about "
    "nothing.",
    source="strategy guide, section 4; Ahmadian et al. (arXiv:2402.14740); Dr. GRPO (arXiv:2503.20783)",
)
def critic_or_not(case: Case, methods: Methods) -> Iterator[Finding]:
    """Which of the online methods."""
    judged = case.can_check and case.goal in CHECKED
    if case.prompts is None or not (judged or "rm" in case.have):
        return
    if not judged:
        yield Finding("ppo", "a reward model scores open answers: what a critic is for", merit=2)
    elif case.prompts >= FEW_PROMPTS:
        yield Finding("ppo", "right or wrong once per answer: a critic adds memory and little else", Verdict.POSSIBLE)
    sizes = {name: needed(case, methods, name, "none") for name in ("ppo", "grpo")}
    if sizes["ppo"] and sizes["grpo"] and sizes["ppo"] >= 1:
        saved = f"{1 - sizes['grpo'] / sizes['ppo']:.0%} less"
        text = (
            f"all weights: {sizes['ppo']:.3g} GB of model states, grpo {sizes['grpo']:.3g} GB ({saved}); lora: the same"
        )
        yield Finding("ppo", text)
    yield Finding("rloo", "its gradient is unbiased for one on-policy step; clipping and more epochs end that")
    yield Finding("grpo", "scaling by the deviation favours prompts that are nearly solved or nearly lost (scale)")


@rule(
    "R5",
    when="there are prompts to sample answers to",
    then="10-50k prompts; below 1,000 the same ones come again and again (warned), below 100 it is refused. Prompts "
    "alone are enough: answers are sampled. An adapter is enough for RL.",
    source="strategy guide, section 5.3; LoRA Without Regret (Thinking Machines, 2025); 100 and 1,000 are ours",
)
def prompts(case: Case, methods: Methods) -> Iterator[Finding]:
    """Enough prompts or not."""
    if case.prompts is None or not (case.can_check or "rm" in case.have) or case.goal not in CHECKED + LIKED:
        return
    facts = methods.get("grpo")
    volume = facts.volume(case.goal) if facts else None
    usual = str(volume) if volume else "10k-50k prompts"
    if case.prompts < FEW_PROMPTS:
        for name in ONLINE:
            text = f"{count(case.prompts)} prompts are learnt by heart; {usual} are usual"
            yield Finding(name, text, Verdict.NOT_YET, change=f"{usual}")
        yield Finding("collect", f"prompts: {usual} are usual", Verdict.POSSIBLE)
    elif case.prompts < SOME_PROMPTS:
        yield Finding("", f"{count(case.prompts)} prompts come round often; {usual} are usual", change=usual)
    elif volume and case.prompts < volume.low:
        yield Finding("", f"{count(case.prompts)} prompts are fewer than usual ({usual}); watch a held-out set")


@rule(
    "M2",
    when="a reward model judges",
    then="The policy learns what the reward model likes, up to where it likes what is bad: keep the KL to the start in "
    "the reward, stop by it, and draw reward against KL. For reasoning a neural judge is hacked soonest.",
    source="Gao et al. (arXiv:2210.10760); DeepSeek-R1 (arXiv:2501.12948) uses none for reasoning",
)
def judged_by_model(case: Case, _: Methods) -> Iterator[Finding]:
    """Reward models and what they miss."""
    if "rm" not in case.have or case.prompts is None or (case.can_check and case.goal in CHECKED):
        return
    if case.prompts < FEW_PROMPTS or case.goal not in CHECKED + LIKED:
        return
    best = Verdict.GOOD if case.goal in LIKED else Verdict.POSSIBLE
    judged = f"{count(case.prompts)} prompts and a reward model"
    change = "a program that can check the answers (--verifier NAME)" if case.goal in CHECKED else ""
    yield Finding("ppo", f"{judged}; plan where to stop by the KL", best, 8, change=change)
    yield Finding("rloo", f"{judged}, without a critic", best, 6)
    yield Finding("grpo", f"{judged}, without a critic", Verdict.POSSIBLE, 4)
    yield Finding("iterative-dpo", f"{judged}: pairs of its own answers, in rounds", Verdict.POSSIBLE, 5)
    yield Finding("iterative-kto", f"{judged}: answers of its own, good and bad, in rounds", Verdict.POSSIBLE, 1)
