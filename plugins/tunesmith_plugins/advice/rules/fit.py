"""Memory, time, what other installed methods say of themselves, and what to do before any training."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.scaling import hours, training_flops
from tunesmith_plugins.advice.case import ONLINE, PAIRED, Case, count, span
from tunesmith_plugins.advice.engine import Facts, Finding, Methods, Verdict, rule
from tunesmith_plugins.advice.memory import FORMS, fits, forms, needed

SPOKEN_OF = frozenset((*ONLINE, *PAIRED, "pt", "cpt", "adept", "sft", "rm", "kto"))
"""Methods that the other rules know."""
CALLED = {"none": "all weights", "lora": "lora", "4bit": "lora on 4 bits"}


def considered(case: Case, methods: Methods) -> Iterator[Facts]:
    """Installed methods that this case may come to."""
    for facts in methods.values():
        if case.goal in facts.goals and (case.nothing or _has(case, facts)):
            yield facts


def _has(case: Case, facts: Facts) -> bool:
    unit = facts.volumes[0].unit if facts.volumes else ""
    return case.amount(facts.consumes, unit) is not None


@rule(
    "F1",
    when="the model and the memory are known, and not every way of training fits",
    then="The smallest change that fits, in this order: recompute activations, lora, a 4-bit base, shorter rows, more "
    "GPUs. Here are bytes of weights, gradients and optimizer states; activations come on top: `tunesmith plan`.",
    source="ZeRO (arXiv:1910.02054): 16 bytes per parameter with AdamW; QLoRA (arXiv:2305.14314)",
)
def memory(case: Case, methods: Methods) -> Iterator[Finding]:
    """What fits and what does not."""
    total = case.machine.total
    if total is None:
        return
    for facts in considered(case, methods):
        sizes = {form: size for form in FORMS if (size := needed(case, methods, facts.name, form)) is not None}
        if not sizes or sizes.get("none", max(sizes.values())) <= total:
            continue
        called = CALLED if facts.adaptable else {"none": "what it trains, and the rest"}
        told = ", ".join(f"{called[form]} {size:.3g} GB" for form, size in sizes.items())
        open_forms = [form for form in forms(case, methods, facts.name) if form in sizes]
        fitting = next((form for form in open_forms if sizes[form] <= total), None)
        if fitting:
            text = f"model states against {total:g} GB: {told}; take {CALLED[fitting]}"
            yield Finding(facts.name, text)
        elif fits(case, methods, facts.name) is False:
            change = f"{min(sizes[form] for form in open_forms):.3g} GB of memory for {facts.name}"
            smaller = next((form for form in sizes if form not in open_forms and sizes[form] <= total), None)
            change += f", or --adapter {smaller}, which learns less (arXiv:2405.09673)" if smaller else ""
            yield Finding(facts.name, f"does not fit {total:g} GB: {told}", Verdict.NOT_YET, change=change)


@rule(
    "F2",
    when="the model, the data, the GPU and the hours are known",
    then="A smaller model, fewer tokens or an adapter where the likely time is more than there is.",
    source="6 N D FLOPs (arXiv:2001.08361) at 25-45% of the peak; the share is ours, not verified",
)
def time(case: Case, methods: Methods) -> Iterator[Finding]:
    """Hours of one pass."""
    machine = case.machine
    if not (case.parameters and case.train_tokens and machine.peak):
        return
    for facts in considered(case, methods):
        if facts.consumes == "prompt":  # sampling decides, and takes another reckoning
            continue
        flops = training_flops(case.parameters, case.train_tokens)
        low, likely, high = hours(flops, machine.devices, machine.peak)
        told = f"one pass over {count(case.train_tokens)} tokens: {span(low)} to {span(high)}, likely {span(likely)}"
        if machine.hours is not None and likely > machine.hours:
            fitting = count(case.train_tokens * machine.hours / likely)
            text = f"{told}; in {machine.hours:g} hours {fitting} tokens pass"
            yield Finding(facts.name, text, Verdict.NOT_YET, change=f"{span(likely)} of time, or {fitting} tokens")
        elif machine.hours is not None:
            yield Finding(facts.name, told)


@rule(
    "G1",
    when="an installed method that no other rule speaks of says that it is for the goal, and its data is at hand",
    then="It is offered with the volume on its card.",
    source="the method's own card (`tunesmith show METHOD`)",
)
def others(case: Case, methods: Methods) -> Iterator[Finding]:
    """Methods of other packages take part through their cards."""
    for facts in considered(case, methods):
        if facts.name in SPOKEN_OF or not facts.volumes:
            continue
        volume = facts.volume(case.goal)
        assert volume is not None
        amount = case.amount(facts.consumes, volume.unit)
        if amount is not None and facts.consumes == "prompt" and not (case.can_check or "rm" in case.have):
            text = "nothing at hand can judge an answer"
            yield Finding(facts.name, text, Verdict.NOT_YET, change="a reward (--verifier NAME)")
        elif amount is None:
            yield Finding(facts.name, f"takes {volume} ({volume.use_case})", Verdict.POSSIBLE, -1)
        elif amount < volume.low:
            text = f"{count(amount)} of {volume} that its card asks for ({volume.use_case})"
            yield Finding(facts.name, text, Verdict.NOT_YET, change=str(volume))
        else:
            yield Finding(facts.name, f"{count(amount)}; its card: {volume} ({volume.use_case})", Verdict.GOOD)


@rule(
    "N1",
    when="always",
    then="Record what the model does with a good prompt and a few examples before anything is trained: it may do, and "
    "nothing else shows what training was worth.",
    source="ours, as any measurement needs a start",
)
def baseline(case: Case, _: Methods) -> Iterator[Finding]:
    """A number to beat."""
    if case.goal == "pretrain":
        yield Finding("", "before training a new model, record what one that is there reaches")
    else:
        yield Finding("", "before training, record what a good prompt with a few examples reaches")
