"""Peak memory of PPO with a reward model: four models, adapters beside models of their own, or four roles on one base.

    python benchmarks/ppo_memory.py

Every run is a process of its own, on the CPU in fp32; the number is its largest resident set.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "four models": ("rm", {}),
    "adapter; critic, reference and reward model apart": (
        "rm",
        {"adapter": "lora", "critic": "model", "reference": "copy"},
    ),
    "four roles on one base": ("rm-lora", {"adapter": "lora"}),
}


def make(folder: Path) -> None:
    """A base of about 50M random weights, pairs and prompts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.data.encoding import train_tokenizer

    tokenizer = train_tokenizer(["one two three four five six seven. " * 3], 300)
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(0)
    shape = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer), **shape, **heads, pad_token_id=tokenizer.pad_token_id, bos_token_id=None
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    pairs = [{"prompt": f"one {i}", "chosen": " two", "rejected": " six"} for i in range(8)]
    prompts = [{"prompt": f"one {i} two three"} for i in range(8)]
    for name, rows in (("pairs", pairs), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train("rm", folder, "rm", data=str(folder / "pairs.jsonl"))
    train("rm", folder, "rm-lora", data=str(folder / "pairs.jsonl"), adapter="lora")


def train(method: str, folder: Path, name: str, **settings: Any) -> None:
    """Two steps of a method."""
    from tunesmith import plugins
    from tunesmith.config import Layers, resolve
    from tunesmith.runner.launch import start

    registry = plugins.load()
    common = {"model": str(folder / "base"), "output": str(folder / name), "max_steps": 2, "batch_size": 8}
    start(
        resolve(registry, method, Layers(flags={**common, "micro_tokens": 256, "device": "cpu", **settings})), registry
    )


def side(folder: Path, kind: str) -> None:
    """One run; print its peak in MiB."""
    judge, settings = KINDS[kind]
    reward = {"name": "reward-model", "model": str(folder / judge / "model")}
    data = {"data": str(folder / "prompts.jsonl"), "rewards": [reward], "max_new_tokens": 8, "probe": 0}
    train("ppo", folder, f"ppo-{list(KINDS).index(kind)}", **data, **settings)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    """All kinds, one process after the other."""
    if len(sys.argv) > 1:
        make(Path(sys.argv[1])) if len(sys.argv) == 2 else side(Path(sys.argv[1]), sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, folder], check=True, capture_output=True)
        for kind in KINDS:
            run = subprocess.run([sys.executable, __file__, folder, kind], check=True, capture_output=True, text=True)
            print(f"{kind:<52} {run.stdout.split()[-1]:>6} MiB", flush=True)


if __name__ == "__main__":
    main()
