"""A step of SFT is the step that TRL makes: same tokens, same loss, same gradient, through `benchmarks/sft.py`."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra `bench`"),
]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sft.py"


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory):
    """Side of the benchmark to its only step: eight rows, fp32, the same weights."""
    output = tmp_path_factory.mktemp("parity") / "steps.json"
    command = [sys.executable, SCRIPT, "--repeats", "1", "--steps", "1", "--warmup", "0", "--json", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(output.read_text())
    assert all(len(repeat["steps"]) == 1 for repeats in runs.values() for repeat in repeats)
    return {side: repeats[0]["steps"][0] for side, repeats in runs.items()}


@pytest.mark.parametrize("peer", ["trl-padded", "trl-packing", "trl-packing-640"])
@pytest.mark.parametrize("ours", ["tunesmith", "tunesmith-1024"])
def test_loss_and_gradient_norm_are_those_of_trl(first_steps, ours, peer):
    mine, theirs = first_steps[ours], first_steps[peer]
    assert (mine["tokens"], mine["trained"]) == (theirs["tokens"], theirs["trained"])
    assert mine["trained"] < mine["tokens"]
    assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)
