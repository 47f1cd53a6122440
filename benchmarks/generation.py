"""The built-in engine side by side with transformers: generated tokens a second, on one pinned CPU thread.

    python benchmarks/generation.py [--steps N] [--vocabulary N] [--sides NAME ...] [--situations NAME ...]

Every side samples from the same model for the same prompts with the same settings. Their draws differ, so lengths do.
The sides take turns call by call in one process, so that whatever else runs on the machine meets all of them.
`README.md` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import workload

OURS = "native"
MAX_NEW_TOKENS = 128
MEAN_LENGTH = 40
"""Of completions that may end: so many tokens of the random model's nearly flat distribution end them."""


@dataclass(frozen=True)
class Situation:
    """What is sampled in a step."""

    prompts: int = 4
    group: int = 8
    ends: bool = True
    drawing: dict[str, Any] = field(default_factory=dict)


SITUATIONS = {
    "groups": Situation(),
    "groups, fixed length": Situation(ends=False),
    "groups, top-p 0.9 of top-k 50": Situation(drawing={"top_p": 0.9, "top_k": 50}),
    "one sequence, fixed length": Situation(prompts=1, group=1, ends=False),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a side."""

    tokens: int
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Generated tokens a second of CPU time."""
        return self.tokens / self.cpu_seconds


Generate = Callable[[list[Any], int], int]
"""Sample for the prompts with a seed; the number of tokens generated."""


def native(model: Any, situation: Situation, stop_ids: Sequence[int], path: str | None = None) -> Generate:
    """The built-in engine."""
    from tunesmith import Sampling
    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scorer import Scorer
    from tunesmith_plugins.generators import Native, TransformersCB

    policy = Scorer(model.train())
    if path == "padded":
        policy.path = "padded"
    else:
        choose(policy)
    engine = (TransformersCB() if path == "continuous" else Native()).open(policy, None, stop_ids)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, **situation.drawing)

    def generate(prompts: list[Any], seed: int) -> int:
        seeds = [[seed + 1000 * i + j for j in range(situation.group)] for i in range(len(prompts))]
        return sum(len(sample.ids) for group in engine.generate(prompts, seeds, sampling) for sample in group)

    return generate


def transformers(model: Any, situation: Situation, stop_ids: Sequence[int], path: str | None = None) -> Generate:
    """``generate`` with left padding and ``num_return_sequences``."""
    import numpy as np
    import torch

    model.eval()
    ends = torch.tensor(stop_ids)
    drawing = {"top_k": 0, "top_p": 1.0, **situation.drawing}

    def generate(prompts: list[Any], seed: int) -> int:
        torch.manual_seed(seed)
        longest = max(map(len, prompts))
        ids, mask = (torch.zeros(len(prompts), longest, dtype=torch.int64) for _ in range(2))
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            mask[row, longest - len(prompt) :] = 1
        output = model.generate(
            ids,
            attention_mask=mask,
            num_return_sequences=situation.group,
            do_sample=True,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=list(stop_ids) or None,
            pad_token_id=0,
            **drawing,
        )[:, longest:]
        ended = torch.isin(output, ends)
        return int(torch.where(ended.any(1), ended.int().argmax(1) + 1, output.shape[1]).sum())

    return generate


SIDES: dict[str, tuple[Callable[..., Generate], str | None]] = {
    OURS: (native, None),
    "native, transformers' cache": (native, "padded"),
    "transformers generate": (transformers, None),
    "transformers-cb": (native, "continuous"),
}


def main() -> int:
    """Every situation, the sides in turn for the same prompts, call by call."""
    options = parse()
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        data = workload.build(Path(name), options.vocabulary, 4 * (options.steps + 1), options.seed)
        print(measure.environment(("tunesmith", "torch", "transformers")))
        for title in options.situations:
            print(f"\n{title}\n\n{table(compare(data, SITUATIONS[title], options.sides))}", flush=True)
    return 0


def compare(data: workload.Workload, situation: Situation, sides: Sequence[str]) -> dict[str, list[Call]]:
    """The measured calls of every side; a first one is left out."""
    generate: dict[str, Generate] = {}
    for side in sides:
        model, prompts = load(data)
        stop_ids = range(4, 4 + model.config.vocab_size // MEAN_LENGTH) if situation.ends else []
        make, path = SIDES[side]
        generate[side] = make(model, situation, list(stop_ids), path)
    calls: dict[str, list[Call]] = {side: [] for side in sides}
    for step, start in enumerate(range(0, len(prompts), 4)):
        for side in sides:
            began = time.process_time()
            tokens = generate[side](prompts[start : start + situation.prompts], step)
            calls[side].append(Call(tokens, time.process_time() - began))
    return {side: done[1:] for side, done in calls.items()}


def table(calls: dict[str, list[Call]]) -> str:
    """Rates over all calls; median of the ratio of ours to each other side for the same prompts, least and most."""
    lines = ["| side | tokens/s by CPU time | native is faster by | tokens |", "|---" * 4 + "|"]
    for side, done in calls.items():
        ratios = [a.speed / b.speed for a, b in zip(calls.get(OURS, []), done, strict=False)]
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        tokens = sum(call.tokens for call in done)
        rate = tokens / sum(call.cpu_seconds for call in done)
        lines.append(f"| {side} | {rate:,.0f} | {'' if side == OURS else ratio} | {tokens:,} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=8, help="measured calls of every side (default 8)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="rows of the embedding (default 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the prompts (default 0)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to pin the process to")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to run")
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=list(SITUATIONS), help="what to sample")
    return parser.parse_args()


def load(data: workload.Workload) -> tuple[Any, list[Any]]:
    """The model and the prompts as token ids."""
    import numpy as np
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(data.model)
    rows = [json.loads(line) for line in data.rows.read_text(encoding="utf-8").splitlines()]
    prompts = [
        tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=True)["input_ids"]
        for row in rows
    ]
    return AutoModelForCausalLM.from_pretrained(data.model), [np.array(ids, dtype=np.int32) for ids in prompts]


if __name__ == "__main__":
    raise SystemExit(main())
