"""The demo: real runs on real text, measured on documents that none of them has trained on."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith import DataSpec
from tunesmith.cli.main import main
from tunesmith.config import build
from tunesmith.plugins import Registry
from tunesmith_plugins.demo import play, result
from tunesmith_plugins.sources import python_docs

SECONDS = 40


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str], float]:
    """The quick demo as a user runs it: its folder, what it said, and the CPU seconds that it took."""
    folder = tmp_path_factory.mktemp("demo") / "made"
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", "demo", "--quick", "--seed", "3", "--output", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TUNESMITH_CACHE": str(folder.parent / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return folder, done, used


@pytest.fixture
def found(demo: tuple[Path, Any, float]) -> dict[str, Any]:
    return json.loads((demo[0] / "result.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------- what it prints
def test_the_table_has_both_runs_with_the_numbers_of_the_result(demo: Any, found: dict[str, Any]) -> None:
    _, done, seconds = demo
    rows = [
        re.findall(r"-?\d+\.\d{3}", line) for line in done.stdout.splitlines() if re.match(r"\W*(no|15%) rep", line)
    ]
    assert [run["name"] for run in found["runs"]] == ["no replay", "15% replay"]
    assert rows == [[f"{run[column]:.3f}" for column in result.COLUMNS] for run in found["runs"]]
    assert "too short to say anything" in " ".join(done.stdout.split())
    assert seconds < SECONDS


def test_the_numbers_are_those_of_the_runs_and_comparable(demo: Any, found: dict[str, Any]) -> None:
    without, replayed = found["runs"]
    for run in (without, replayed):
        assert all(math.isfinite(run[column]) for column in result.COLUMNS)
        assert run["domain_gain"] == pytest.approx(run["domain_before"] - run["domain_after"], abs=1e-12)
        assert run["forgetting"] == pytest.approx(run["general_after"] - run["general_before"], abs=1e-12)
        assert run["domain_gain"] > 0
    # both start from one model, and that from what pre-training ended with
    assert without["domain_before"] == replayed["domain_before"]
    assert without["general_before"] == replayed["general_before"]
    lines = [json.loads(line) for line in (demo[0] / "pretrained" / "metrics.jsonl").read_text().splitlines()]
    general = [line["eval/general/loss"] for line in lines if "eval/general/loss" in line]
    assert general[-1] == pytest.approx(without["general_before"], rel=1e-6)
    assert general[-1] < general[0] - 0.5
    assert without["tokens"] == pytest.approx(replayed["tokens"], rel=0.05)


def test_the_share_of_replay_is_what_the_row_says(demo: Any) -> None:
    shares = []
    for share in play.SHARES.values():
        lines = (play.run_folder(demo[0], share) / "metrics.jsonl").read_text().splitlines()
        shares.append([line["mix/python-docs-train"] for line in map(json.loads, lines) if "loss" in line][-1])
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.15, abs=play.LENGTH / (play.QUICK.more_steps * play.BATCH * play.LENGTH))


def test_it_prints_the_commands_that_it_runs(demo: Any, found: dict[str, Any]) -> None:
    folder, done, _ = demo
    said = done.stderr.replace(" \\\n", " ")
    printed = [shlex.split(line) for line in said.splitlines() if line.startswith("  tunesmith run ")]
    assert printed == [shlex.split(command) for command in found["commands"]]
    assert [command[2] for command in printed] == ["pt", "cpt", "cpt"]
    outputs = [Path(command[command.index("--output") + 1]) for command in printed]
    assert all((output / "model" / "model.safetensors").is_file() for output in outputs)
    assert all(output.parent == folder for output in outputs)
    assert all(len(line) <= play.LINE + 2 for line in done.stderr.splitlines() if line.endswith("\\"))


# ---------------------------------------------------------------------------------------------- held out by document
def given(arguments: list[str], *flags: str) -> Iterator[Mapping[str, Any]]:
    """The values of some flags of a command."""
    for flag, value in pairwise(arguments):
        if flag in flags:
            yield yaml.safe_load(value)


def texts(registry: Registry, *specs: Mapping[str, Any]) -> dict[str, str]:
    """Text to name of all documents of some sources."""
    context = {"build": lambda kind, spec: build(registry, kind, spec)}
    sources = [DataSpec.model_validate(spec, context=context).source for spec in specs]
    return {str(row.data["text"]): str(row.data["name"]) for source in sources for row in source.rows()}


@pytest.mark.parametrize("size", [play.QUICK, play.FULL], ids=["quick", "full"])
def test_no_run_trains_on_what_any_run_is_measured_on(size: play.Size, registry: Registry) -> None:
    commands = list(play.all_commands(size, Path("x"), 0, False).values())
    measured = [{spec.pop("label"): spec for spec in given(command, "--eval-data")} for command in commands]
    assert [list(sets) for sets in measured] == [["general"], ["domain", "general"], ["domain", "general"]]
    general, domain = (texts(registry, measured[1][name]) for name in ("general", "domain"))
    assert all(sets["general"] == measured[1]["general"] for sets in measured)
    assert measured[1]["domain"] == measured[2]["domain"]
    assert len(general) > 3 and len(domain) == size.held_out

    specs = [spec for command in commands for spec in given(command, "--data", "--replay")]
    trained = texts(registry, *(spec for i, spec in enumerate(specs) if spec not in specs[:i]))
    assert not set(trained) & (set(general) | set(domain))
    # source files hold docstrings: those of a held-out text must not come back with the new domain
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in trained.values()}
    assert not modules & set(general.values())
    sources = {text: name for text, name in trained.items() if name.endswith(".py")}
    assert size.files - 3 <= len(sources) <= size.files, "a few are empty"
    assert not {python_docs.docstrings(text.encode(), name) for text, name in sources.items()} & set(general)


def test_the_runs_have_found_no_overlap_and_the_same_documents(demo: Any, found: dict[str, Any]) -> None:
    reports = [
        json.loads((demo[0] / name / "data_report.json").read_text(encoding="utf-8"))
        for name in ("pretrained", "no-replay", "replay-0.15")
    ]
    assert [report["warnings"] for report in reports] == [[], [], []]
    sets = [
        {s["label"]: (s["used"], s["tokens"]) for s in report["sources"] if s["group"] == "eval"} for report in reports
    ]
    assert sets[1] == sets[2]
    assert sets[0]["general"] == sets[1]["general"]
    assert {name: values["documents"] for name, values in found["held_out"].items()} == {
        name: used for name, (used, _) in sets[1].items()
    }


# ---------------------------------------------------------------------------------------------- its folder
def test_a_used_folder_is_refused_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["demo", "--quick", "--output", str(tmp_path)]) == 2
    assert "is used already" in capsys.readouterr().err
    assert main(["demo", "--quick", "--output", str(tmp_path / "mine.txt")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_same_seed_gives_the_same_numbers_also_over_an_earlier_demo(
    demo: Any, found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--quick", "--seed", "3", "--json", "--overwrite", "--output", str(demo[0])]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["runs"] == found["runs"]
    assert all(command.endswith(" --overwrite") for command in again["commands"])


# ---------------------------------------------------------------------------------------------- what it says
def outcome(without: tuple[float, float], replayed: tuple[float, float]) -> dict[str, Any]:
    """A result with these gains and forgettings."""
    runs = [{"tokens": 1000, "domain_gain": gain, "forgetting": forgetting} for gain, forgetting in (without, replayed)]
    sets = {"domain": {"documents": 6}, "general": {"documents": 44}}
    return {"quick": False, "seed": 0, "held_out": sets, "runs": runs}


@pytest.mark.parametrize(
    ("without", "replayed", "said"),
    [
        ((0.9, 0.3), (0.85, 0.06), "80% less forgetting, for 0.050 less gain."),
        ((0.9, 0.3), (0.95, 0.33), "10% more forgetting, for 0.050 more gain."),
        ((0.9, 0.3), (0.8, -0.03), "With 15% replay it got 0.800 better and forgot nothing, for 0.100 less gain."),
        ((0.9, -0.1), (0.8, -0.2), "these runs say nothing about replay."),
    ],
)
def test_the_reading_follows_the_numbers(
    without: tuple[float, float], replayed: tuple[float, float], said: str
) -> None:
    assert result.reading(outcome(without, replayed)).endswith(said)
