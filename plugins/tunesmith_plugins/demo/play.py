"""The three runs of the demo, made with the commands that a user would type."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tunesmith import ConfigError
from tunesmith_plugins.demo import result

LINE = 88
"""Columns of a printed command."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the demo is.

    Attributes:
        hidden, layers: shape of the model.
        vocab: pieces of its tokenizer.
        steps: optimizer steps of pre-training, and ``more_steps`` of each run that goes on from it.
        files: source files to train on, and ``held_out`` to measure on.
        modules: modules whose docstrings are read; ``None``: all of them.
    """

    hidden: int
    layers: int
    vocab: int
    steps: int
    more_steps: int
    files: int
    held_out: int
    modules: int | None = None


FULL = Size(hidden=128, layers=4, vocab=1024, steps=900, more_steps=300, files=100, held_out=6)
QUICK = Size(hidden=32, layers=2, vocab=400, steps=30, more_steps=10, files=6, held_out=1, modules=4)
BATCH, LENGTH = 4, 256
"""Pieces of text per step, and tokens of a piece at most."""
LEARNING_RATE, LEARNING_RATE_AFTER = 6e-3, 3e-3
SHARES = {"no replay": 0.0, "15% replay": 0.15}


def play(size: Size, output: Path, *, seed: int, overwrite: bool, as_json: bool) -> None:
    """Run all three, then print the result.

    Raises:
        ConfigError: the folder is used already.
    """
    import torch

    _claim(output, overwrite)
    # with matrices this small a second thread saves a third of the time on an idle machine, and costs it ten times over
    # on a busy one, where threads that are ready spin until the others get a turn
    torch.set_num_threads(1)
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    config = output / "config.json"
    config.write_text(json.dumps(model_config(size), indent=2) + "\n", encoding="utf-8")
    commands = all_commands(size, output, seed, overwrite)
    for number, (purpose, arguments) in enumerate(commands.items(), start=1):
        click.echo(f"\n{number} of {len(commands)}: {purpose}\n\n{shown(arguments)}\n", err=True)
        _run(arguments)
    folders = {name: run_folder(output, share) for name, share in SHARES.items()}
    found = {
        "schema": 1,
        "quick": size is QUICK,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "commands": [f"tunesmith {shlex.join(arguments)}" for arguments in commands.values()],
        "held_out": result.held_out(folders["no replay"]),
        "runs": [{"name": name, "replay_share": SHARES[name], **result.read(folders[name])} for name in SHARES],
    }
    (output / "result.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    click.echo("", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        result.show(found)


def _claim(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output: {output} is a file", fix="give the path of a folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ConfigError(
            f"--output: {output} is used already", fix="replace it with --overwrite, or choose another --output"
        )


def _run(arguments: Sequence[str]) -> None:
    """Run one of our own commands as the command line would; what it prints is progress here, so it goes to stderr."""
    root = click.get_current_context().find_root()
    context = root.command.make_context(root.info_name, list(arguments), obj=root.obj, color=root.color)
    with contextlib.redirect_stdout(sys.stderr), context:
        root.command.invoke(context)


# ---------------------------------------------------------------------------------------------- what is run
def model_config(size: Size) -> Mapping[str, Any]:
    """A small Llama. The vocabulary is that of the tokenizer which pre-training makes."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": 8 * size.hidden // 3 // 32 * 32,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // 32,
        "num_key_value_heads": size.hidden // 32,
        "head_dim": 32,
        "vocab_size": size.vocab,
        "max_position_embeddings": LENGTH,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


def run_folder(output: Path, share: float) -> Path:
    """The folder of the run that goes on with this share of replay."""
    return output / (f"replay-{share:g}" if share else "no-replay")


def all_commands(size: Size, output: Path, seed: int, overwrite: bool) -> dict[str, list[str]]:
    """What each command is for, and its arguments. All runs measure on the same documents; none trains on them."""
    prose, held_out_prose = (_source("python-docs", part, size.modules) for part in ("train", "test"))
    base = output / "pretrained"
    commands = {
        "pre-train on English prose": [
            *("run", "pt", "--model", str(output / "config.json"), "--vocab-size", str(size.vocab)),
            *("--data", prose, "--eval-data", _labelled(held_out_prose, "general")),
            *("--max-steps", str(size.steps), "--learning-rate", f"{LEARNING_RATE:g}"),
            *_common(size.steps, seed, base),
        ]
    }
    for name, share in SHARES.items():
        commands[f"go on with source code, {name}"] = [
            *("run", "cpt", "--model", str(base / "model"), "--data", _source("python-source", "train", size.files)),
            *("--replay", prose, "--replay-share", f"{share:g}"),
            *("--eval-data", _labelled(_source("python-source", "test", size.held_out), "domain")),
            *("--eval-data", _labelled(held_out_prose, "general"), "--holdout", "0"),
            *("--domain-set", "domain", "--general-set", "general"),
            *("--max-steps", str(size.more_steps), "--learning-rate", f"{LEARNING_RATE_AFTER:g}"),
            *_common(size.more_steps, seed, run_folder(output, share)),
        ]
    return {name: [*arguments, *(["--overwrite"] if overwrite else [])] for name, arguments in commands.items()}


def _source(name: str, part: str, max_files: int | None) -> str:
    limit = "" if max_files is None else f", max_files: {max_files}"
    return f"{{name: {name}, part: {part}{limit}}}"


def _labelled(source: str, label: str) -> str:
    return f"{source[:-1]}, label: {label}}}"


def _common(steps: int, seed: int, output: Path) -> list[str]:
    """The CPU is asked for so that a GPU does not change the result."""
    return [
        *("--batch-size", str(BATCH), "--max-length", str(LENGTH), "--seed", str(seed), "--device", "cpu"),
        *("--log-every", str(max(1, steps // 6)), "--output", str(output)),
    ]


def shown(arguments: Sequence[str]) -> str:
    """A command as one would type it, on several lines."""
    lines = [f"  tunesmith {shlex.join(arguments[:2])}"]
    for start in range(2, len(arguments), 2):  # a flag and its value stay on one line
        words = shlex.join(arguments[start : start + 2])
        if len(lines[-1]) + len(words) + 3 > LINE:
            lines.append(f"      {words}")
        else:
            lines[-1] += f" {words}"
    return " \\\n".join(lines)
