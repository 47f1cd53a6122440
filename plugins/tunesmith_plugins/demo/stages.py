"""What the demo runs: its size, and every command as a user would type it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINE = 88
"""Columns of a printed command."""
LENGTH = 256
"""Tokens of a piece of text at most."""
DIGITS = 2
HEAD_SIZE = 32
REPLAY = 0.15
NEW_TOKENS = 48
"""Tokens of an answer at most."""
NEEDED = (
    *(("method", name) for name in ("pt", "cpt", "sft", "dpo", "grpo", "rloo")),
    *(("source", name) for name in ("python-docs", "arithmetic")),
    *(("reward", name) for name in ("numeric", "format")),
)
"""Components that the demo cannot do without: kind and name."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the demo is.

    Attributes:
        hidden, layers: shape of the model.
        vocab: pieces of its tokenizer.
        steps: optimizer steps of each stage.
        prompts: prompts of a step of reinforcement learning.
        held_out: problems that are measured on, and ``samples`` sampled answers to each.
        modules: modules whose docstrings are read for training, and ``test_modules`` to measure on; ``None``: all.
    """

    hidden: int
    layers: int
    vocab: int
    steps: Mapping[str, int]
    prompts: int
    held_out: int
    samples: int
    modules: int | None
    test_modules: int

    @property
    def quick(self) -> bool:
        """True for a demo that is too short to show anything."""
        return self.steps["pt"] < 100


FULL = Size(
    hidden=128,
    layers=3,
    vocab=512,
    steps={"pt": 150, "cpt": 420, "sft": 120, "dpo": 40, "grpo": 60, "rloo": 60},
    prompts=16,
    held_out=200,
    samples=4,
    modules=None,
    test_modules=6,
)
QUICK = Size(
    hidden=32,
    layers=2,
    vocab=400,
    steps={"pt": 10, "cpt": 8, "sft": 6, "dpo": 4, "grpo": 2, "rloo": 2},
    prompts=4,
    held_out=8,
    samples=2,
    modules=4,
    test_modules=1,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A step in the model's life.

    Attributes:
        method: that makes it.
        folder: of its run, within the folder of the demo.
        start: the method that made the model it starts from; none: it starts from a config.
        purpose: what it is for, as it is printed.
        flags: of its command, less those that all have.
    """

    method: str
    folder: str
    start: str | None
    purpose: str
    flags: Mapping[str, str]


STAGES = (
    Stage("pt", "pretrained", None, "pre-train a model of random weights on English prose",
          {"--learning-rate": "3e-3", "--batch-size": "8"}),
    Stage("cpt", "continued", "pt", "go on with worked sums, and 15% of the prose again",
          {"--learning-rate": "3e-3", "--batch-size": "32"}),
    Stage("sft", "cold-start", "cpt", "show how to answer: the working between <thinking> tags, then the answer",
          {"--learning-rate": "2e-3", "--batch-size": "32", "--thinking-tag": "thinking"}),
    Stage("dpo", "dpo", "sft", "prefer right answers to wrong ones, by pairs",
          {"--learning-rate": "2e-4", "--objective": "rpo", "--batch-size": "32"}),
    Stage("grpo", "grpo", "sft", "from the cold start again: learn from rewards, by GRPO", {"--learning-rate": "2e-4"}),
    Stage("rloo", "rloo", "sft", "from the cold start again: learn from rewards, by RLOO", {"--learning-rate": "2e-4"}),
)  # fmt: skip
DATA = {"cpt": "worked.jsonl", "sft": "demonstrations.jsonl", "dpo": "pairs.jsonl"}
"""What the demo writes for stages that train on files, in its folder ``data``."""
HELD_OUT_TEXTS = "unseen.jsonl"


def rows(size: Size, method: str) -> int:
    """How many problems are written for a stage; less than all that there are for training."""
    return min(5500, size.steps[method] * 32)


def model_config(size: Size) -> Mapping[str, Any]:
    """A small Llama. Its own output matrix and a wide start: small models learn to copy digits much sooner so."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": 3 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // HEAD_SIZE,
        "num_key_value_heads": size.hidden // HEAD_SIZE,
        "head_dim": HEAD_SIZE,
        "vocab_size": size.vocab,
        "max_position_embeddings": LENGTH,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "initializer_range": 0.06,
    }


# ---------------------------------------------------------------------------------------------- commands
def model_of(method: str, output: Path) -> Path:
    """The model that a stage ends with."""
    return output / next(stage.folder for stage in STAGES if stage.method == method) / "model"


def training(size: Size, stage: Stage, output: Path, seed: int, overwrite: bool) -> list[str]:
    """The command of a stage."""
    steps = size.steps[stage.method]
    model = output / "config.json" if stage.start is None else model_of(stage.start, output)
    flags = {"--model": str(model), **_data(size, stage, output, seed), "--max-steps": str(steps), **stage.flags}
    flags |= {"--seed": str(seed), "--device": "cpu", "--log-every": str(max(1, steps // 4))}
    words = ["run", stage.method, *(word for flag, value in flags.items() for word in _words(flag, value))]
    return [*words, "--output", str(output / stage.folder), *(["--overwrite"] if overwrite else [])]


def _words(flag: str, value: str) -> list[str]:
    return [flag.partition("#")[0], *([value] if value else [])]


def _data(size: Size, stage: Stage, output: Path, seed: int) -> dict[str, str]:
    """What a stage trains and is measured on; a flag that comes twice is told apart by what follows ``#``."""
    prose = source("python-docs", part="train", max_files=size.modules)
    unseen = source("python-docs", part="test", max_files=size.test_modules, label="prose")
    if stage.method == "pt":
        vocabulary = {"--vocab-size": str(size.vocab)}
        return {**vocabulary, "--data": prose, "--eval-data": unseen, "--max-length": str(LENGTH)}
    if stage.method not in DATA:
        return _prompts(size, seed, size.steps[stage.method])
    data = {"--data": str(output / "data" / DATA[stage.method])}
    if stage.method == "cpt":
        data |= {"--replay": prose, "--replay-share": f"{REPLAY:g}", "--eval-data": unseen, "--general-set": "prose"}
        held_out = f"{{path: {output / 'data' / HELD_OUT_TEXTS}, label: sums}}"
        data |= {"--eval-data#2": held_out, "--domain-set": "sums", "--holdout": "0", "--max-length": str(LENGTH)}
    return data


def _prompts(size: Size, seed: int, steps: int) -> dict[str, str]:
    """Problems and rewards. A probe that finds nothing to learn must not end the demo, hence the force."""
    prompts = source("arithmetic", digits=DIGITS, seed=1000 + seed, num_rows=steps * size.prompts)
    return {
        "--data": prompts,
        "--reward": "numeric",
        "--reward#2": "{name: format, min_thinking: 4, weight: 0.1}",
        "--group-size": "8",
        "--batch-size": str(size.prompts),
        "--max-new-tokens": str(NEW_TOKENS),
        "--schedule": "{name: linear, warmup: 0.1}",
        "--force": "",
    }


def measuring(size: Size, output: Path, seed: int) -> dict[str, list[str]]:
    """The commands that measure all models: how often they are right, and how well they know prose."""
    methods = [stage.method for stage in STAGES]
    by_accuracy = ["sft", *(method for method in methods if method != "sft")]
    unseen = source("arithmetic", digits=DIGITS, split="test", seed=seed, num_rows=size.held_out)
    prose = source("python-docs", part="test", max_files=size.test_modules)
    return {
        "accuracy": [
            *("eval", *(str(model_of(method, output)) for method in by_accuracy), "--data", unseen),
            *("--reward", "numeric", "--reward", "{name: format, min_thinking: 4, weight: 0}"),
            *("--samples", str(size.samples), "--max-new-tokens", str(NEW_TOKENS), "--seed", str(seed)),
            *("--device", "cpu", "--output", str(output / "answers.jsonl"), "--json"),
        ],
        "prose": [
            *("eval", *(str(model_of(method, output)) for method in methods), "--text", prose),
            *("--max-length", str(LENGTH), "--device", "cpu", "--json"),
        ],
    }


def source(name: str, **settings: Any) -> str:
    """A source with its settings, those that are ``None`` left out."""
    said = "".join(f", {key}: {value}" for key, value in settings.items() if value is not None)
    return f"{{name: {name}{said}}}"


def shown(arguments: Sequence[str]) -> str:
    """A command as one would type it, on several lines; a flag and its value stay on one."""
    words: list[str] = []
    for word in arguments[1:]:
        follows = words and words[-1].startswith("--") and " " not in words[-1] and not word.startswith("--")
        words[-1:] = [f"{words[-1]} {shlex.quote(word)}"] if follows else [*words[-1:], shlex.quote(word)]
    lines = [f"  tunesmith {arguments[0]}"]
    for word in words:
        if len(lines[-1]) + len(word) + 3 > LINE:
            lines.append(f"      {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)
