"""Runs whose rewards hang, fail and come back: from the command line to the files of the run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

REWARDS = '''
import os, time

def hangs(completion, about):
    """The share of letters; some completions take for ever, some end the process."""
    if about % 4 == 0 and len(completion) % 2:
        time.sleep(300)
    if about % 4 == 1 and len(completion) % 2:
        os._exit(1)
    return sum(map(str.isalpha, completion)) / max(1, len(completion))

def fails(completion, about, *, allowed: int = 0):
    """An error in a row."""
    if about == 5 and not allowed:
        raise ValueError("five is not judged")
    return float(len(completion))
'''


@pytest.fixture
def grpo(tmp_path, tiny_model):
    """``grpo(*words)``: run it with two prompts a step, eight in all; exit code, stdout and stderr."""
    (tmp_path / "mine.py").write_text(REWARDS)
    rows = [{"prompt": f"Say number {i}.", "about": i} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": tiny_model, "data": "rows.jsonl", "output": "out", "batch-size": 4, "group-size": 4,
                "max-new-tokens": 6, "max-steps": 2, "probe": 0}  # fmt: skip
    flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]

    def run(*words, flags=flags):
        command = [sys.executable, "-m", "tunesmith", "run", "grpo", *flags, *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)

    return run


def test_what_hangs_or_dies_gets_no_reward_and_the_run_goes_on(grpo, tmp_path):
    done = grpo("--rewards", "{name: mine.py:hangs, timeout: 0.3, label: letters}", "--max-reward-failures", "1")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    found = {"timeout": 0, "infrastructure": 0, None: 0}
    for line in lines:
        odd, about = len(line["completion"]) % 2, line["columns"]["about"] % 4
        state = {0: "timeout", 1: "infrastructure"}.get(about) if odd else None
        assert line["states"].get("letters") == state
        assert (line["reward"] is None) == (state is not None)
        found[state] += 1
    assert all(found.values()), found
    metrics = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    shares = [line["rewards/letters/timeout"] for line in metrics if "rewards/letters/timeout" in line]
    assert shares and sum(shares) * 16 == pytest.approx(found["timeout"])
    assert "the reward letters gave no score (timeout): no score within 0.3 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_stops_with_its_own_exit_code_and_the_run_resumes_when_it_is_put_right(grpo, tmp_path):
    failed = grpo("--rewards", "mine.py:fails")
    assert failed.returncode == 6
    assert "the reward 'fails' failed: ValueError: five is not judged" in failed.stderr
    assert "about=5" in failed.stderr and 'raise ValueError("five is not judged")' in failed.stderr
    assert "Traceback" not in failed.stderr
    (tmp_path / "mine.py").write_text(REWARDS.replace("about == 5", "about == 99"))
    command = [sys.executable, "-m", "tunesmith", "run", "out/run.yaml", "--resume"]
    resumed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "out" / "model").is_dir()


def test_a_missing_column_and_a_wrong_name_are_refused_before_a_model_is_loaded(grpo):
    refused = grpo("--rewards", "mine.py:hang")
    assert refused.returncode == 2 and "did you mean 'hangs'" in refused.stderr
