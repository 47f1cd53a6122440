"""Knowledge injection: what each way of going on with training gains on a domain, forgets, and costs. Three seeds.

    python benchmarks/knowledge.py [--seeds N ...] [--domains code script] [--sides NAME ...] [--quick]

A small model is pre-trained on English on the spot. From there every side goes on with the same number of tokens of a
domain. `README.md` beside this file says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import knowledge_runs
import knowledge_tables
import knowledge_texts
import measure


@dataclass(frozen=True, slots=True)
class Size:
    """How large the benchmark is.

    Attributes:
        hidden, layers, vocab: shape of the model.
        steps: optimizer steps of pre-training, and ``more_steps`` of each side.
        timed_steps: steps of the side that is there for its time only.
        copies: layers that are added where a side adds layers.
        refresh: steps between measurements of unit importance.
        probe: rows of general text that importance is measured on.
    """

    hidden: int
    layers: int
    vocab: int
    steps: int
    more_steps: int
    timed_steps: int
    copies: int
    refresh: int
    probe: int
    amounts: knowledge_texts.Amounts


FULL = Size(64, 6, 512, 1000, 160, 20, 2, 40, 32, knowledge_texts.Amounts(1_000_000, 400_000, 24_000))
QUICK = Size(32, 3, 400, 10, 4, 2, 1, 2, 4, knowledge_texts.Amounts(60_000, 30_000, 3_000))
TIMED = Size(256, 12, 512, 1, 12, 12, 2, 100, 4, knowledge_texts.Amounts(60_000, 60_000, 1_000))
"""A larger model that learns nothing: how time and memory go when matrices are most of the work."""
RATES: Mapping[str, float] = {"pt": 4e-3, "cpt": 1e-3, "lora": 4e-3, "adept": 1e-2}
"""Peak learning rates, found on another seed (10): of two tried, the one with the lower domain loss on source code."""
REPLAY_SHARE = 0.15
BATCH, LENGTH = 2, 256
"""Pieces of text in a step, and tokens of a piece at most. Measurements go by as many tokens at a time."""
HEAD_SIZE = 32
LLAMA_PRO = "LLaMA-Pro"
DEEPER = "full CPT, as deep"
"""Trains all layers of the model that LLaMA-Pro has made, which is as deep as ADEPT's: only its time is of interest."""


@dataclass(frozen=True, slots=True)
class Side:
    """A way to go on: the method of the run and its settings beyond those that all have."""

    method: str
    settings: Mapping[str, Any]


def sides(size: Size, made: Path) -> dict[str, Side]:
    """What is compared, by name. General text is at hand for all; two train on it.

    Args:
        size: of the benchmark.
        made: the model that LLaMA-Pro has made on the same seed and domain.
    """
    none = {"replay_share": 0.0}
    full = {"learning_rate": RATES["cpt"]}
    grown = {"learning_rate": RATES["adept"], "copies": size.copies, **none}
    measured = {"refresh_every": size.refresh, "probe_size": size.probe}
    return {
        "full CPT": Side("cpt", {**full, **none}),
        "full CPT, 15% replay": Side("cpt", {**full, "replay_share": REPLAY_SHARE}),
        "LoRA CPT": Side("cpt", {"learning_rate": RATES["lora"], "adapter": "lora", **none}),
        LLAMA_PRO: Side("adept", {**grown, "preset": "llama-pro"}),
        "ADEPT": Side("adept", {**grown, **measured}),
        "ADEPT, 15% replay": Side("adept", {**grown, **measured, "replay_share": REPLAY_SHARE}),
        "ADEPT without expansion": Side("adept", {**grown, **measured, "expand": False}),
        "ADEPT, uniform rates": Side("adept", {**grown, "probe_size": size.probe, "rates": "uniform"}),
        DEEPER: Side("cpt", {**full, **none, "model": str(made), "max_steps": size.timed_steps}),
    }


def timed_sides(size: Size, made: Path) -> dict[str, Side]:
    """What is timed on the larger model: copies as deep as published ones, copies at equal distances, all layers.

    For Qwen3-1.7B with its 28 layers 22, 23, 25 and 27 were chosen: the first copy has 0.72 of all layers below it.
    """
    deep = {"selection": "manual", "layers": [size.layers * 3 // 4, size.layers - 1], "rates": "uniform"}
    few = {"replay_share": 0.0, "max_steps": size.timed_steps}
    return {
        "copies deep down the stack": Side("adept", {**few, **deep}),
        LLAMA_PRO: Side("adept", {**few, "preset": "llama-pro", "copies": size.copies}),
        DEEPER: Side("cpt", {**few, "model": str(made)}),
    }


# ---------------------------------------------------------------------------------------------- the runs
def all_settings(size: Size, seed: int, folder: Path, output: Path, domain: str | None) -> dict[str, Any]:
    """What every run has, but for its method, its model and its rate."""
    sets = {"general": folder / "held-out-english.jsonl"}
    if domain is not None:
        sets["domain"] = folder / f"held-out-{domain}.jsonl"
    return {
        "data": str(folder / f"{domain or 'english'}.jsonl"),
        "eval_data": [{"path": str(path), "label": label} for label, path in sets.items()],
        "batch_size": BATCH,
        "max_length": LENGTH,
        "micro_tokens": BATCH * LENGTH,
        "max_steps": size.more_steps if domain else size.steps,
        "overlong": "split",
        "seed": seed,
        "output": str(output),
    }


def pretrain(size: Size, seed: int, folder: Path) -> knowledge_runs.Outcome:
    """The model that all sides start from, in ``base/model``."""
    config = folder / "config.json"
    config.write_text(json.dumps(model_config(size)), encoding="utf-8")
    settings = all_settings(size, seed, folder, folder / "base", None)
    own = {"model": str(config), "vocab_size": size.vocab, "learning_rate": RATES["pt"]}
    return fresh("pt", {**settings, **own})


def go_on(size: Size, seed: int, folder: Path, domain: str, name: str, **other: Any) -> knowledge_runs.Outcome:
    """One side, with ``other`` settings than its own."""
    choices = timed_sides if size is TIMED else sides
    side = choices(size, folder / f"{domain}-{LLAMA_PRO}" / "model")[name]
    output = folder / f"{domain}-{name.replace(',', '').replace('%', '').replace(' ', '-')}"
    settings = all_settings(size, seed, folder, output, domain)
    on_general = {"replay": str(folder / "english.jsonl"), "general_set": "general", "domain_set": "domain"}
    model = {"model": str(folder / "base" / "model"), "holdout": 0.0}
    return fresh(side.method, {**settings, **on_general, **model, **side.settings, **other})


def fresh(method: str, settings: Mapping[str, Any]) -> knowledge_runs.Outcome:
    """Run a method in a process of its own.

    Raises:
        RuntimeError: it failed; the end of what it printed is in the message.
    """
    output = Path(settings["output"])
    log, result = output.with_suffix(".txt"), output.with_suffix(".json")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(knowledge_runs.PRELOADED)
    process = context.Process(target=knowledge_runs.run, args=(method, settings, log, result))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{output.name} ended with {process.exitcode}:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return knowledge_runs.Outcome(**json.loads(result.read_text(encoding="utf-8")))


def model_config(size: Size) -> dict[str, Any]:
    """A small Llama."""
    heads = size.hidden // HEAD_SIZE
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size.hidden,
        "intermediate_size": 8 * size.hidden // 3 // 32 * 32,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": HEAD_SIZE,
        "vocab_size": size.vocab,
        "max_position_embeddings": LENGTH,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


def run_seed(
    size: Size, seed: int, folder: Path, domains: Sequence[str], names: Sequence[str]
) -> list[knowledge_tables.Row]:
    """Everything on one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    knowledge_texts.build(folder, size.amounts, seed)
    base = pretrain(size, seed, folder)
    say(f"seed {seed}  pre-trained: {base.general_after:.3f} nats per token, {base.cpu_seconds:.0f} s of CPU time")
    rows = []
    for domain in domains:
        # rows are encoded once and kept: the first side would pay for it in time and in memory
        go_on(size, seed, folder, domain, names[0], max_steps=1, output=str(folder / f"{domain}-encoded"))
        for name in names:
            outcome = go_on(size, seed, folder, domain, name)
            rows.append(knowledge_tables.Row(seed, domain, name, outcome))
            say(f"seed {seed}  {domain:6}  {name:26}  {rows[-1].line()}")
    return rows


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run all seeds, one after the other, and print the tables."""
    options = parse()
    measure.pin(options.core)
    size = QUICK if options.quick else FULL
    rows: list[knowledge_tables.Row] = []
    timed: list[knowledge_tables.Row] = []
    with tempfile.TemporaryDirectory(prefix="tunesmith-benchmark-") as name:
        os.environ["TUNESMITH_CACHE"] = f"{name}/cache"
        for seed in options.seeds:
            folder = Path(options.output or name).resolve() / f"seed-{seed}"
            rows += run_seed(size, seed, folder, options.domains, options.sides)
        if options.timing:
            folder = Path(options.output or name).resolve() / "timing"
            timed = run_seed(TIMED, 0, folder, ["code"], list(timed_sides(TIMED, Path())))
    if options.json:
        measure.write([asdict(row) for row in rows], options.json)
    print(measure.environment(("tunesmith", "torch", "transformers")))
    print(f"\n{knowledge_tables.all_tables(rows, DEEPER)}")
    if options.timing:
        print(
            f"\n{TIMED.layers} layers of {TIMED.hidden}, {TIMED.copies} more\n\n{knowledge_tables.times(timed, DEEPER)}"
        )
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    names = list(sides(QUICK, Path()))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of everything (default 0 1 2)")
    parser.add_argument("--domains", nargs="+", choices=["code", "script"], default=["code", "script"])
    parser.add_argument("--sides", nargs="+", choices=names, default=names, help="what to run")
    parser.add_argument("--quick", action="store_true", help="seconds: shows that it runs, and nothing else")
    parser.add_argument("--timing", action="store_true", help="also time a larger model that learns nothing")
    parser.add_argument("--output", type=Path, help="keep the runs in this folder")
    parser.add_argument("--json", type=Path, help="also write what was measured to this file")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="core to run on")
    options = parser.parse_args()
    if DEEPER in options.sides and LLAMA_PRO not in options.sides:
        parser.error(f"{DEEPER} goes on from what {LLAMA_PRO} has made: name both")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
