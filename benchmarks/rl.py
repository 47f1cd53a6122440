"""Online methods side by side with TRL: generated tokens a second over whole steps, memory, and where the time goes.

    python benchmarks/rl.py [--methods grpo rloo ppo iterative-dpo] [--repeats N] [--steps N] [--vocabulary N]

Every side samples, judges and trains on one pinned CPU thread: the same model, prompts, number and longest length of
answers, temperature, reward function and optimizer. TRL has no PPO; iterative-dpo stands against its experimental
online DPO. `README.md` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import online_sides
import workload

PHASES = ("sample", "judge", "score")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the sides do for a method.

    Attributes:
        prompts: of a step, each answered ``answers`` times.
        shared: settings of the run that all of our sides have.
        trainer: TRL's class without the ending ``Trainer``, or ``None``.
        ours: name of a side of ours to its further settings.
        theirs: name of a side of TRL's to its further settings.
        more: further sides of TRL's that run when they are asked for.
    """

    prompts: int
    answers: int
    shared: Mapping[str, Any]
    trainer: str | None = None
    ours: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"tunesmith": {}})
    theirs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def sides(self) -> dict[str, tuple[bool, Mapping[str, Any]]]:
        """Name of a side to whether it is ours, and its settings; those that run unasked come first."""
        ours = {name: (True, settings) for name, settings in self.ours.items()}
        return ours | {name: (False, settings) for name, settings in {**self.theirs, **self.more}.items()}


GROUPED = {
    "ours": {"tunesmith": {}, "tunesmith-1024": {"micro_tokens": 1024}},
    "theirs": {
        "trl": {"per_device_train_batch_size": 32},
        "trl-8": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    },
    "more": {
        "trl-cb": {
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "use_transformers_continuous_batching": True,
            "transformers_continuous_batching_config": {"page_size": 64, "num_blocks": 160, "max_batch_tokens": 1024},
        },
    },
}
"""All answers of a step in one pass (ours: by default, with 1,024 tokens in a pass); the answers to one prompt in a
pass, which has less padding and takes less memory; and that with transformers' continuous batching, whose cache just
holds them (by default it takes gigabytes)."""
LORA = {"adapter": "lora", "learning_rate": 1e-5}
COMPARISONS = {
    "grpo": Comparison(4, 8, {}, "GRPO", **GROUPED),
    "rloo": Comparison(4, 8, {"kl_coef": 0.05}, "RLOO", **GROUPED),
    "ppo": Comparison(
        32,
        1,
        {},
        ours={
            "separate models": {},
            "separate models, micro_tokens 1024": {"micro_tokens": 1024},
            "lora, one base": LORA,
            "lora, one base, micro_tokens 1024": {**LORA, "micro_tokens": 1024},
        },
    ),
    "iterative-dpo": Comparison(
        16,
        2,
        {},
        "OnlineDPO",
        ours={"tunesmith": {"reference": "copy"}, "lora, one base": LORA},
        theirs={
            "trl": {"per_device_train_batch_size": 16},
            "trl-4": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
        },
    ),
}
BETA = {"grpo": 0.0, "rloo": 0.05, "iterative-dpo": 0.1}
"""TRL's weight of the reference; ours has the same."""


def run_tunesmith(method: str, data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """Our side."""
    chosen = COMPARISONS[method]
    options = {
        "batch_size": chosen.prompts,
        "group_size": chosen.answers,
        "learning_rate": 1e-6,
        "schedule": None,
        "rewards": f"{online_sides.REWARD}:variety",
        "probe": 0,
        "dtype": "fp32",
        "device": "cpu",
        **chosen.shared,
        **settings,
    }
    online_sides.run_tunesmith(method, data, meter, output, **options)


def run_trl(method: str, data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """TRL's trainer with the fastest settings that it has for fp32 on a CPU."""
    chosen = COMPARISONS[method]
    assert chosen.trainer is not None
    options = {"beta": BETA[method], "learning_rate": 1e-6, **settings}
    if method == "iterative-dpo":
        options["max_new_tokens"] = options.pop("longest")
    else:
        options["max_completion_length"] = options.pop("longest")
        options["num_generations"] = chosen.answers
    online_sides.run_trl(chosen.trainer, data, meter, output, **options)


def main() -> int:
    """Run one side of one method, or all in turn."""
    options = parse()
    if options.side:
        run_side(options)
        return 0
    measured = {method: compare(method, options) for method in options.methods}
    if options.json:
        measure.write(measured, options.json)
    print(measure.environment(("tunesmith", "trl", "torch", "transformers")))
    for method, runs in measured.items():
        print(f"\n{method}, vocabulary {options.vocabulary:,}\n{speed_table(runs, options.warmup)}")
        for ours in COMPARISONS[method].ours:
            if ours in runs and set(runs) - set(COMPARISONS[method].ours):
                print(f"\n{measure.ratio_table(runs, ours, options.warmup, 'tokens')}")
    return 0


def compare(method: str, options: argparse.Namespace) -> dict[str, list[measure.Measurement]]:
    """Side to its repeats, in alternating processes."""
    chosen = COMPARISONS[method]
    sides = options.sides or [side for side in chosen.sides if side not in chosen.more]
    runs: dict[str, list[measure.Measurement]] = {side: [] for side in chosen.sides if side in sides}
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        folder = Path(name)
        steps = options.warmup + options.steps
        workload.build(folder, options.vocabulary, chosen.prompts * steps, options.seed, "prompts")
        passed = {"--folder": name, "--core": options.core, "--methods": method, "--longest": options.longest}
        arguments = [str(word) for pair in {**passed, "--total": steps}.items() for word in pair]
        for repeat in range(options.repeats):
            for side, repeats in runs.items():
                repeats.append(measure.fresh_process(side, arguments, folder))
                speed = f"{repeats[-1].rate('tokens', options.warmup, 'cpu_seconds'):,.0f} tokens/s of CPU time"
                line = f"{method} repeat {repeat + 1}  {side}: {speed}, {repeats[-1].memory:,.0f} MB"
                print(line, file=sys.stderr, flush=True)
    check_counts(runs, chosen, options.longest)
    return runs


def check_counts(runs: Mapping[str, Sequence[measure.Measurement]], chosen: Comparison, longest: int) -> None:
    """Raises `RuntimeError` unless every step of every side could have had as many answers as it should."""
    most = chosen.prompts * chosen.answers
    for side, repeats in runs.items():
        for step in (step for repeat in repeats for step in repeat.steps):
            if not most <= step.tokens <= most * longest:
                raise RuntimeError(f"{side}: {step.tokens} tokens in {most} answers of at most {longest}")


def speed_table(runs: Mapping[str, Sequence[measure.Measurement]], warmup: int) -> str:
    """Medians over the repeats; phases as shares of the CPU time, the update being all that is left."""
    heads = ["side", "generated tokens/s", "by CPU time", "tokens a step", "core had", *PHASES, "update"]
    heads += ["peak MB above start", "with all weights"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for side, repeats in runs.items():
        lines.append(f"| {' | '.join([side, *_cells(repeats, warmup)])} |")
    return "\n".join(lines)


def _cells(repeats: Sequence[measure.Measurement], warmup: int) -> list[str]:
    def median(value: Callable[[measure.Measurement], float], form: str = ",.0f") -> str:
        return format(statistics.median(value(repeat) for repeat in repeats), form)

    def share(repeat: measure.Measurement, phase: str) -> float:
        spent = sum(step.phases.get(phase, 0.0) for step in repeat.steps[warmup:])
        return spent / repeat.total("cpu_seconds", warmup)

    return [
        median(lambda m: m.rate("tokens", warmup)),
        median(lambda m: m.rate("tokens", warmup, "cpu_seconds")),
        median(lambda m: m.total("tokens", warmup) / len(m.steps[warmup:])),
        median(lambda m: m.total("cpu_seconds", warmup) / m.total("seconds", warmup), ".0%"),
        *(median(lambda m, phase=phase: share(m, phase), ".1%") for phase in PHASES),
        median(lambda m: 1 - sum(share(m, phase) for phase in PHASES), ".1%"),
        median(lambda m: m.memory),
        median(lambda m: m.whole_memory),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    sides = sorted({side for chosen in COMPARISONS.values() for side in chosen.sides})
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=COMPARISONS, default=list(COMPARISONS), help="what to compare")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes of every side (default 3)")
    parser.add_argument("--steps", type=int, default=4, help="measured steps (default 4)")
    parser.add_argument("--warmup", type=int, default=1, help="steps before those, not measured (default 1)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="rows of the embedding (default 4096)")
    parser.add_argument("--longest", type=int, default=128, help="tokens of an answer at most (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the prompts (default 0)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to pin every process to")
    parser.add_argument("--sides", nargs="+", choices=sides, help="what to run, of those that the method has")
    parser.add_argument("--json", type=Path, help="also write every step of every process to this file")
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--total", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(options: argparse.Namespace) -> None:
    """One side in this process."""
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    [method] = options.methods
    ours, settings = COMPARISONS[method].sides[options.side]
    run, longest = (run_tunesmith, "max_new_tokens") if ours else (run_trl, "longest")
    online_sides.load_everything("tunesmith" if ours else "trl")
    meter = measure.Meter(options.side)
    settings = {**settings, "max_steps": options.total, longest: options.longest}
    with tempfile.TemporaryDirectory(dir=options.folder) as output:
        run(method, workload.Workload(options.folder), meter, Path(output) / "run", **settings)
    measure.write(meter.result, options.result)


if __name__ == "__main__":
    raise SystemExit(main())
