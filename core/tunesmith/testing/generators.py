"""Checks of an engine that samples: what it draws, how likely it says that is, and where it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunesmith.components import Generator, GeneratorSession, Sample, Sampling
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.plugins import Registry
from tunesmith.scoring.probe import choose
from tunesmith.scoring.sampling import plain_forward
from tunesmith.scoring.scorer import Scorer
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite
from tunesmith.testing.tiny import tiny_model

Ids = npt.NDArray[np.int32]
Samples = list[list[Sample]]
TOLERANCE = 1e-3
"""How far log-probabilities may be from those that the trainer computes."""
LENGTHS = (3, 9, 9, 14)
"""Tokens of the prompts."""
SEEDS = ((1, 2), (3, 4, 9), (5, 6), (7,))
DRAWS = 1_200
"""Tokens that are drawn after one prompt to see how often each comes."""
FEWEST = 10
"""Tokens that are expected less often are counted together."""
STOP_EVERY = 7
"""One token in so many ends a completion where that is checked."""


@dataclass(slots=True)
class Subject:
    """An engine on a tiny model of random weights.

    Attributes:
        generator: with its settings.
        policy: the model.
        tokenizer: of the model.
        stop_ids: one token in `STOP_EVERY`.
        session: the engine, without tokens that end a completion.
        prompts: some, of several lengths.
    """

    generator: Generator
    policy: Scorer
    tokenizer: Any
    stop_ids: list[int]
    session: GeneratorSession
    prompts: list[Ids]

    def draw(self, seeds: Sequence[Sequence[int]] = SEEDS, **sampling: Any) -> Samples:
        """Completions of all prompts."""
        return self.session.generate(self.prompts, seeds, Sampling(**{"max_new_tokens": 12, **sampling}))

    def logits(self, prompt: Ids, ids: Ids) -> Tensor:
        """``[n, V]`` fp32 logits before each token of a completion, from the model's own forward."""
        whole = torch.from_numpy(np.concatenate([prompt, ids]).astype(np.int64))[None].to(self.policy.device)
        with plain_forward(self.policy) as module:
            found: Tensor = module(input_ids=whole).logits[0, len(prompt) - 1 : -1]
        return found.float().cpu()


@contextmanager
def subject(generator: Generator, registry: Registry) -> Iterator[Subject]:
    """An engine that was opened on a tiny model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4.0)  # peaked distributions: a wrong state shows in the tokens
    policy = Scorer(model)
    choose(policy)
    draw = np.random.default_rng(0)
    vocabulary = model.config.vocab_size
    prompts = [draw.integers(0, vocabulary, length, dtype=np.int32) for length in LENGTHS]
    with ExitStack() as stack:
        session = stack.enter_context(closing(generator.open(policy, tokenizer, [])))
        yield Subject(generator, policy, tokenizer, list(range(0, vocabulary, STOP_EVERY)), session, prompts)


def every(samples: Samples) -> list[Sample]:
    """All samples in one list."""
    return [sample for group in samples for sample in group]


def different(one: Samples, other: Samples) -> str:
    """Where completions differ, in words; empty where they do not."""
    for number, (first, second) in enumerate(zip(every(one), every(other), strict=True), start=1):
        if first.ids.tolist() != second.ids.tolist():
            return f"sample {number}: {first.ids.tolist()}, then {second.ids.tolist()}"
    return ""


# ---------------------------------------------------------------------------------------------- shape
def shape(subject: Subject) -> Finding:
    """One sample for every seed of every prompt, whose tokens and log-probabilities are as long as each other."""
    if subject.session.generate([], [], Sampling()) != []:
        return failed("no prompts, and yet there are samples")
    seeds: Sequence[Sequence[int]] = ([1], [], [2, 3, 4], [5])
    samples = subject.draw(seeds, max_new_tokens=3)
    counts = [len(group) for group in samples]
    if counts != [len(group) for group in seeds]:
        return failed(f"for {[len(group) for group in seeds]} seeds there are {counts} samples")
    for sample in every(samples):
        if sample.ids.dtype != np.int32 or sample.logps.dtype != np.float32:
            return failed(f"ids are {sample.ids.dtype} and logps {sample.logps.dtype}, not int32 and float32")
        if sample.ids.ndim != 1 or sample.ids.shape != sample.logps.shape:
            return failed(f"ids have the shape {sample.ids.shape} and logps {sample.logps.shape}")
    return ok(f"{sum(counts)} samples of {len(seeds)} prompts, one without seeds")


def most_tokens(subject: Subject) -> Finding:
    """A completion that nothing ends has exactly as many tokens as are allowed, and says that this ended it."""
    for most in (1, 5, 12):
        for sample in every(subject.draw(max_new_tokens=most)):
            if len(sample.ids) != most:
                return failed(f"max_new_tokens: {most}, and a completion has {len(sample.ids)}")
            if sample.stop != "length":
                return failed(f"max_new_tokens: {most} ended it, and stop is {sample.stop!r}")
    return ok("1, 5 and 12 tokens")


def stop_ids(subject: Subject) -> Finding:
    """The first token that ends a completion is its last, and it says that this ended it."""
    reasons = {"eos": 0, "length": 0}
    with closing(subject.generator.open(subject.policy, subject.tokenizer, subject.stop_ids)) as session:
        samples = session.generate(subject.prompts, SEEDS, Sampling(max_new_tokens=6))
    for sample in every(samples):
        ends = [i for i, token in enumerate(sample.ids.tolist()) if token in subject.stop_ids]
        stop = "eos" if ends else "length"
        if ends and ends[0] != len(sample.ids) - 1:
            return failed(f"it goes on for {len(sample.ids) - 1 - ends[0]} tokens after one that ends it")
        if not ends and len(sample.ids) != 6:
            return failed(f"it ends after {len(sample.ids)} of 6 tokens, and none of them ends a completion")
        if sample.stop != stop:
            return failed(f"stop is {sample.stop!r}, not {stop!r}")
        reasons[stop] += 1
    return ok(f"{reasons['eos']} ended by a token, {reasons['length']} by their length")


def stop_strings(subject: Subject) -> Finding:
    """A completion ends with the token that completes a stop string, which stays in it."""
    text, stopped = "e", 0
    for sample in every(subject.draw(max_new_tokens=20, stop=(text,))):
        said, before = (_text(subject, ids) for ids in (sample.ids, sample.ids[:-1]))
        if text in before:
            return failed(f"it goes on after the stop string {text!r}: {said!r}")
        stop = "stop" if text in said else "length"
        if sample.stop != stop:
            return failed(f"stop is {sample.stop!r}, not {stop!r}, for {said!r} and the stop string {text!r}")
        if stop == "length" and len(sample.ids) != 20:
            return failed(f"it ends after {len(sample.ids)} of 20 tokens, without the stop string: {said!r}")
        stopped += stop == "stop"
    return ok(f"{stopped} completions ended by {text!r}") if stopped else skipped(f"no completion has {text!r}")


def _text(subject: Subject, ids: Ids) -> str:
    return str(subject.tokenizer.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))


# ---------------------------------------------------------------------------------------------- seeds
def seeds(subject: Subject) -> Finding:
    """The same call gives the same completions, and other seeds give others."""
    first = subject.draw()
    problem = different(first, subject.draw())
    if problem:
        return failed(f"the same call again: {problem}")
    group = {tuple(sample.ids.tolist()) for sample in first[1]}
    if len(group) < len(SEEDS[1]):
        return failed(f"{len(SEEDS[1])} seeds of one prompt give {len(group)} different completions")
    if not different(first, subject.draw([[seed + 100 for seed in group] for group in SEEDS])):
        return failed("other seeds give the same completions")
    return ok(f"{len(every(first))} samples, drawn twice")


def alone(subject: Subject) -> Finding:
    """A seed gives the same completion whatever else is in the call, and in whichever order."""
    if subject.generator.repeats == "call":
        return skipped("it says that a seed repeats a whole call only")
    sampling, first = Sampling(max_new_tokens=12), subject.draw()
    pairs = [(i, j) for i, group in enumerate(SEEDS) for j in range(len(group))]
    for i, j in pairs[:4]:
        [[sample]] = subject.session.generate([subject.prompts[i]], [[SEEDS[i][j]]], sampling)
        if sample.ids.tolist() != first[i][j].ids.tolist():
            return failed(
                f"prompt {i + 1}, seed {SEEDS[i][j]}: {sample.ids.tolist()} alone, "
                f"{first[i][j].ids.tolist()} with {len(pairs) - 1} others"
            )
    turned = subject.session.generate(subject.prompts[::-1], [group[::-1] for group in SEEDS[::-1]], sampling)
    problem = different(first, [group[::-1] for group in turned[::-1]])
    return failed(f"in another order: {problem}") if problem else ok(f"4 alone, {len(pairs)} in another order")


# ---------------------------------------------------------------------------------------------- probabilities
def log_probabilities(subject: Subject) -> Finding:
    """They are those that the trainer computes, over the whole vocabulary also where tokens are drawn from a part."""
    largest = 0.0
    ways: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.7}, {"temperature": 1.3, "top_k": 5})
    for sampling in ways:
        samples = subject.draw(**sampling)
        gap = _gap(subject, samples, sampling.get("temperature", 1.0))
        if not gap <= TOLERANCE:
            return failed(f"{_written(sampling)}: they differ by {gap:.1e} from the trainer's (at most {TOLERANCE:g})")
        largest = max(largest, gap)
    return ok(f"within {largest:.0e} of the trainer's, at {len(ways)} temperatures")


def _gap(subject: Subject, samples: Samples, temperature: float) -> float:
    """Largest difference from the log-probabilities that the policy computes without sampling."""
    trees = [
        Tree(prompt, (Branch(sample.ids, np.ones(len(sample.ids), dtype=np.bool_)),))
        for prompt, group in zip(subject.prompts, samples, strict=True)
        for sample in group
    ]
    before = subject.policy.temperature
    subject.policy.temperature = temperature
    try:
        with torch.no_grad():
            wanted = subject.policy.token_logps(Batch(trees)).logps.cpu()
    finally:
        subject.policy.temperature = before
    found = torch.from_numpy(np.concatenate([sample.logps for sample in every(samples)]))
    return float((wanted - found).abs().max())


def greedy(subject: Subject) -> Finding:
    """Temperature 0 takes the most probable token every time, whatever the seed, with its log-probability."""
    samples = subject.draw(temperature=0.0)
    for prompt, group in zip(subject.prompts, samples, strict=True):
        for sample in group:
            logits = subject.logits(prompt, sample.ids)
            taken = logits.gather(1, torch.from_numpy(sample.ids.astype(np.int64))[:, None])[:, 0]
            lost = logits.amax(1) - taken
            if float(lost.max()) > TOLERANCE:
                place = int(lost.argmax())
                return failed(
                    f"token {place + 1} is {sample.ids[place]}, and {int(logits[place].argmax())} is likelier"
                )
    gap = _gap(subject, samples, 1.0)
    if not gap <= TOLERANCE:
        return failed(f"log-probabilities differ by {gap:.1e} from those at temperature 1, which it should report")
    return ok(f"{len(every(samples))} completions of the likeliest tokens")


def distribution(subject: Subject) -> Finding:
    """Tokens come as often as the model says they should, at a temperature that is not 1."""
    temperature, prompt = 0.7, subject.prompts[0]
    [group] = subject.session.generate([prompt], [range(DRAWS)], Sampling(max_new_tokens=1, temperature=temperature))
    logits = subject.logits(prompt, group[0].ids)[0]
    expected = (logits / temperature).softmax(0).numpy() * DRAWS
    found = np.bincount([int(sample.ids[0]) for sample in group], minlength=len(expected))
    often = expected >= FEWEST
    pairs = [*zip(found[often], expected[often], strict=True), (found[~often].sum(), expected[~often].sum())]
    pairs = [(seen, wanted) for seen, wanted in pairs if wanted > 0]
    distance, freedom = sum((seen - wanted) ** 2 / wanted for seen, wanted in pairs), len(pairs) - 1
    limit = freedom + 6 * math.sqrt(2 * freedom) + 12  # chance gives more once in some millions of engines
    told = f"chi-squared {distance:.0f} with {freedom} degrees of freedom over {DRAWS:,} tokens"
    if distance <= limit:
        return ok(told)
    seen, wanted = max(pairs, key=lambda pair: (pair[0] - pair[1]) ** 2 / pair[1])
    return failed(f"{told}: a token that should come {wanted:.0f} times came {seen} times")


def truncation(subject: Subject) -> Finding:
    """top_k, top_p and min_p leave out the tokens that they say, and nothing else changes."""
    for sampling in ({"top_k": 2}, {"top_p": 0.4}, {"min_p": 0.4}):
        for prompt, group in zip(subject.prompts, subject.draw(**sampling), strict=True):
            for sample in group:
                p = subject.logits(prompt, sample.ids).softmax(1)
                edge = _edge(p, **sampling)
                taken = p.gather(1, torch.from_numpy(sample.ids.astype(np.int64))[:, None])
                if bool((taken < edge * (1 - TOLERANCE)).any()):
                    place = int((taken / edge).argmin())
                    told = f"a token of probability {float(taken[place]):.3f}"
                    return failed(f"{_written(sampling)}: {told} was drawn, below {float(edge[place]):.3f}")
    return ok("top_k, top_p and min_p")


def _edge(p: Tensor, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """``[n, 1]``: the smallest probability that may be drawn."""
    ranked = p.sort(1, descending=True).values
    if top_k:
        return ranked[:, top_k - 1 : top_k]
    if min_p:
        return min_p * ranked[:, :1]
    last = (ranked.cumsum(1) < top_p).sum(1, keepdim=True)
    return ranked.gather(1, last)


def _written(sampling: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value:g}" for key, value in sampling.items()) or "temperature: 1"


# ---------------------------------------------------------------------------------------------- weights
def sync(subject: Subject) -> Finding:
    """After `sync` it samples from the new weights."""
    head = subject.policy.language_model.get_output_embeddings().weight
    before = head.detach().clone()
    try:
        with torch.no_grad():
            head.copy_(before.flip(0))
        subject.session.sync()
        gap = _gap(subject, subject.draw(temperature=0.0), 1.0)
        finding = greedy(subject)
    finally:
        with torch.no_grad():
            head.copy_(before)
        subject.session.sync()
    if finding.state == "failed" or not gap <= TOLERANCE:
        return failed(f"after other weights and sync(): log-probabilities differ by {gap:.1e}; {finding.seen}")
    return ok("the weights of before, of after, and of before again")


def policy_as_it_was(subject: Subject) -> Finding:
    """Sampling changes neither the policy's weights and modes nor the random state of the training."""
    looks: dict[str, Callable[[], Any]] = {
        "the weights": lambda: [value.clone() for value in subject.policy.module.state_dict().values()],
        "training mode": lambda: [module.training for module in subject.policy.module.modules()],
        "what requires a gradient": lambda: [p.requires_grad for p in subject.policy.module.parameters()],
        "the attention": lambda: subject.policy.language_model.config._attn_implementation,
        "torch's random state": torch.get_rng_state,
        "numpy's random state": lambda: str(np.random.get_state(legacy=False)),
    }
    before = {name: look() for name, look in looks.items()}
    subject.draw()
    changed = [name for name, look in looks.items() if not _same(before[name], look())]
    return failed(f"not as before: {', '.join(changed)}") if changed else ok(f"{', '.join(looks)}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and one and isinstance(one[0], Tensor):
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def close(subject: Subject) -> Finding:
    """It can be closed twice, as where a run fails while it ends, and opened again."""
    session = subject.generator.open(subject.policy, subject.tokenizer, [])
    session.close()
    session.close()
    with closing(subject.generator.open(subject.policy, subject.tokenizer, [])) as again:
        samples = again.generate(subject.prompts, SEEDS, Sampling(max_new_tokens=2))
    return ok(f"closed twice, opened again: {len(every(samples))} samples")


SUITE = Suite(
    Generator.kind,
    subject,
    {
        "shape": shape,
        "max_new_tokens": most_tokens,
        "stop ids": stop_ids,
        "stop strings": stop_strings,
        "seeds": seeds,
        "alone": alone,
        "log-probabilities": log_probabilities,
        "greedy": greedy,
        "distribution": distribution,
        "truncation": truncation,
        "sync": sync,
        "policy as it was": policy_as_it_was,
        "close": close,
    },
)
