"""Several processes under torchrun, from the command line: the weights of one process up to rounding."""

import json
import os
import subprocess
import sys

import pytest


def torchrun(count, arguments, cwd):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--master_port=0"]
    command += ["--standalone", "-m", "tunesmith", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment)


def test_two_processes_train_the_weights_of_one(train, chats, weights, metrics, tiny_model, tmp_path):
    """Odd batch size, more than one part per step, clipping active, an evaluation set, checkpoints."""
    settings = {"batch_size": 7, "max_steps": 5, "micro_tokens": 120, "max_grad_norm": 0.5, "save_every": 2}
    alone = train("sft", "alone", data=str(chats), eval_data=str(chats), **settings)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    paths = [f"--model={tiny_model}", f"--data={chats}", f"--eval-data={chats}", f"--output={tmp_path / 'two'}"]
    result = torchrun(2, ["run", "sft", *paths, "--learning-rate=1e-3", "--device=cpu", *flags], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
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
