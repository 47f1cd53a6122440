"""Several processes under torchrun, from the command line: the weights of one process up to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def torchrun(count, arguments, cwd, program=("-m", "tunesmith")):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--master_port=0"]
    command += ["--standalone", *program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment)


def test_two_processes_train_the_weights_of_one(train, chats, weights, metrics, tiny_model, tmp_path):
    """Odd batch size, more than one part per step, clipping active, an evaluation set, checkpoints."""
    settings = {"batch_size": 7, "max_steps": 5, "micro_tokens": 120, "max_grad_norm": 0.5, "save_every": 2}
    alone = train("sft", "alone", data=str(chats), eval_data=str(chats), **settings)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    paths = [f"--model={tiny_model}", f"--data={chats}", f"--eval-data={chats}", f"--output={tmp_path / 'two'}"]
    result = torchrun(2, ["run", "sft", *paths, "--learning-rate=1e-3", "--device=cpu", *flags], tmp_path)
    assert result.returncode == 0, result.stderr[-9000:]
    two = tmp_path / "two"
    one_weights, two_weights = weights(alone / "model"), weights(two / "model")
    assert max((one_weights[n] - two_weights[n]).abs().max().item() for n in one_weights) < 2e-6
    for a, b in zip(metrics(alone), metrics(two), strict=True):
        assert {k: v for k, v in b.items() if "_s" not in k} == pytest.approx(
            {k: v for k, v in a.items() if "_s" not in k}, rel=1e-4, abs=1e-6
        )
    assert json.loads((two / "manifest.json").read_text())["processes"] == 2
    assert result.stderr.count("step 5/5") >= 1
    assert result.stderr.count("step 1/5  loss") == 1, "only the main process prints"


def test_fewer_examples_than_processes_are_refused_once(chats, tiny_model, tmp_path):
    paths = [f"--model={tiny_model}", f"--data={chats}", f"--output={tmp_path / 'two'}", "--device=cpu"]
    result = torchrun(2, ["run", "sft", *paths, "--batch-size=1", "--max-steps=1"], tmp_path)
    assert result.returncode != 0
    assert result.stderr.count("batch_size 1 is less than the 2 processes") == 1


def test_two_processes_train_every_preference_method_like_one(train, weights, tmp_path, tiny_model):
    """KTO's baseline, ORPO's token count and the cached reference are of the whole step, not of a process."""
    turn = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    rows = [
        {
            "prompt": turn("user", f"Question {i}?"),
            "chosen": turn("assistant", "Yes. " * (1 + i % 4)),
            "rejected": turn("assistant", f"No {i}."),
        }
        for i in range(20)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    thumbs = [
        {"prompt": r["prompt"], "completion": r["chosen" if i % 3 else "rejected"], "label": bool(i % 3)}
        for i, r in enumerate(rows)
    ]
    (tmp_path / "thumbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in thumbs))
    settings = {"max_steps": 3, "batch_size": 5, "micro_tokens": 90, "learning_rate": 1e-3, "schedule": "constant"}
    plan = [
        ("dpo", "pairs", {}),
        ("dpo", "pairs", {"reference": "cached"}),
        ("orpo", "pairs", {}),
        ("simpo", "pairs", {}),
        ("kto", "thumbs", {}),
        ("rm", "pairs", {}),
    ]
    runs, wanted = [], []
    for i, (method, data, more) in enumerate(plan):
        flags = {**settings, **more, "data": str(tmp_path / f"{data}.jsonl")}
        wanted.append(weights(train(method, f"one-{i}", **flags) / "model"))
        flags |= {"model": str(tiny_model), "output": str(tmp_path / f"two-{i}"), "device": "cpu"}
        runs.append((method, flags))
    script = Path(__file__).with_name("several_methods.py")
    result = torchrun(2, [json.dumps(runs)], tmp_path, program=(str(script),))
    assert result.returncode == 0, result.stderr[-9000:]
    for i, (method, _, _) in enumerate(plan):
        found = weights(tmp_path / f"two-{i}" / "model")
        difference = max((wanted[i][name] - found[name]).abs().max().item() for name in found)
        assert difference < 5e-6, (method, difference)


def test_two_processes_train_every_online_method_like_one(weights, tmp_path, tiny_model):
    """Samples, advantages that need the whole step, critic, controller, earlier rounds."""
    plugin = Path(__file__).with_name("even_tokens.py")
    rows = [{"prompt": f"Number {i}" + " and then" * (i % 3)} for i in range(10)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        **{"max_steps": 3, "batch_size": 3, "micro_tokens": 60, "learning_rate": 1e-3, "eps": 1e-3, "device": "cpu"},
        **{"rewards": ["even-tokens"], "max_new_tokens": 5, "probe": 0, "model": str(tiny_model)},
        "data": str(tmp_path / "prompts.jsonl"),
    }
    plan = [
        ("grpo", {"group_size": 2, "scale": "batch", "minibatches": 2, "update_epochs": 2, "max_draws": 2}),
        ("rloo", {"group_size": 3}),
        ("ppo", {"minibatches": 2, "update_epochs": 2, "kl_target": 0.5}),
        ("iterative-dpo", {"group_size": 2, "mask_truncated": False, "minibatches": 2, "buffer": 2}),
    ]
    script = Path(__file__).with_name("several_methods.py")
    for count in (1, 2):
        runs = [(m, {**settings, **more, "output": str(tmp_path / f"{count}-{m}")}) for m, more in plan]
        result = torchrun(count, [json.dumps(runs), str(plugin)], tmp_path, program=(str(script),))
        assert result.returncode == 0, result.stderr[-9000:]
    for method, _ in plan:
        one, two = (tmp_path / f"{count}-{method}" for count in (1, 2))
        lines = [json.loads(line) for line in (one / "samples.jsonl").read_text().splitlines()]
        others = [json.loads(line) for line in (two / "samples.jsonl").read_text().splitlines()]
        key = lambda line: (line["step"], line["row"], line["sample"])  # noqa: E731
        assert [key(line) for line in sorted(others, key=key)] == [key(line) for line in sorted(lines, key=key)]
        for a, b in zip(sorted(lines, key=key), sorted(others, key=key), strict=True):
            assert a["completion"] == b["completion"], method
        a, b = weights(one / "model"), weights(two / "model")
        difference = max((a[name] - b[name]).abs().max().item() for name in a)
        assert difference < 5e-6, (method, difference)
