"""The checks of engines: good ones pass, and every fault is found by the check that is meant for it."""

import copy
import gc
from typing import Any, ClassVar

import numpy as np
import pytest

from tunesmith import Generator, Sample, plugins
from tunesmith.config import check_needs
from tunesmith.errors import ResourceError
from tunesmith.plugins import load
from tunesmith.testing import check
from tunesmith.testing.conform import checking

BUILT_IN = [cls for plugin, cls in load().entries("generator") if plugin.distribution == plugins.GROUP]


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """transformers collects garbage at the end of every call: half a second in a process as large as this one."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.name)
def test_a_built_in_engine_keeps_its_promises(cls):
    report = check(cls)
    assert report.failed == []
    try:
        check_needs(cls)
    except ResourceError as error:
        [skipped] = report.skipped
        assert skipped.check == "loading" and skipped.seen.startswith(error.what)
    else:
        assert {finding.check for finding in report.skipped} == ({"alone"} if cls.repeats == "call" else set())


class Simple(Generator):
    """Runs the whole sequence for every token."""

    name: ClassVar[str] = "simple"

    def open(self, policy: Any, tokenizer: Any, stop_ids: Any) -> Any:
        return Session(self, policy, tokenizer, set(stop_ids))

    def probabilities(self, logits: Any, sampling: Any) -> Any:
        """What is drawn from; ``None``: the likeliest."""
        if sampling.temperature == 0:
            return None
        p = (logits / sampling.temperature).softmax(0)
        kept, ranked = p.clone(), p.sort(descending=True).values
        if sampling.top_k:
            kept[p < ranked[sampling.top_k - 1]] = 0
        if sampling.top_p < 1:
            kept[p < ranked[int((ranked.cumsum(0) < sampling.top_p).sum())]] = 0
        kept[p < sampling.min_p * ranked[0]] = 0
        return kept

    def logps(self, logits: Any, sampling: Any) -> Any:
        return (logits / (sampling.temperature or 1.0)).log_softmax(0)

    def random(self, seed: int, place: int) -> Any:
        return np.random.default_rng(seed)

    def ended(self, ids: list[int], stop_ids: set[int]) -> bool:
        return ids[-1] in stop_ids


class Session:
    def __init__(self, generator: Any, policy: Any, tokenizer: Any, stop_ids: set[int]) -> None:
        self.generator, self.policy, self.tokenizer, self.stop_ids = generator, policy, tokenizer, stop_ids
        self.known: dict[bytes, Any] = {}

    def generate(self, prompts: Any, seeds: Any, sampling: Any) -> list[list[Sample]]:
        self.known = {}
        pairs = enumerate(zip(prompts, seeds, strict=True))
        return [[self.sample(prompt, seed, i, sampling) for seed in group] for i, (prompt, group) in pairs]

    def logits(self, ids: list[int]) -> Any:
        import torch

        from tunesmith.scoring.sampling import plain_forward

        key = np.array(ids).tobytes()
        if key not in self.known:
            with plain_forward(self.policy) as module:
                self.known[key] = module(input_ids=torch.tensor([ids])).logits[0, -1].float()
        return self.known[key]

    def sample(self, prompt: Any, seed: int, place: int, sampling: Any) -> Sample:
        draw, ids, logps, stop = self.generator.random(seed, place), [], [], "length"
        while len(ids) < sampling.max_new_tokens and stop == "length":
            logits = self.logits([*prompt.tolist(), *ids])
            p = self.generator.probabilities(logits, sampling)
            if p is None:
                ids.append(int(logits.argmax()))
            else:
                upto = p.double().cumsum(0).numpy()
                ids.append(int(np.searchsorted(upto, draw.random() * upto[-1], side="right")))
            logps.append(float(self.generator.logps(logits, sampling)[ids[-1]]))
            text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            if self.generator.ended(ids, self.stop_ids):
                stop = "eos"
            elif any(end in text for end in sampling.stop):
                stop = "stop"
        return Sample(np.array(ids, dtype=np.int32), np.array(logps, dtype=np.float32), stop)

    def sync(self) -> None:
        """The weights are the policy's own."""

    def close(self) -> None:
        """Nothing is kept."""


def test_an_engine_that_keeps_its_promises_passes_every_check():
    report = check(Simple)
    assert [finding.check for finding in report.failed] == ["imports"]  # this module imports numpy
    assert [finding.check for finding in report.skipped] == []


def with_session(**methods):
    """An engine whose session does something else; each function is called with what it stands for first."""

    class Changed(Simple):
        """A changed one."""

        def open(self, policy, tokenizer, stop_ids):
            session = super().open(policy, tokenizer, stop_ids)
            for name, method in methods.items():
                before = getattr(session, name)
                setattr(session, name, lambda *given, m=method, b=before: m(session, b, *given))
            return session

    return Changed


def changed_samples(change):
    """An engine that changes every sample."""

    def generate(session, before, prompts, seeds, sampling):
        return [[change(sample) for sample in group] for group in before(prompts, seeds, sampling)]

    return with_session(generate=generate)


def copied(session):
    session.policy = copy.copy(session.policy)
    session.policy.module = copy.deepcopy(session.policy.module)


class OwnWeights(Simple):
    """Keeps the weights that it was opened with."""

    def open(self, policy, tokenizer, stop_ids):
        session = super().open(policy, tokenizer, stop_ids)
        copied(session)
        return session


class NoTemperature(Simple):
    """Draws at temperature 1."""

    def probabilities(self, logits, sampling):
        return super().probabilities(logits, sampling.model_copy(update={"temperature": 1.0}))


class DrawsWhenGreedy(NoTemperature):
    """Draws at temperature 0 too."""


class SecondBest(Simple):
    """Draws a little too flat."""

    def probabilities(self, logits, sampling):
        p = super().probabilities(logits, sampling)
        return p if p is None or not sampling.whole else p**0.7


class NoTopK(Simple):
    """Leaves top_k out."""

    def probabilities(self, logits, sampling):
        return super().probabilities(logits, sampling.model_copy(update={"top_k": 0}))


class NoMinP(Simple):
    """Leaves min_p out."""

    def probabilities(self, logits, sampling):
        return super().probabilities(logits, sampling.model_copy(update={"min_p": 0.0}))


class NoTopP(Simple):
    """Leaves top_p out."""

    def probabilities(self, logits, sampling):
        return super().probabilities(logits, sampling.model_copy(update={"top_p": 1.0}))


class LogpsOfOne(Simple):
    """Log-probabilities of temperature 1."""

    def logps(self, logits, sampling):
        return logits.log_softmax(0)


class LogpsOfThePart(Simple):
    """Log-probabilities over the tokens that may be drawn."""

    def logps(self, logits, sampling):
        p = self.probabilities(logits, sampling)
        return super().logps(logits, sampling) if p is None else (p / p.sum()).log()


class NoSeed(Simple):
    """Draws anew every time."""

    calls: ClassVar[list[int]] = []

    def random(self, seed, place):
        self.calls.append(1)
        return np.random.default_rng([seed, len(self.calls)])


class OneSeed(Simple):
    """One seed for all."""

    def random(self, seed, place):
        return np.random.default_rng([0, place])


class ByPlace(Simple):
    """Draws by the place in the call."""

    def random(self, seed, place):
        return np.random.default_rng([seed, place])


class GoesOn(Simple):
    """Does not know its stop ids."""

    def ended(self, ids, stop_ids):
        return False


def trains(session, before, *given):
    session.policy.module.eval()
    return before(*given)


def seeds_torch(session, before, *given):
    import torch

    torch.manual_seed(1)
    return before(*given)


def closed_once(session, before):
    if vars(session).setdefault("gone", False):
        raise RuntimeError("closed already")
    session.gone = True


FAULTS = {
    "one sample a prompt": (with_session(generate=lambda s, b, p, g, k: b(p, [x[:1] for x in g], k)), "shape", "there"),
    "other types": (changed_samples(lambda x: Sample(x.ids.astype(np.int64), x.logps, x.stop)), "shape", "int64"),
    "fewer log-probabilities": (changed_samples(lambda x: Sample(x.ids, x.logps[1:], x.stop)), "shape", "the shape"),
    "a token less": (
        changed_samples(lambda x: Sample(x.ids[:-1], x.logps[:-1], x.stop)),
        "max_new_tokens",
        "max_new_tokens: 1, and a completion has 0",
    ),
    "another reason": (changed_samples(lambda x: Sample(x.ids, x.logps, "eos")), "max_new_tokens", "stop is 'eos'"),
    "goes on": (GoesOn, "stop ids", "tokens after one that ends it"),
    "no stop strings": (
        with_session(generate=lambda s, b, p, g, k: b(p, g, k.model_copy(update={"stop": ()}))),
        "stop strings",
        "after the stop string 'e'",
    ),
    "no seed": (NoSeed, "seeds", "the same call again: sample 1"),
    "one seed": (OneSeed, "seeds", "3 seeds of one prompt give 1 different"),
    "by place": (ByPlace, "alone", "alone, ["),
    "log-probabilities of temperature 1": (LogpsOfOne, "log-probabilities", "temperature: 0.7: they differ by"),
    "log-probabilities of a part": (LogpsOfThePart, "log-probabilities", "top_k: 5: they differ by"),
    "draws when greedy": (DrawsWhenGreedy, "greedy", "is likelier"),
    "no temperature": (NoTemperature, "distribution", "chi-squared"),
    "too flat": (SecondBest, "distribution", "times came"),
    "no top_k": (NoTopK, "truncation", "top_k: 2: a token of probability"),
    "no top_p": (NoTopP, "truncation", "top_p: 0.4: a token of probability"),
    "no min_p": (NoMinP, "truncation", "min_p: 0.4: a token of probability"),
    "own weights": (OwnWeights, "sync", "after other weights and sync()"),
    "changes the mode": (with_session(generate=trains), "policy as it was", "not as before: training mode"),
    "takes the random state": (with_session(generate=seeds_torch), "policy as it was", "torch's random state"),
    "closes once": (with_session(close=closed_once), "close", "RuntimeError: closed already"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_by_its_check(registry, fault):
    cls, name, seen = FAULTS[fault]
    with checking(cls, {}, registry) as asked:
        finding = asked.finding(name)
    assert finding.state == "failed" and seen in finding.seen
