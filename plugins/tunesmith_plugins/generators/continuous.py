"""transformers' continuous batching as an engine."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from tunesmith import ConfigError, ResourceError, Sample, Sampling
from tunesmith.scoring.sampling import evaluating, stock_attention
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators.model import Ids, longest_of, rescored
from tunesmith_plugins.generators.stops import StopStrings, cut
from tunesmith_plugins.generators.trial import NEW_TOKENS, largest_gap, trial_prompts

LOGGER = "ContinuousBatchingLogger"
PAGE = 256
"""Tokens of a page, as flash attention wants them."""
LARGEST_GAP = 0.5
"""Of log-probabilities in the trial: paged attention may run in another precision, a wrong cache gives more."""


class ContinuousSession:
    """See `tunesmith.GeneratorSession`; the samples depend on all prompts and seeds of a call together.

    Args:
        policy: whose model generates.
        tokenizer: for stop strings.
        stop_ids: tokens that end a completion.
        max_batch_tokens: of the paged cache.

    Raises:
        ConfigError: transformers cannot generate with the model in this way.
    """

    def __init__(self, policy: Scorer, tokenizer: Any, stop_ids: Collection[int], max_batch_tokens: int) -> None:
        self.policy, self.tokenizer = policy, tokenizer
        self.stop_ids, self.max_batch_tokens = sorted(stop_ids), max_batch_tokens
        problem = self._try()
        if problem is not None:
            raise ConfigError(
                f"continuous batching of transformers does not work for a {type(policy.language_model).__name__}",
                why=problem,
                fix="use the engine `native`",
            )

    def generate(
        self, prompts: Sequence[Ids], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[Sample]]:
        """See `tunesmith.GeneratorSession`.

        Raises:
            DataError: a prompt without tokens, or one that leaves no room for the completion.
            ResourceError: transformers failed on a prompt.
        """
        longest = longest_of(self.policy, prompts, sampling)
        inputs = [prompt for prompt, its_seeds in zip(prompts, seeds, strict=True) for _ in its_seeds]
        outputs = iter(self._run(inputs, longest, [s for its_seeds in seeds for s in its_seeds], sampling))
        return [
            [self._sample(prompt, next(outputs), sampling) for _ in its_seeds]
            for prompt, its_seeds in zip(prompts, seeds, strict=True)
        ]

    def sync(self) -> None:
        """Nothing to do: the weights are the policy's own, and no cache is kept between calls."""

    def close(self) -> None:
        """Nothing is kept between calls."""

    def _run(self, inputs: Sequence[Ids], longest: int, seeds: Sequence[int], sampling: Sampling) -> list[Any]:
        """transformers' output for every prompt."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        if not inputs:
            return []
        drawing = sampling.temperature > 0
        words = [word for seed in seeds for word in divmod(seed % (1 << 64), 1 << 32)]
        pages = math.ceil(longest / PAGE)
        batching = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=max(pages, min(pages * len(inputs), self.max_batch_tokens // PAGE)),
            max_batch_tokens=self.policy.micro_tokens,
            return_logprobs=True,
            seed=int(np.random.SeedSequence(words).generate_state(1)[0]),
            auto_switch_to_flash=self.policy.device.type != "cpu",
        )
        warpers = {"temperature": sampling.temperature, "top_p": sampling.top_p, "min_p": sampling.min_p or None}
        options = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=drawing,
            eos_token_id=self.stop_ids or [-1],
            pad_token_id=self.policy.pad_id,
            **(warpers | {"top_k": sampling.top_k} if drawing else {}),
        )
        with _undisturbed(self.policy):
            outputs = self.policy.language_model.generate_batch(
                [prompt.tolist() for prompt in inputs], generation_config=options, continuous_batching_config=batching
            )
        failed = [output.error for output in outputs.values() if output.error]
        if failed or len(outputs) != len(inputs):
            raise ResourceError(
                f"continuous batching failed on {len(inputs) - len(outputs) + len(failed)} of {len(inputs)} prompts",
                why=failed[0] if failed else "it returned nothing for them; its log says why",
                fix="set a smaller max_batch_tokens of the engine, or use the engine `native`",
            )
        return list(outputs.values())

    def _sample(self, prompt: Ids, output: Any, sampling: Sampling) -> Sample:
        stops = StopStrings(self.tokenizer, sampling.stop)
        length, why = cut(output.generated_tokens, self.stop_ids, stops)
        ids = np.array(output.generated_tokens[:length], dtype=np.int32)
        if sampling.whole or sampling.temperature == 0:
            return Sample(ids, np.array(output.logprobs[:length], dtype=np.float32), why)
        # it reports those of what the truncation left
        return Sample(ids, rescored(self.policy, prompt, ids, sampling.temperature), why)

    def _try(self) -> str | None:
        """Why the engine does not work, or `None`."""
        prompts = trial_prompts(self.policy)
        sampling = Sampling(max_new_tokens=NEW_TOKENS)
        try:
            samples = self.generate(prompts, [[i] for i in range(len(prompts))], sampling)
        except (ResourceError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        with torch.no_grad(), evaluating(self.policy.module):
            gap = largest_gap(self.policy, [(p, group[0]) for p, group in zip(prompts, samples, strict=True)])
        if not gap <= LARGEST_GAP:
            return f"log-probabilities differ by {gap:.1e} from the trainer's"
        return None


@contextlib.contextmanager
def _undisturbed(policy: Scorer) -> Iterator[None]:
    """Put back what continuous batching changes: modes, attention and the random state, which it seeds."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    devices = [policy.device] if policy.device.type == "cuda" else []
    # its manager calls eval() on the whole model
    modes = [(module, module.training) for module in policy.module.modules()]
    # where its thread dies it prints; stdout is for results
    with torch.random.fork_rng(devices), stock_attention(policy), contextlib.redirect_stdout(sys.stderr):
        logger.setLevel(logging.CRITICAL)  # failures are raised by us
        try:
            yield
        finally:
            logger.setLevel(level)
            for module, training in modes:
                module.training = training
