"""`benchmarks/rl.py` at its smallest: both sides sample as many answers as they should, and the clock adds up."""

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
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rl.py"
ANSWERS, LONGEST = 32, 6


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Method to side to what its one process measured."""
    output = tmp_path_factory.mktemp("rl") / "steps.json"
    command = [sys.executable, SCRIPT, "--methods", "grpo", "iterative-dpo", "--sides", "tunesmith", "trl"]
    command += ["--repeats", "1", "--steps", "1", "--warmup", "1", "--longest", str(LONGEST), "--json", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        method: {side: repeats[0] for side, repeats in runs.items()}
        for method, runs in json.loads(output.read_text()).items()
    }


@pytest.mark.parametrize("method", ["grpo", "iterative-dpo"])
def test_both_sides_are_measured_over_whole_steps(measured, method):
    sides = measured[method]
    assert list(sides) == ["tunesmith", "trl"]
    for side in sides.values():
        assert len(side["steps"]) == 2
        for step in side["steps"]:
            # the end comes at a rate of 1/40: nearly all answers are as long as they may be
            assert 0.7 * ANSWERS * LONGEST < step["tokens"] <= ANSWERS * LONGEST
            assert step["phases"]["sample"] > step["phases"]["judge"] >= 0
            assert sum(step["phases"].values()) < step["cpu_seconds"]
        assert side["peak_memory"] > side["start_memory"] > side["empty_memory"]


def test_the_processes_that_judge_are_counted(measured):
    assert measured["grpo"]["tunesmith"]["helper_memory"] > 0
    assert measured["grpo"]["trl"]["helper_memory"] == 0
