"""The loop that samples: prompts run once, sequences join and leave the batch, tokens are drawn and checked."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith import ResourceError, Sample, Sampling
from tunesmith.scoring.sampling import ready
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import cached, slots
from tunesmith_plugins.generators.drawing import draw, uniforms
from tunesmith_plugins.generators.model import Ids, longest_of
from tunesmith_plugins.generators.stops import Stop, StopStrings

log = logging.getLogger(__name__)
Cache = slots.Slots | cached.Cached
Prefix = slots.Prefix | cached.Prefix
STRIDE_ON_DEVICE = 8
"""Tokens drawn on an accelerator before the host looks at them: each look waits for the device."""
REFILL = 4
"""New sequences are begun when one part in so many of the batch is free."""


@dataclass(slots=True)
class Growing:
    """A completion that is being sampled: for which prompt and seed, its tokens so far, its uniform numbers."""

    prompt: int
    place: int
    seed: int
    chances: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)

    def restart(self) -> None:
        """Forget the tokens; the same ones will be drawn again."""
        self.ids, self.logps = [], []


class NativeSession:
    """See `tunesmith.GeneratorSession`.

    Args:
        policy: whose modules run.
        tokenizer: for stop strings.
        stop_ids: tokens that end a completion.
        batch_size: completions that grow at the same time at most.
        max_batch_tokens: tokens of their key-value cache at most.

    Raises:
        ConfigError: no cache gives the log-probabilities that the policy has without one.
    """

    def __init__(
        self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int], batch_size: int, max_batch_tokens: int
    ) -> None:
        from tunesmith_plugins.generators.trial import choose

        self.policy, self.tokenizer, self.stop_ids = policy, tokenizer, frozenset(stop_ids)
        self.batch_size, self.max_batch_tokens = batch_size, max_batch_tokens
        self.cache: type[Cache] = choose(policy)

    def generate(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[Sample]]:
        """See `tunesmith.GeneratorSession`.

        Raises:
            DataError: a prompt without tokens, or one that leaves no room for the completion.
            ResourceError: one completion alone is too much for the memory.
        """
        longest = longest_of(self.policy, prompts, sampling)
        waiting: dict[bytes, tuple[Ids, list[Growing]]] = {}
        everything: list[list[Growing]] = []
        for i, (prompt, its_seeds) in enumerate(zip(prompts, seeds, strict=True)):
            everything.append([Growing(i, j, seed) for j, seed in enumerate(its_seeds)])
            waiting.setdefault(prompt.tobytes(), (prompt, []))[1].extend(everything[-1])
        samples: dict[tuple[int, int], Sample] = {}
        total = sum(map(len, everything))
        width = max(1, min(self.batch_size, self.max_batch_tokens // max(1, longest), total))
        with ready(self.policy):
            while len(samples) < total:
                todo = [
                    (prompt, [g for g in group if (g.prompt, g.place) not in samples])
                    for prompt, group in waiting.values()
                ]
                try:
                    self._sample([job for job in todo if job[1]], width, longest, sampling, samples)
                except torch.OutOfMemoryError as error:
                    if width == 1:
                        raise ResourceError(
                            f"out of memory with one completion of {longest} tokens",
                            why=str(error).splitlines()[0],
                            fix="set a smaller max_new_tokens or shorter prompts",
                        ) from None
                    width //= 2
                    log.warning("out of memory while sampling: going on with %d completions at the same time", width)
        return [[samples[g.prompt, g.place] for g in group] for group in everything]

    def sync(self) -> None:
        """Nothing to do: the weights are the policy's own."""

    def close(self) -> None:
        """Nothing is kept between calls."""

    def _sample(
        self,
        jobs: list[tuple[Ids, list[Growing]]],
        width: int,
        longest: int,
        sampling: Sampling,
        samples: dict[tuple[int, int], Sample],
    ) -> None:
        cache = self.cache(self.policy, width, longest)
        with cache.running():
            batch = Growth(cache, self.policy, sampling, self.stop_ids, StopStrings(self.tokenizer, sampling.stop))
            for done in batch.run(jobs):
                samples[done[0].prompt, done[0].place] = done[1]


class Growth:
    """Completions that grow in one cache."""

    def __init__(
        self, cache: Cache, policy: Scorer, sampling: Sampling, stop_ids: frozenset[int], stops: StopStrings
    ) -> None:
        self.cache, self.policy, self.sampling = cache, policy, sampling
        self.stop_ids, self.stops = stop_ids, stops
        self.stride = 1 if policy.device.type == "cpu" else STRIDE_ON_DEVICE
        self.waiting: deque[tuple[Ids, list[Growing]]] = deque()
        self.begun: deque[tuple[Any, list[Growing]]] = deque()
        self.rows: list[Growing] = []

    def run(self, jobs: Iterable[tuple[Ids, list[Growing]]]) -> Iterable[tuple[Growing, Sample]]:
        """Every sample of the jobs, as it ends."""
        self.waiting = deque(sorted(jobs, key=lambda job: -len(job[0])))
        logits: Tensor | None = None
        while self.waiting or self.begun or self.rows:
            new = self._refill()
            if new is not None:
                logits = new if logits is None else torch.cat((logits, new))
            assert logits is not None
            ids, ended = self._draw(logits)
            yield from ((self.rows[i], _sample_of(self.rows[i], why)) for i, why in ended.items())
            if ended:
                order = _without(len(self.rows), ended)
                self.cache.keep(order)
                self.rows = [self.rows[i] for i in order]
                ids = ids[torch.tensor(order, device=ids.device, dtype=torch.int64)]
            logits = self.cache.step(ids) if self.rows else None

    # ------------------------------------------------------------------------------------------ new sequences
    def _refill(self) -> Tensor | None:
        """Begin sequences where there is room for enough of them; their first logits."""
        free = self.cache.width - len(self.rows)
        if self.rows and (not self.cache.joins or free * REFILL < self.cache.width):
            return None
        while self.waiting and sum(len(group) for _, group in self.begun) < free:
            if self.begun and not self.cache.joins:
                break
            self._prefill(free - sum(len(group) for _, group in self.begun))
        prefixes, counts = [], []
        while self.begun and free:
            prefix, group = self.begun[0]
            rows = group[:free]
            for growing in rows:
                growing.restart()
                if self.sampling.temperature:
                    growing.chances = uniforms(growing.seed, self.sampling.max_new_tokens)
            prefixes.append(prefix)
            counts.append(len(rows))
            self.rows += rows
            free -= len(rows)
            del group[: len(rows)]
            if not group:
                self.begun.popleft()
        return self.cache.admit(prefixes, counts) if prefixes else None

    def _prefill(self, room: int) -> None:
        """Run as many waiting prompts as there is room for their completions, in one pass."""
        jobs: list[tuple[Ids, list[Growing]]] = []
        tokens = 0
        while self.waiting and room > 0:
            prompt, group = self.waiting[0]
            if jobs and (
                tokens + len(prompt) > self.policy.micro_tokens
                or (self.cache.one_length and len(prompt) != len(jobs[0][0]))
            ):
                break
            jobs.append(self.waiting.popleft())
            tokens += len(prompt)
            room -= len(group)
        prefixes = self.cache.prefill([prompt for prompt, _ in jobs])
        self.begun.extend((prefix, list(group)) for prefix, (_, group) in zip(prefixes, jobs, strict=True))

    # ------------------------------------------------------------------------------------------ tokens
    def _draw(self, logits: Tensor) -> tuple[Tensor, dict[int, Stop]]:
        """The next tokens; the last of them ``[n]``, and which sequences ended why."""
        ids, chosen, logps = torch.empty(0), [], []
        chances = self._chances(logits.device)
        for i in range(self.stride):
            if i:
                logits = self.cache.step(ids)
            ids, logp = draw(logits, None if chances is None else chances[i], self.sampling)
            chosen.append(ids)
            logps.append(logp)
        drawn, values = torch.stack(chosen).tolist(), torch.stack(logps).tolist()
        ended: dict[int, Stop] = {}
        for row, growing in enumerate(self.rows):
            for i in range(self.stride):
                growing.ids.append(drawn[i][row])
                growing.logps.append(values[i][row])
                why = self._ended(growing)
                if why is not None:
                    ended[row] = why
                    growing.chances = []
                    break
        return ids, ended

    def _chances(self, device: torch.device) -> Tensor | None:
        """``[stride, n]`` uniform numbers."""
        if self.sampling.temperature == 0:
            return None
        last = self.sampling.max_new_tokens - 1
        numbers = [[g.chances[min(len(g.ids) + i, last)] for g in self.rows] for i in range(self.stride)]
        return torch.tensor(numbers, dtype=torch.float64, device=device)

    def _ended(self, growing: Growing) -> Stop | None:
        if growing.ids[-1] in self.stop_ids:
            return "eos"
        if self.sampling.stop and self.stops.ended(growing.ids):
            return "stop"
        return "length" if len(growing.ids) == self.sampling.max_new_tokens else None


def _without(count: int, gone: Collection[int]) -> list[int]:
    """The rows that stay, those at the end in the places of the gone: as few as possible move."""
    order = list(range(count))
    for row in sorted(gone, reverse=True):
        order[row] = order[-1]
        order.pop()
    return order


def _sample_of(growing: Growing, why: Stop) -> Sample:
    return Sample(np.array(growing.ids, dtype=np.int32), np.array(growing.logps, dtype=np.float32), why)
