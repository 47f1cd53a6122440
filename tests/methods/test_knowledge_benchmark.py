"""`benchmarks/knowledge.py --quick` runs: every side from the same model, on as many tokens, on the same rows."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What it prints, and what it measured by side."""
    folder = tmp_path_factory.mktemp("knowledge")
    command = [sys.executable, FOLDER / "knowledge.py", "--quick", "--seeds", "3", "--domains", "script"]
    command += ["--output", folder, "--json", folder / "rows.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "rows.json").read_text())
    return done.stdout, {row["side"]: row["outcome"] for row in rows}, folder / "seed-3"


def test_every_side_is_in_the_tables(done):
    text, outcomes, _ = done
    assert len(outcomes) == 9
    for side in outcomes:
        assert text.count(f"| {side} |") == (1 if side == "full CPT, as deep" else 2)


def test_all_start_from_the_same_losses_and_see_as_many_tokens(done):
    sides = [outcome for side, outcome in done[1].items() if side != "full CPT, as deep"]
    for key in ("domain_before", "general_before"):
        assert max(side[key] for side in sides) - min(side[key] for side in sides) < 1e-5
    tokens = [side["tokens"] for side in sides]
    assert max(tokens) <= 1.1 * min(tokens)


def test_what_is_trained_is_what_the_side_says(done):
    shares = {side: outcome["trained"] / outcome["parameters"] for side, outcome in done[1].items()}
    assert shares["full CPT"] == shares["full CPT, 15% replay"] == shares["full CPT, as deep"] == 1
    assert shares["ADEPT"] == shares["ADEPT, 15% replay"] == shares["LLaMA-Pro"] == shares["ADEPT, uniform rates"] < 0.3
    assert done[1]["ADEPT"]["trained"] == done[1]["ADEPT without expansion"]["trained"]
    assert done[1]["ADEPT"]["parameters"] == done[1]["full CPT, as deep"]["parameters"]


def test_each_side_without_a_stage_lacks_just_that(done):
    records = {
        side: json.loads((done[2] / f"script-{side}" / "adept.json").read_text())
        for side in ("ADEPT", "ADEPT-without-expansion", "ADEPT-uniform-rates", "LLaMA-Pro")
    }
    whole, unexpanded, uniform, pro = records.values()
    assert whole["chosen"] == unexpanded["chosen"] == uniform["chosen"]
    assert whole["copies"] == uniform["copies"] != []
    assert unexpanded["copies"] == []
    assert [bool(record["refreshes"]) for record in records.values()] == [True, True, False, False]
    assert pro["layer_importance"] is None


def test_the_second_script_shares_no_letter_with_the_first(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    texts = importlib.import_module("knowledge_texts")
    written = texts.in_greek("The quick brown fox jumps over the lazy dog; 12 + 3.")
    assert not any(c.isascii() and c.isalpha() for c in written)
    assert written.endswith("; 12 + 3.")
    assert len(set(texts.in_greek(texts.LATIN))) == 26
