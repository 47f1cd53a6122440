"""Runs whose rewards hang, fail and come back: from the command line to the files of the run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tunesmith.cli.main import main

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
def here(tmp_path, monkeypatch, tiny_model):
    """A folder with rewards, eight prompts, and settings of a run of two steps with four prompts each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(REWARDS)
    rows = [{"prompt": f"Say number {i}.", "about": i} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"model": tiny_model, "data": "rows.jsonl", "output": "out", "batch-size": 4, "group-size": 4,
                "max-new-tokens": 6, "max-steps": 2, "probe": 0}  # fmt: skip
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@pytest.fixture
def run(here, capfd):
    """``run(*words)``: the command line in this process; its exit code, and what it and its workers wrote to stderr."""

    def call(*words):
        code = main(["run", *words])
        return SimpleNamespace(code=code, err=capfd.readouterr().err)

    return call


def test_what_hangs_or_dies_gets_no_reward_and_the_run_goes_on(run, here, tmp_path):
    done = run(
        "grpo", *here, "--rewards", "{name: mine.py:hangs, timeout: 0.3, label: letters}", "--max-reward-failures", "1"
    )
    assert done.code == 0, done.err
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
    assert "the reward letters gave no score (timeout): no score within 0.3 s" in done.err
    assert "Traceback" not in done.err


def test_an_error_stops_with_its_own_exit_code_and_the_run_resumes_when_it_is_put_right(run, here, tmp_path):
    failed = run("grpo", *here, "--rewards", "mine.py:fails")
    assert failed.code == 6
    assert "the reward 'fails' failed: ValueError: five is not judged" in failed.err
    assert "about=5" in failed.err and 'raise ValueError("five is not judged")' in failed.err
    assert "Traceback" not in failed.err
    (tmp_path / "mine.py").write_text(REWARDS.replace("about == 5", "about == 99"))
    resumed = run("out/run.yaml", "--resume")
    assert resumed.code == 0, resumed.err
    assert (tmp_path / "out" / "model").is_dir()


def test_a_missing_column_and_a_wrong_name_are_refused_before_a_model_is_loaded(run, here):
    refused = run("grpo", *here, "--rewards", "mine.py:hang")
    assert refused.code == 2 and "did you mean 'hangs'" in refused.err
