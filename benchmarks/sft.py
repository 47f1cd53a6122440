"""Supervised fine-tuning side by side with TRL: tokens a second and memory, on one pinned CPU thread.

    python benchmarks/sft.py [--repeats N] [--steps N] [--vocabulary N]

Every side trains the same model on the same rows, 8 in a step, in fp32 with fused AdamW and gradient clipping; packing
puts them in another order. `README.md` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import measure
import sides
import workload

OURS = "tunesmith"
BATCH_SIZE = 8
LEARNING_RATE = 1e-4
BETAS = (0.9, 0.95)
MAX_GRAD_NORM = 1.0
MAX_LENGTH = 1024


def run_tunesmith(data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """Our side."""
    options = {
        "epochs": 1.0,
        "batch_size": BATCH_SIZE,
        "shuffle": False,
        "learning_rate": LEARNING_RATE,
        "schedule": None,
        "betas": BETAS,
        "max_grad_norm": MAX_GRAD_NORM,
        "max_length": MAX_LENGTH,
        "dtype": "fp32",
        "device": "cpu",
        **settings,
    }
    sides.run_tunesmith("sft", data, meter, output, lambda computed, trained: computed, **options)


def run_trl(data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """SFTTrainer with the fastest settings that it has for fp32 on a CPU."""
    import torch
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    options = {
        "max_length": MAX_LENGTH,
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "assistant_only_loss": True,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "max_grad_norm": MAX_GRAD_NORM,
        "optim": "adamw_torch_fused",
        "activation_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "model_init_kwargs": {"dtype": torch.float32},
        **settings,
    }
    sides.run_trl(
        SFTTrainer,
        meter,
        count,
        model=str(data.model),
        args=SFTConfig(output_dir=str(output), **options),
        train_dataset=load_dataset("json", data_files=str(data.rows), split="train", cache_dir=str(output / "cache")),
        processing_class=AutoTokenizer.from_pretrained(data.model),
    )


def count(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Real tokens of a pass of TRL's and those that the loss is over; packed rows come without a mask."""
    mask = inputs.get("attention_mask")
    tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
    return tokens, int((inputs["labels"][:, 1:] != -100).sum())


PACKING = {"packing": True, "packing_strategy": "bfd", "per_device_train_batch_size": 1}
SIDES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    OURS: (run_tunesmith, {}),
    "tunesmith-1024": (run_tunesmith, {"micro_tokens": 1024}),
    "trl-padded": (run_trl, {}),
    "trl-packing": (run_trl, {**PACKING, "gradient_accumulation_steps": 2}),
    "trl-packing-640": (run_trl, {**PACKING, "max_length": 640, "gradient_accumulation_steps": 3}),
}
"""Name of a side to what runs it and its settings.

Packed rows of 1,024 tokens are TRL's default; those of 640 just hold the longest row. As many of them make a step as
hold about 8 rows, one in each pass: TRL's attention computes all pairs of tokens in a pass, so larger ones are slower.
"""
MORE_SIDES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "trl-padded-by-length": (run_trl, {"train_sampling_strategy": "group_by_length"}),
    "trl-packing-one-pass": (run_trl, {**PACKING, "per_device_train_batch_size": 2}),
}
"""Sides that run when they are asked for."""
ALL_SIDES = {**SIDES, **MORE_SIDES}


def main() -> int:
    """Run one side, or all of them in turn."""
    options = parse()
    if options.side:
        run_side(options)
        return 0
    runs: dict[str, list[measure.Measurement]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        folder = Path(name)
        workload.build(folder, options.vocabulary, BATCH_SIZE * (options.warmup + options.steps), options.seed)
        arguments = ["--folder", name, "--core", str(options.core)]
        for repeat in range(options.repeats):
            for side, measured in runs.items():
                measured.append(measure.fresh_process(side, arguments, folder))
                speed = f"{measured[-1].rate('trained', options.warmup):,.0f} trained tokens/s"
                print(f"repeat {repeat + 1}  {side}: {speed}, {measured[-1].memory:,.0f} MB", file=sys.stderr)
    measure.check_same_tokens(runs)
    if options.json:
        measure.write(runs, options.json)
    print(measure.environment(("tunesmith", "trl", "torch", "transformers")))
    print(f"\n{measure.rate_table(runs, options.warmup)}")
    for ours in (side for side in runs if ALL_SIDES[side][0] is run_tunesmith):
        print(f"\n{measure.ratio_table(runs, ours, options.warmup)}")
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes of every side (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="measured optimizer steps of 8 rows (default 20)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before those, not measured (default 3)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="rows of the embedding (default 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the rows (default 0)")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to pin every process to")
    parser.add_argument("--sides", nargs="+", choices=ALL_SIDES, default=list(SIDES), help="what to run")
    parser.add_argument("--json", type=Path, help="also write every step of every process to this file")
    parser.add_argument("--side", choices=ALL_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_side(options: argparse.Namespace) -> None:
    """One side in this process."""
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    run, settings = ALL_SIDES[options.side]
    meter = measure.Meter(options.side)
    with tempfile.TemporaryDirectory(dir=options.folder) as output:
        run(workload.Workload(options.folder), meter, Path(output) / "run", **settings)
    measure.write(meter.result, options.result)


if __name__ == "__main__":
    raise SystemExit(main())
