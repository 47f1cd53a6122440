"""What stands in examples/ works as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_pre_training_starts_from_the_tiny_config(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    rows = [json.dumps({"text": f"{i} and {i + 1} make {2 * i + 1}. " * 8}) for i in range(40)]
    text.write_text("\n".join(rows), encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith", "run", "pt", "--model", str(EXAMPLES / "tiny-llama.json")]
    command += ["--data", str(text), "--vocab-size", "300", "--max-steps", "4", "--batch-size", "4", "--log-every", "2"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TUNESMITH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run" / "model")]
    # without a terminal: plain lines for the first step, every second one, and the last
    steps = [line.split("  ")[0] for line in done.stderr.splitlines() if line.startswith("step ")]
    assert steps == ["step 1/4", "step 2/4", "step 4/4"]
    assert "\x1b" not in done.stderr
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
