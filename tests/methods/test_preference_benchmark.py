"""The first steps of dpo, kto and rm on chats are those of TRL, through `benchmarks/preference.py`.

From the second step on the policy is no longer its reference, so what both make of the reference counts as well.
"""

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
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "preference.py"


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Method to the steps of both sides: the same rows in the same order, fp32, the same weights."""
    output = tmp_path_factory.mktemp("parity") / "steps.json"
    command = [sys.executable, SCRIPT, "--repeats", "1", "--steps", "3", "--warmup", "0", "--json", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(output.read_text())
    return {method: [runs[side][0]["steps"] for side in ("tunesmith", "trl")] for method, runs in measured.items()}


@pytest.mark.parametrize("method", ["dpo", "kto", "rm"])
def test_losses_and_gradient_norms_are_those_of_trl(steps, method):
    mine, theirs = steps[method]
    assert len(mine) == len(theirs) == 3
    for step, wanted in zip(mine, theirs, strict=True):
        assert step["tokens"] == wanted["tokens"] > 0
        # differences of sums of thousands of nats in fp32
        assert step["loss"] == pytest.approx(wanted["loss"], abs=5e-5)
        assert step["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
    assert len({step["loss"] for step in mine}) == 3
