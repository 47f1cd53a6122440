"""`benchmarks/reasoning.py --quick` runs, and measures every method from the same start on the same answers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "reasoning.py"
METHODS = ["grpo", "rloo", "ppo", "iterative-dpo"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What it prints, and its folder of the seed."""
    output = tmp_path_factory.mktemp("reasoning")
    command = [sys.executable, SCRIPT, "--quick", "--seeds", "3", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, output / "seed-3"


def test_every_method_has_a_row(done):
    rows = re.findall(r"^\| ([a-z-]+) \| \d+\.\d -> \d+\.\d \([+-]\d+\.\d\) \|", done[0], flags=re.MULTILINE)
    assert rows == METHODS


def test_all_start_from_the_same_model_and_are_measured_on_the_same_problems(done):
    runs = [(done[1] / method / "metrics.jsonl").read_text().splitlines()[0] for method in METHODS]
    lengths = {json.loads(line)["eval/arithmetic-test/completions/mean_length"] for line in runs}
    assert len(lengths) == 1
    assert lengths != {64.0}
