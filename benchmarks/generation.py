"""The built-in engine side by side with transformers: generated tokens a second and memory, on one pinned CPU thread.

    python benchmarks/generation.py [--repeats N] [--steps N] [--vocabulary N] [--situations NAME ...]

Every side samples from the same model for the same prompts with the same settings. Their draws differ, so lengths do.
`README.md` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
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
    """Run one side, or all of them in turn."""
    options = parse()
    if options.side:
        run_side(options)
        return 0
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        folder = Path(name)
        workload.build(folder, options.vocabulary, 4 * (options.steps + 1), options.seed)
        print(measure.environment(("tunesmith", "torch", "transformers")))
        for situation in options.situations:
            runs: dict[str, list[measure.Measurement]] = {side: [] for side in options.sides}
            arguments = ["--folder", name, "--core", str(options.core), "--situation", situation]
            for _ in range(options.repeats):
                for side, measured in runs.items():
                    measured.append(measure.fresh_process(side, arguments, folder))
                    print(f"{situation}  {side}: {speed(measured[-1]):,.0f} tokens/s of CPU time", file=sys.stderr)
            print(f"\n{situation}\n\n{table(runs)}")
    return 0


def speed(measured: measure.Measurement) -> float:
    """Generated tokens a second of CPU time; the first step is not counted."""
    return measured.rate("tokens", 1, "cpu_seconds")


def table(runs: dict[str, list[measure.Measurement]]) -> str:
    """Medians over the repeats; the ratio of ours to each other side in the same repeat, with the least and most."""
    lines = ["| side | tokens/s by CPU time | native is faster by | peak MB above start | tokens |", "|---" * 5 + "|"]
    for side, repeats in runs.items():
        ratios = [speed(a) / speed(b) for a, b in zip(runs.get(OURS, []), repeats, strict=False)]
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        cells = (
            side,
            f"{statistics.median(map(speed, repeats)):,.0f}",
            "" if side == OURS else ratio,
            f"{statistics.median(m.memory for m in repeats):,.0f}",
            f"{statistics.median(m.total('tokens', 1) for m in repeats):,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes of every side (default 3)")
    parser.add_argument("--steps", type=int, default=5, help="measured calls for 4 prompts (default 5)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="rows of the embedding (default 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the prompts (default 0)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to pin every process to")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="what to run")
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=list(SITUATIONS), help="what to sample")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--situation", choices=SITUATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(options: argparse.Namespace) -> None:
    """One side in this process."""
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    situation = SITUATIONS[options.situation]
    model, prompts = load(workload.Workload(options.folder))
    vocabulary = model.config.vocab_size
    stop_ids = range(4, 4 + vocabulary // MEAN_LENGTH) if situation.ends else []
    make, path = SIDES[options.side]
    generate = make(model, situation, list(stop_ids), path)
    meter = measure.Meter(options.side)
    meter.begin()
    for step, start in enumerate(range(0, len(prompts), 4)):
        tokens = generate(prompts[start : start + situation.prompts], step)
        meter.step(tokens, tokens, 0.0, 0.0)
    meter.end()
    measure.write(meter.result, options.result)


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
