"""Predicted memory against the peak of real runs, on the processor.

    python benchmarks/plan.py            all points, one process after the other
    python benchmarks/plan.py --quick    a few of them

A point is a run of two steps whose rows are all as long as they may be. Measured is the largest resident set of its
process, whose imports and libraries are part of the prediction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REWARD = "def even(prompt, completion):\n    return float(len(completion) % 2)\n"
WORDS = "one two three four five six seven eight nine ten "
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 512, "intermediate_size": 1792, "num_hidden_layers": 8, "num_attention_heads": 8,
              "num_key_value_heads": 2, "vocab_size": 16_000},
    "llama-mha": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 12,
                  "num_key_value_heads": 12, "vocab_size": 8_000},
    "qwen3": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 8,
              "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 32_000, "tie_word_embeddings": True},
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"batch_size": 8},
    "dpo": {"batch_size": 4},
    "rm": {"batch_size": 4},
    "kto": {"batch_size": 8},
    "grpo": {"batch_size": 2, "group_size": 4, "probe": 0, "kl_coef": 0.1},
    "ppo": {"batch_size": 8, "probe": 0, "update_epochs": 1},
}


def grid() -> Iterator[dict[str, Any]]:
    """Every point: shape, method, length, and settings beside the usual."""
    for shape in SHAPES:
        for method, lengths in (
            ("sft", (256, 1024)),
            ("dpo", (512,)),
            ("rm", (512,)),
            ("grpo", (256,)),
            ("ppo", (256,)),
        ):
            for length in lengths:
                yield {"shape": shape, "method": method, "length": length, "micro_tokens": 1024}
    for method in ("sft", "dpo", "rm", "grpo", "ppo"):
        lora = {"shape": "llama", "method": method, "length": 256, "adapter": "lora"}
        yield {**lora, "micro_tokens": 2048}
        if method in ("sft", "dpo"):
            yield {**lora, "micro_tokens": 2048, "activation_checkpointing": True}
    for micro in (512, 4096):
        yield {"shape": "qwen3", "method": "sft", "length": 512, "micro_tokens": micro}
        yield {
            "shape": "llama", "method": "sft", "length": 2048, "micro_tokens": micro, "activation_checkpointing": True
        }  # fmt: skip
    yield {**{"shape": "llama", "method": "ppo", "length": 256, "adapter": "lora"}, "activation_checkpointing": True,
           "micro_tokens": 2048}  # fmt: skip
    yield {"shape": "qwen3", "method": "dpo", "length": 1024, "micro_tokens": 1024}
    yield {"shape": "qwen3", "method": "dpo", "length": 512, "micro_tokens": 1024, "reference": "cached"}
    yield {"shape": "llama", "method": "kto", "length": 512, "micro_tokens": 1024}
    yield {"shape": "llama-mha", "method": "sft", "length": 512, "micro_tokens": 1024, "dtype": "bf16",
           "adapter": "lora", "quantize": "4bit"}  # fmt: skip


def make(folder: Path) -> None:
    """A model of random weights of every shape."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

    from tunesmith.data.encoding import train_tokenizer

    tokenizer = train_tokenizer([WORDS * 3], 300)
    (folder / "reward.py").write_text(REWARD)
    for name, shape in SHAPES.items():
        torch.manual_seed(0)
        family: Any = Qwen3Config if name == "qwen3" else LlamaConfig
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        AutoModelForCausalLM.from_config(family(**shape, max_position_embeddings=8192, **ids)).save_pretrained(
            folder / name
        )
        tokenizer.save_pretrained(folder / name)


def settings_of(folder: Path, point: dict[str, Any]) -> dict[str, Any]:
    """Of the run of a point; its rows are written."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / point["shape"])
    length, method = point["length"], point["method"]
    more = {key: value for key, value in point.items() if key not in ("shape", "method", "length")}

    def text(tokens: int, seed: int) -> str:
        ids = tokenizer(f"{seed} " + WORDS * tokens)["input_ids"]
        return str(tokenizer.decode(ids[: max(1, tokens)]))

    rows: list[dict[str, Any]] = []
    for i in range(24):
        rest = text(length - 24, i)
        if method in ("grpo", "ppo"):
            rows.append({"prompt": text(length // 2 - 8, i)})
        elif method == "sft":
            rows.append({"prompt": f"{i}", "completion": rest})
        elif method == "kto":
            rows.append({"prompt": f"{i}", "completion": rest, "label": bool(i % 2)})
        else:
            rows.append(
                {
                    "prompt": f"{i}",
                    "chosen": rest,
                    "rejected": rest[: len(rest) // 2] + rest[: len(rest) // 2 - 9] + " x",
                }
            )
    path = folder / f"rows-{method}-{length}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "model": str(folder / point["shape"]),
        "data": str(path),
        "max_steps": 2,
        "device": "cpu",
        "max_length": length,
    }
    if method in ("grpo", "ppo"):
        common |= {"max_length": length // 2, "max_new_tokens": length // 2, "rewards": [f"{folder}/reward.py:even"]}
    return {**common, **METHODS[method], **more}


def measure(folder: Path, point: dict[str, Any]) -> None:
    """One run; print what was predicted and what it took, in bytes."""
    import resource

    from tunesmith import plugins
    from tunesmith.config import Layers, resolve
    from tunesmith.runner.launch import start

    registry = plugins.load()
    settings = settings_of(folder, point)
    run = resolve(registry, point["method"], Layers(flags={**settings, "output": str(folder / "run")}))
    start(run, registry, overwrite=True)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def predict(folder: Path, points: list[dict[str, Any]]) -> list[tuple[float, str, float]]:
    """Bytes, the phase of the peak, and the framework's part, for every point."""
    from tunesmith import plugins
    from tunesmith.config import Layers, resolve
    from tunesmith.plan.hardware import processor
    from tunesmith.plan.memory import Estimate

    registry, found = plugins.load(), []
    for point in points:
        run = resolve(registry, point["method"], Layers(flags=settings_of(folder, point)))
        memory = Estimate(processor()).of(run)
        found.append((memory.total, memory.peak.name, memory.peak.of("framework")))
    return found


def main() -> None:
    """Measure all points and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--every", type=int, default=1, help="every n-th point only")
    parser.add_argument("--after", type=int, default=0, help="leave out so many of the first points")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(Path(options.one[0]), json.loads(options.one[1]))
        return
    points = list(grid())[options.after :: 9 if options.quick else options.every]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        errors = []
        print(
            "| model | method | length | micro_tokens | also | predicted GB | measured GB | error | peak |\n"
            + "|---" * 9
            + "|"
        )
        for point, (predicted, phase, _) in zip(points, predict(folder, points), strict=True):
            command = [sys.executable, __file__, "--one", str(folder), json.dumps(point)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode:
                print(point, run.stderr[-600:])
                continue
            measured = float(run.stdout.split()[-1])
            errors.append(predicted / measured - 1)
            also = ", ".join(
                str(point[k]).replace("True", "checkpointing")
                for k in ("adapter", "activation_checkpointing", "quantize", "reference")
                if k in point
            )
            print(
                f"| {point['shape']} | {point['method']} | {point['length']} | {point['micro_tokens']} | {also} "
                f"| {predicted / 1e9:.2f} | {measured / 1e9:.2f} | {errors[-1]:+.1%} | {phase} |",
                flush=True,
            )
    sizes = sorted(abs(error) for error in errors)
    print(
        f"\n{len(errors)} points: median error {statistics.median(sizes):.1%}, "
        f"95th percentile {sizes[int(0.95 * (len(sizes) - 1))]:.1%}, worst under-prediction {min(errors):+.1%}, "
        f"worst over-prediction {max(errors):+.1%}"
    )


if __name__ == "__main__":
    main()
