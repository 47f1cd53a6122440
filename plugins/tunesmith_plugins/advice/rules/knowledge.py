"""Facts, domains, languages, and models from scratch."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.scaling import FREE_EPOCHS, TOKENS_PER_PARAMETER, USEFUL_EPOCHS, effective_tokens, epochs_for
from tunesmith_plugins.advice.case import PAIRED, Case, count
from tunesmith_plugins.advice.engine import Finding, Methods, Verdict, rule
from tunesmith_plugins.advice.memory import fits

KNOWLEDGE = ("facts", "domain", "language")
LEAST = {"facts": 1e9, "domain": 5e9, "language": 1e10}
"""Tokens that are usual at least, where no card of an installed method says."""
WHAT = {"facts": "internal knowledge", "domain": "a vertical domain", "language": "a new language"}


def least(case: Case, methods: Methods) -> float:
    """The least tokens that are usual for the goal, as the card of cpt says."""
    facts = methods.get("cpt")
    volume = facts.volume(case.goal) if facts else None
    return float(volume.low) if volume else LEAST[case.goal]


def portion(share: float) -> str:
    """How much of the least: percent below it, times above."""
    return f"{100 * share:.2g}% of that" if share < 1 else f"{share:.2g} times that"


def enough(case: Case, methods: Methods) -> Verdict:
    """Whether the text at hand will do for training on it; four passes may count."""
    if case.text_tokens is None:
        return Verdict.GOOD if case.nothing else Verdict.NOT_YET
    reached = effective_tokens(case.text_tokens, FREE_EPOCHS) >= least(case, methods)
    return Verdict.GOOD if reached else Verdict.NOT_YET


@rule(
    "K1",
    when="the goal is facts, or a domain",
    then="Retrieval (RAG) first. Fine-tuning on facts that the base model does not know makes it invent others; "
    "preferences carry no facts at all.",
    source="strategy guide, section 6.1; Ovadia et al. (arXiv:2312.05934): retrieval beats training for old and new "
    "facts; Gekhman et al. (arXiv:2405.05904)",
)
def retrieval(case: Case, _: Methods) -> Iterator[Finding]:
    """Facts are looked up rather than learnt."""
    if case.goal == "domain":
        yield Finding("retrieval", "answers from documents without any training", Verdict.POSSIBLE, -5)
    if case.goal != "facts":
        return
    verdict = Verdict.POSSIBLE if "in-weights" in case.must else Verdict.GOOD
    size = f"{count(case.text_tokens)} tokens fit an index; " if case.text_tokens is not None else ""
    text = f"{size}facts that are looked up can be corrected, and can be cited"
    yield Finding("retrieval", text, verdict, 10, change="facts must be in the weights (--must in-weights)")
    rows = f"{count(case.demos)} examples" if case.demos is not None else "examples"
    text = f"{rows} teach how to answer, not what is true: facts that the base model lacks raise hallucination"
    yield Finding("sft", text, Verdict.NO, change="the goal is a form of answers (--goal format or task)")
    if case.pairs is not None or case.labels is not None:
        for name in (*PAIRED, "kto"):
            yield Finding(name, "preferences say which answer is liked; they carry no facts", Verdict.NO)


@rule(
    "K2",
    when="the goal is facts, a domain or a language",
    then="Continued pre-training on raw text: 1-5B tokens for internal knowledge, 5-20B for a vertical domain, 10-50B "
    "and more for a language. With less it is too early, unless the text is paraphrased or synthesised.",
    source="strategy guide, section 5.1; variation is what is missing: arXiv:2312.05934; EntiGraph (arXiv:2409.07431) "
    "made 455M synthetic tokens of 1.3M",
)
def continued(case: Case, methods: Methods) -> Iterator[Finding]:
    """Raw text goes into the weights where there is enough of it."""
    if case.goal not in KNOWLEDGE:
        return
    low, verdict = least(case, methods), enough(case, methods)
    usual = f"{WHAT[case.goal]} usually takes {count(low)} tokens at least"
    if case.goal == "facts" and "in-weights" not in case.must:
        verdict = min(verdict, Verdict.POSSIBLE)
    if case.text_tokens is None:
        text = f"{usual}; there is no raw text yet" if case.nothing else f"it needs raw text: {usual}"
        change = f"{count(low)} tokens of raw text"
    else:
        text = f"{usual}; you have {count(case.text_tokens)} ({portion(case.text_tokens / low)})"
        short = "paraphrase or synthesise the text until it holds as many different tokens"
        change = short if verdict == Verdict.NOT_YET else f"fewer than {count(low)} different tokens"
    yield Finding("cpt", text, verdict, 5, change=change)
    if case.goal == "language":
        if case.demos is not None:
            yield Finding("sft", "chats teach no language: its structure comes from raw text", Verdict.NOT_YET)
        if verdict == Verdict.NOT_YET:
            yield Finding("collect", f"raw text of the language: {usual}", Verdict.POSSIBLE)
    elif case.goal == "domain" and case.demos is not None:
        text = f"{count(case.demos)} examples teach the form of answers; knowledge of the domain comes from raw text"
        yield Finding("sft", text, Verdict.POSSIBLE, -10)


@rule(
    "K3",
    when="continued pre-training is an option",
    then="Mix general text in, 10-20% of the tokens, and watch the loss on general text rather than the share.",
    source="strategy guide, section 1; Ibrahim et al. (arXiv:2403.08763), 405M parameters",
    both="The guide mixes in 10-20% of general text; the paper found 5% enough for a weak shift, and 25% or more "
    "needed for a strong one, such as a new language.",
)
def replay(case: Case, methods: Methods) -> Iterator[Finding]:
    """General text against forgetting."""
    if case.goal in KNOWLEDGE and enough(case, methods) == Verdict.GOOD:
        share = "25-50%" if case.goal == "language" else "10-20%"
        more = "the guide's 10-20% is for a weaker shift" if case.goal == "language" else "the paper: 5% may do"
        lack = "" if "general" in case.have else "; name it with --general"
        yield Finding("cpt", f"{share} of the tokens should be general text ({more}){lack}")


@rule(
    "K4",
    when="continued pre-training is an option",
    then="Warm the learning rate up again and let it decay again, from 0.1-0.3 of the original peak for 1-20B tokens "
    "(that factor is ours); start from a checkpoint before its decay where there is one.",
    source="Ibrahim et al. (arXiv:2403.08763); Parmar et al. (arXiv:2407.07263); factor: ours, not verified",
)
def rewarm(case: Case, methods: Methods) -> Iterator[Finding]:
    """The schedule of going on."""
    if case.goal in KNOWLEDGE and enough(case, methods) == Verdict.GOOD:
        yield Finding("cpt", "warm up to 0.1-0.3 of the rate it was pre-trained at, then decay to a tenth of that")


@rule(
    "K5",
    when="a domain must get into the weights, and what is known must stay or all weights do not fit",
    then="ADEPT: copies of some layers are trained, about 15% of the parameters and less than half of the time, as its "
    "authors report.",
    source="strategy guide, section 1; ADEPT (arXiv:2510.10071)",
)
def expansion(case: Case, methods: Methods) -> Iterator[Finding]:
    """Layers are added so that the others stay."""
    if case.goal not in ("facts", "domain") or enough(case, methods) != Verdict.GOOD:
        return
    keep = "keep-general" in case.must
    tight = fits(case, methods, "cpt") is False and fits(case, methods, "adept") is True
    if not keep and not tight:
        return
    verdict = Verdict.GOOD if case.goal == "domain" or "in-weights" in case.must else Verdict.POSSIBLE
    why = "the layers that hold what it knows stay frozen" if keep else "all weights do not fit, its copies do"
    yield Finding("adept", f"{why}; the model grows by about a tenth", verdict, 8)


@rule(
    "K6",
    when="there is less text than usual",
    then="Up to 4 passes are nearly as good as new text, and beyond 16 there is little left to gain: U tokens seen n "
    "times count as U + 15.4 U (1 - exp(-(n-1)/15.4)).",
    source="Muennighoff et al. (arXiv:2305.16264), equation 5; measured on pre-training, not on continuing it",
)
def repetition(case: Case, methods: Methods) -> Iterator[Finding]:
    """Passes over little text."""
    if case.goal not in (*KNOWLEDGE, "pretrain") or case.text_tokens is None:
        return
    if case.goal == "pretrain":
        low = TOKENS_PER_PARAMETER * case.parameters if case.parameters else 0.0
        name = "pt"
    else:
        low, name = least(case, methods), "cpt"
    if case.text_tokens >= low:
        return
    passes = epochs_for(case.text_tokens, low)
    most = count(effective_tokens(case.text_tokens, FREE_EPOCHS))
    if passes <= FREE_EPOCHS:
        yield Finding(name, f"{passes:.1f} passes over it count as the {count(low)} tokens that are usual")
    else:
        never = "no number of passes reaches" if passes > USEFUL_EPOCHS else f"it would take {passes:.0f} passes for"
        yield Finding(name, f"4 passes count as {most} tokens; {never} {count(low)}")


@rule(
    "K7",
    when="the goal is a new model",
    then="20 tokens per parameter give the least compute for a loss. See `tunesmith budget`.",
    both="The guide's 20 tokens per parameter are the least compute for training; fitted again the law gives 24 to 17, "
    "falling with the compute, and a model that serves long is trained on far more (Llama 3 8B: about 1,900).",
    source="strategy guide, section 1; Hoffmann et al. (arXiv:2203.15556); Besiroglu et al. (arXiv:2404.10102); "
    "Sardana et al. (arXiv:2401.00448)",
)
def from_scratch(case: Case, _: Methods) -> Iterator[Finding]:
    """Tokens against parameters."""
    if case.goal != "pretrain":
        return
    if case.text_tokens is None or case.parameters is None:
        text = "20 tokens per parameter at least; `tunesmith budget` computes size, tokens and hours"
        yield Finding("pt", text, Verdict.POSSIBLE)
        return
    wanted = TOKENS_PER_PARAMETER * case.parameters
    ratio = f"{case.text_tokens / case.parameters:.3g} tokens per parameter"
    if effective_tokens(case.text_tokens, FREE_EPOCHS) >= wanted:
        yield Finding("pt", f"{ratio}; 20 are the least for the compute", Verdict.GOOD, 5)
        return
    text = f"{ratio}: {count(case.parameters)} parameters take {count(wanted)} tokens"
    fitting = count(effective_tokens(case.text_tokens, FREE_EPOCHS) / TOKENS_PER_PARAMETER)
    yield Finding("pt", text, Verdict.NOT_YET, change=f"a model of at most {fitting} parameters for this text")
    yield Finding("collect", "more text, or start from a model that is there and use cpt", Verdict.POSSIBLE)


@rule(
    "K8",
    when="the goal is a language",
    then="Where the tokenizer needs more than twice as many tokens per word as for English, extend it before training.",
    source="strategy guide, section 5.1 (a new language requires tokenizer updates); 2 is ours, not verified",
)
def fertility(case: Case, _: Methods) -> Iterator[Finding]:
    """The tokenizer before the model."""
    if case.goal != "language":
        return
    if case.fertility is None:
        yield Finding("cpt", "measure the tokenizer first: tunesmith vocab measure MODEL --data TEXT")
    elif case.fertility > 2:
        text = f"the tokenizer cuts a word into {case.fertility:.1f} times as many tokens as English"
        yield Finding("vocabulary", text, Verdict.GOOD, 20, then="cpt", change="a tokenizer that knows the language")
