"""Preference methods and reward models side by side with TRL: tokens a second and memory, on one pinned CPU thread.

    python benchmarks/preference.py [--methods dpo kto rm] [--repeats N] [--steps N] [--vocabulary N]

Both sides train the same model on the same rows in the same order: 4 pairs (dpo, rm) or 8 answers (kto) in a step, in
fp32 with fused AdamW and gradient clipping. The reference of dpo and kto is a model of its own that scores every step.
A token counts as often as a padded trainer computes it: the prompt of a pair twice. `README.md` beside this file says
how to read the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import sides
import workload

OURS, TRL = SIDES = ("tunesmith", "trl")
LEARNING_RATE = 1e-6
BETAS = (0.9, 0.95)
MAX_GRAD_NORM = 1.0
MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both sides do for a method.

    Attributes:
        rows: kind of the rows.
        batch_size: rows of a step.
        trainer: TRL's class, without the ending ``Trainer``.
        settings: of our run, beyond those of every method.
    """

    rows: workload.Kind
    batch_size: int
    trainer: str
    settings: Mapping[str, Any]

    @property
    def paired(self) -> bool:
        """Every row holds two answers."""
        return self.rows != "labelled"


COMPARISONS = {
    "dpo": Comparison("pairs", 4, "DPO", {"reference": "copy"}),
    "kto": Comparison("labelled", 8, "KTO", {"reference": "copy"}),
    "rm": Comparison("comparisons", 4, "Reward", {}),
}
BETA = {"dpo": 0.1, "kto": 0.1}
"""Weight of the reference, the default of both sides."""


def run_tunesmith(method: str, data: workload.Workload, meter: measure.Meter, output: Path) -> None:
    """Our side."""
    chosen = COMPARISONS[method]

    def real_tokens(computed: int, trained: int) -> int:
        """All tokens of the answers are trained; the others are the prompt's, which we compute once a pair."""
        return 2 * computed - trained if chosen.paired else computed

    sides.run_tunesmith(
        method,
        data,
        meter,
        output,
        real_tokens,
        epochs=1.0,
        batch_size=chosen.batch_size,
        shuffle=False,
        learning_rate=LEARNING_RATE,
        schedule=None,
        betas=BETAS,
        max_grad_norm=MAX_GRAD_NORM,
        max_length=MAX_LENGTH,
        dtype="fp32",
        device="cpu",
        **chosen.settings,
    )


def run_trl(method: str, data: workload.Workload, meter: measure.Meter, output: Path) -> None:
    """TRL's trainer with the fastest settings that it has for fp32 on a CPU."""
    import torch
    import trl
    from datasets import load_dataset
    from transformers import AutoTokenizer

    chosen = COMPARISONS[method]
    options: dict[str, Any] = {
        "max_length": MAX_LENGTH,
        "per_device_train_batch_size": chosen.batch_size,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "max_grad_norm": MAX_GRAD_NORM,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "model_init_kwargs": {"dtype": torch.float32},
    }
    if method in BETA:
        options["beta"] = BETA[method]
    rows = load_dataset("json", data_files=str(data.rows), split="train", cache_dir=str(output / "cache"))
    if chosen.rows == "labelled":
        rows = rows.select(reversed_batches(len(rows), chosen.batch_size))
    sides.run_trl(
        getattr(trl, f"{chosen.trainer}Trainer"),
        meter,
        count,
        model=str(data.model),
        args=getattr(trl, f"{chosen.trainer}Config")(output_dir=str(output), **options),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(data.model),
    )


def reversed_batches(rows: int, size: int) -> list[int]:
    """Indices of the rows, those of every batch from its last to its first.

    TRL gives a prompt the answer of the row before as its mismatched one, we that of the row after: so they agree.
    """
    return [index for start in range(0, rows, size) for index in reversed(range(start, min(rows, start + size)))]


def count(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens that are not padding, and tokens of the answers; a reward model's loss is over no token."""
    mask = inputs.get("completion_mask")
    return int(inputs["attention_mask"].sum()), 0 if mask is None else int(mask[:, 1:].sum())


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
        print(f"\n{method}, vocabulary {options.vocabulary:,}: the losses of every step agree ", end="")
        print(f"to {measure.loss_difference(runs):.0e}")
        print(f"\n{measure.rate_table(runs, options.warmup, ['tokens'])}")
        print(f"\n{measure.ratio_table(runs, OURS, options.warmup, 'tokens')}")
    return 0


def compare(method: str, options: argparse.Namespace) -> dict[str, list[measure.Measurement]]:
    """Side to its repeats, in alternating processes."""
    chosen = COMPARISONS[method]
    runs: dict[str, list[measure.Measurement]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        folder = Path(name)
        rows = chosen.batch_size * (options.warmup + options.steps)
        workload.build(folder, options.vocabulary, rows, options.seed, chosen.rows)
        arguments = ["--folder", name, "--core", str(options.core), "--methods", method]
        for repeat in range(options.repeats):
            for side, repeats in runs.items():
                repeats.append(measure.fresh_process(side, arguments, folder))
                speed = f"{repeats[-1].rate('tokens', options.warmup):,.0f} tokens/s"
                print(
                    f"{method} repeat {repeat + 1}  {side}: {speed}, {repeats[-1].memory:,.0f} MB",
                    file=sys.stderr,
                    flush=True,
                )
    check_same_tokens(method, runs)
    return runs


def check_same_tokens(method: str, runs: Mapping[str, list[measure.Measurement]]) -> None:
    """Raises `RuntimeError` unless both sides trained on the same tokens, in every step."""
    fields = ("tokens", "trained") if method != "rm" else ("tokens",)
    steps = {
        tuple(tuple(getattr(step, name) for name in fields) for step in repeat.steps)
        for repeats in runs.values()
        for repeat in repeats
    }
    if len(steps) > 1:
        raise RuntimeError(f"the sides did not train on the same tokens: {steps}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=COMPARISONS, default=list(COMPARISONS), help="what to compare")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes of every side (default 5)")
    parser.add_argument("--steps", type=int, default=10, help="measured optimizer steps (default 10)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those, not measured (default 2)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="rows of the embedding (default 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the rows (default 0)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to pin every process to")
    parser.add_argument("--json", type=Path, help="also write every step of every process to this file")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(options: argparse.Namespace) -> None:
    """One side in this process."""
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    meter = measure.Meter(options.side)
    run = run_tunesmith if options.side == OURS else run_trl
    with tempfile.TemporaryDirectory(dir=options.folder) as output:
        run(options.methods[0], workload.Workload(options.folder), meter, Path(output) / "run")
    measure.write(meter.result, options.result)


if __name__ == "__main__":
    raise SystemExit(main())
