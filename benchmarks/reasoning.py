"""Do the online methods learn? Worked sums by a small model trained on the spot, on held-out problems, three seeds.

    python benchmarks/reasoning.py [--seeds N ...] [--methods NAME ...] [--quick]

A cold start by SFT leaves a model that knows how and is often wrong. From that same model every method goes on, with
right answers as the only reward. `README.md` beside this file says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

LIFT = 15.0
"""Points by which the share of right answers must rise."""
HELD_OUT_SEED = 20_261_123
"""Of the problems that are measured on; the settings were found on others. Every seed has its own, counted from it."""
WRONG = 0.4
"""Share of the demonstrations in which a step is wrong, and the answer that follows from it."""
STEP = re.compile(r"= (\d+), write (\d)")
WORDS = r"\d|[^\d]+"
"""What tokens are made within: digits stand alone."""
HEAD_SIZE = 32


@dataclass(frozen=True, slots=True)
class Size:
    """How large the benchmark is.

    Attributes:
        digits: of the numbers, at most.
        hidden, layers: shape of the model.
        demonstrations: worked problems of the cold start.
        steps: of every online method, at most.
        problems: held-out ones.
    """

    digits: int
    hidden: int
    layers: int
    demonstrations: int
    steps: int
    problems: int


FULL = Size(digits=2, hidden=128, layers=3, demonstrations=32 * 180, steps=80, problems=200)
QUICK = Size(digits=1, hidden=32, layers=1, demonstrations=32, steps=1, problems=4)
COLD_START: Mapping[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "schedule": {"name": "cosine", "warmup": 0.05},
    "betas": [0.9, 0.95],
}
ONLINE: Mapping[str, Any] = {
    "rewards": "numeric",
    "max_new_tokens": 48,
    "batch_size": 16,
    "betas": [0.9, 0.99],
    "schedule": {"name": "linear", "warmup": 0.1},
    "probe": 0,
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"learning_rate": 1.5e-4},
    "rloo": {"learning_rate": 1.5e-4, "group_size": 8},
    "ppo": {
        "learning_rate": 2e-4,
        "group_size": 8,
        "update_epochs": 2,
        "kl_coef": 0.0,
        "decay": 1.0,
        "max_steps": 60,
    },
    "iterative-dpo": {"learning_rate": 1e-4},
}
"""What every method has beyond `ONLINE` and its defaults."""


@dataclass(frozen=True, slots=True)
class Result:
    """A method on a seed: the share of right answers to held-out problems, in percent, and the CPU seconds it took."""

    method: str
    seed: int
    before: float
    after: float
    seconds: float

    @property
    def lift(self) -> float:
        return self.after - self.before


# ---------------------------------------------------------------------------------------------- the runs
def cold_start(size: Size, seed: int, folder: Path) -> list[str]:
    """The command that trains a model of random weights on worked problems, some of them wrong."""
    make_model(folder / "untrained", size, seed)
    write_demonstrations(folder / "demonstrations.jsonl", size, seed)
    settings = {
        **COLD_START,
        "model": folder / "untrained",
        "data": folder / "demonstrations.jsonl",
        "output": folder / "cold-start",
        "seed": seed,
    }
    return command("sft", settings)


def online(method: str, size: Size, seed: int, folder: Path) -> list[str]:
    """The command that goes on from there."""
    settings = {
        **ONLINE,
        **METHODS[method],
        "max_steps": min(size.steps, METHODS[method].get("max_steps", size.steps)),
        "model": folder / "cold-start" / "model",
        "data": problems(size, "train", 1000 + seed, size.steps * 16),
        "eval_data": problems(size, "test", HELD_OUT_SEED + seed, size.problems),
        "output": folder / method,
        "seed": seed,
    }
    return command(method, settings)


def problems(size: Size, split: str, seed: int, count: int) -> dict[str, Any]:
    """A source of ``count`` problems; those of train and test have no pair of numbers in common."""
    return {"name": "arithmetic", "digits": size.digits, "split": split, "seed": seed, "num_rows": count}


def command(method: str, settings: Mapping[str, Any]) -> list[str]:
    """As it would be typed; every setting through ``--set``, whose values are YAML."""
    words = ["run", method, "--set", "device=cpu", "--set", "dtype=fp32"]
    for name, value in settings.items():
        text = str(value) if isinstance(value, (str, Path)) else json.dumps(value)
        words += ["--set", f"{name}={text}"]
    return words


def run(words: list[str], log: Path) -> float:
    """Run a command of ours, with what it prints in a file; the CPU seconds that it took.

    Raises:
        RuntimeError: it failed; the end of what it printed is in the message.
    """
    from tunesmith.cli.main import main as tunesmith

    print(f"tunesmith {shlex.join(words)}", file=sys.stderr, flush=True)
    start = time.process_time()
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = tunesmith(words)
    if code:
        raise RuntimeError(f"tunesmith ended with exit code {code}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return time.process_time() - start


def right_answers(folder: Path) -> tuple[float, float]:
    """Percent of right answers to the held-out problems before the first step and after the last one."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    name = "eval/arithmetic-test"
    first, *_, last = (line for line in lines if f"{name}/reward" in line)
    if first[f"{name}/rewards/unscored"] or last[f"{name}/rewards/unscored"]:
        raise RuntimeError(f"{folder}: the reward could not judge some answers")
    return 100 * first[f"{name}/reward"], 100 * last[f"{name}/reward"]


def write_demonstrations(path: Path, size: Size, seed: int) -> None:
    """Worked problems."""
    from tunesmith_plugins.sources.arithmetic import Arithmetic

    source = Arithmetic(num_rows=size.demonstrations, digits=size.digits, seed=seed)
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for row in source.rows():
            completion = row.data["completion"]
            if chance.random() < WRONG:
                completion = with_a_mistake(completion, chance)
            file.write(json.dumps({"prompt": row.data["prompt"], "completion": completion}) + "\n")


def with_a_mistake(completion: str, chance: random.Random) -> str:
    """A worked problem with one digit off by one, in its line and in the answer."""
    *steps, _ = completion.split("\n")
    place = chance.choice([i for i, step in enumerate(steps) if STEP.search(step)])
    found = STEP.search(steps[place])
    assert found is not None
    total, digit = map(int, found.groups())
    total += chance.choice([change for change in (-1, 1) if 0 <= digit + change <= 9])
    steps[place] = STEP.sub(f"= {total}, write {total % 10}", steps[place])
    written = "".join(re.findall(r"write (\d)", "\n".join(steps)))
    return "\n".join([*steps, f"Answer: {int(written[::-1])}"])


def make_model(folder: Path, size: Size, seed: int) -> None:
    """A small Llama with random weights, and a tokenizer whose digits are tokens of their own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // HEAD_SIZE,
        num_key_value_heads=size.hidden // HEAD_SIZE,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer() -> Any:
    """Trained on a few problems: about a token for every digit and for what stands between two of them."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tunesmith_plugins.sources.arithmetic import Arithmetic

    source = Arithmetic(num_rows=500, digits=FULL.digits)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    core.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<|end|>", "<|pad|>"], show_progress=False)
    core.train_from_iterator((row.data["prompt"] + row.data["completion"] for row in source.rows()), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>")


# ---------------------------------------------------------------------------------------------- the table
def table(results: Sequence[Result]) -> str:
    """Every method and seed."""
    seeds = sorted({result.seed for result in results})
    heads = ["method", *(f"seed {seed}" for seed in seeds), "least lift", "median CPU seconds"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method in dict.fromkeys(result.method for result in results):
        own = [result for result in results if result.method == method]
        cells = [f"{r.before:.1f} -> {r.after:.1f} ({r.lift:+.1f})" for r in sorted(own, key=lambda r: r.seed)]
        least = min(result.lift for result in own)
        verdict = f"{least:+.1f}{'' if least >= LIFT else f', less than {LIFT:.0f}'}"
        cells += [verdict, f"{statistics.median(result.seconds for result in own):.0f}"]
        lines.append(f"| {' | '.join([method, *cells])} |")
    return "\n".join(lines)


def main() -> int:
    """Run all seeds, one after the other."""
    options = parse()
    measure.pin(options.core)
    import torch

    torch.set_num_threads(1)
    size = QUICK if options.quick else FULL
    results = []
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        os.environ["TUNESMITH_CACHE"] = f"{name}/cache"
        for seed in options.seeds:
            folder = Path(options.output or name) / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "cold-start" / "model").exists():
                spent = run(cold_start(size, seed, folder), folder / "cold-start.txt")
                print(f"seed {seed}  cold start: {spent:.0f} s of CPU time", file=sys.stderr, flush=True)
            for method in options.methods:
                spent = run(online(method, size, seed, folder), folder / f"{method}.txt")
                results.append(Result(method, seed, *right_answers(folder / method), spent))
                print(f"seed {seed}  {results[-1]}", file=sys.stderr, flush=True)
    print(measure.environment(("tunesmith", "torch", "transformers")))
    print(f"\nRight answers to {size.problems} held-out problems, sampled at temperature 1, in percent\n")
    print(table(results))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of everything (default 0 1 2)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="what to train")
    parser.add_argument("--quick", action="store_true", help="seconds: shows that it runs, and nothing about learning")
    parser.add_argument("--output", type=Path, help="keep the runs in this folder; cold starts in it are used again")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to run on")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
