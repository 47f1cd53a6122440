"""adept under torchrun: the probe is shared among processes, and all find the same layers and rates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_two_processes_find_and_train_what_one_does(train, weights, texts, tiny_model, tmp_path):
    """Nine texts to measure on, so that the shares differ; refreshes; replay."""
    (tmp_path / "code.txt").write_text("def add(a, b):\n    return a + b\n\n" * 30)
    flags = {
        **{"data": str(tmp_path / "code.txt"), "replay": str(texts), "probe_size": 9, "copies": 1, "refresh_every": 2},
        **{"max_steps": 5, "batch_size": 5, "max_length": 32, "holdout": 0.0, "floor": 0.5, "learning_rate": 1e-3},
        **{"eps": 1e-3, "schedule": "constant"},
    }
    alone = train("adept", "alone", **flags)
    runs = [("adept", {**flags, "model": str(tiny_model), "output": str(tmp_path / "two"), "device": "cpu"})]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    script = Path(__file__).with_name("several_methods.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(script), json.dumps(runs)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-9000:]
    one, two = (json.loads((run / "adept.json").read_text()) for run in (alone, tmp_path / "two"))
    assert two["chosen"] == one["chosen"]
    assert two["layer_importance"] == pytest.approx(one["layer_importance"], abs=1e-6)
    for a, b in zip(one["refreshes"], two["refreshes"], strict=True):
        assert b["multiplier"] == pytest.approx(a["multiplier"], abs=1e-2)
        assert b["general_loss"] == pytest.approx(a["general_loss"], rel=1e-5)
    a, b = weights(alone / "model"), weights(tmp_path / "two" / "model")
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 2e-5
