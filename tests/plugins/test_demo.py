"""The demo: real runs, all models measured on what none of them has trained on, and words that follow the numbers."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tunesmith import DataSpec
from tunesmith.cli.main import main
from tunesmith.config import build
from tunesmith.plugins import Registry
from tunesmith_plugins.demo import result, stages, sums
from tunesmith_plugins.demo.stages import FULL, QUICK, STAGES
from tunesmith_plugins.sources.arithmetic import Arithmetic

METHODS = ["pt", "cpt", "sft", "dpo", "grpo", "rloo"]


class Demo(NamedTuple):
    """A demo that was run: its folder, what it printed, and its result."""

    folder: Path
    out: str
    err: str
    found: dict[str, Any]


def run(*words: str) -> tuple[int, str, str]:
    """What a command prints, from within a fixture of a module."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def made(folder: Path, *words: str) -> Demo:
    code, out, err = run("demo", *words, "--output", str(folder))
    assert code == 0, err
    return Demo(folder, out, err, json.loads((folder / "result.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The quick demo."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
        yield made(folder / "made", "--quick", "--seed", "3")


# ---------------------------------------------------------------------------------------------- what it prints
def test_the_table_has_every_stage_with_the_numbers_of_the_result(demo: Demo) -> None:
    rows = {line.split()[0]: line for line in demo.out.splitlines() if re.match(r"[A-Z]+ +\d+\.\d%", line)}
    assert [stage["method"] for stage in demo.found["stages"]] == METHODS
    for stage in demo.found["stages"]:
        row = rows[result.NAMES[stage["method"]]]
        assert f"{stage['accuracy']['value']:.1%} (" in row
        assert f"{stage['prose_loss']['value']:.3f}" in row
        assert (stage["forgetting"] is None) == (stage["method"] == "pt")
        if stage["forgetting"]:
            assert f"{stage['forgetting']['value']:+.3f}" in row
    assert demo.out.count("sampled answers to each of") == 1
    assert "too short to say anything" in " ".join(demo.out.split())


def test_it_prints_the_commands_that_it_runs_in_lines_that_fit(demo: Demo) -> None:
    said = demo.err.replace(" \\\n", " ")
    printed = [shlex.split(line) for line in said.splitlines() if re.match("  tunesmith (run|eval) ", line)]
    assert printed == [shlex.split(command) for command in demo.found["commands"]]
    assert [words[2] for words in printed if words[1] == "run"] == METHODS
    assert [words[1] for words in printed].count("eval") == 2
    lines = [line.removesuffix(" \\") for line in demo.err.splitlines() if line.endswith("\\")]
    assert all(len(line) <= stages.LINE or len(re.findall("--| /", line)) <= 2 for line in lines), "one flag, long path"


def test_the_numbers_are_those_of_the_runs(demo: Demo) -> None:
    by_method = {stage["method"]: stage for stage in demo.found["stages"]}
    for method in ("pt", "cpt"):
        folder = Path(by_method[method]["folder"])
        lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses = [line["eval/prose/loss"] for line in lines if "eval/prose/loss" in line]
        assert by_method[method]["prose_loss"]["value"] == pytest.approx(losses[-1], rel=1e-5)
        assert losses[-1] < losses[0]
    for stage in demo.found["stages"][1:]:
        grown = stage["prose_loss"]["value"] - by_method["pt"]["prose_loss"]["value"]
        assert stage["forgetting"]["value"] == pytest.approx(grown, abs=1e-9)
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in demo.found["cpu_seconds"].values())


def test_accuracy_and_format_are_those_of_the_answers(demo: Demo) -> None:
    answers = [json.loads(line) for line in (demo.folder / "answers.jsonl").read_text().splitlines()]
    for stage in demo.found["stages"]:
        own = [one for one in answers if one["model"] == f"{stage['folder']}/model" and not one["greedy"]]
        assert len(own) == QUICK.held_out * QUICK.samples
        right = sum(one["rewards"]["numeric"] for one in own) / len(own)
        assert stage["accuracy"]["value"] == pytest.approx(right)
        assert stage["format"] == pytest.approx(sum(one["rewards"]["format"] for one in own) / len(own))
        assert (stage["change"] is None) == (stage["method"] not in result.LEARNERS)


def test_every_stage_starts_from_the_one_that_it_says(demo: Demo) -> None:
    starts = {stage["method"]: stage["starts_from"] for stage in demo.found["stages"]}
    assert starts == {"pt": None, "cpt": "pt", "sft": "cpt", "dpo": "sft", "grpo": "sft", "rloo": "sft"}
    for stage in STAGES:
        settings = yaml.safe_load((demo.folder / stage.folder / "run.yaml").read_text(encoding="utf-8"))
        start = demo.folder / "config.json" if stage.start is None else stages.model_of(stage.start, demo.folder)
        assert settings["model"] == str(start)
        assert (demo.folder / stage.folder / "model" / "model.safetensors").is_file()


def test_the_page_stands_alone_and_holds_the_table_and_the_answers(demo: Demo) -> None:
    page = (demo.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)
    for row in result.table(demo.found):
        assert all(cell in page for cell in row)
    assert page.count("<svg") >= 3
    assert "What is " in page
    linked = re.findall(r'href="?([\w-]+/report\.html)', page)
    assert linked == [f"{stage.folder}/report.html" for stage in STAGES]
    assert all((demo.folder / path).is_file() for path in linked)
    assert page.count("tunesmith run ") == len(STAGES)


def test_the_page_shows_answers_as_they_are(demo: Demo, tmp_path: Path) -> None:
    from tunesmith_plugins.demo import page

    for stage in STAGES:
        (tmp_path / stage.folder).mkdir()
        (tmp_path / stage.folder / "metrics.jsonl").write_text('{"step": 1, "rewards/numeric/mean": 0.5}\n')
    answer = {
        "greedy": True, "row": 0, "model": str(stages.model_of("sft", tmp_path)), "prompt": "What is 1 + 1?",
        "completion": "<thinking>1+1=2</thinking><script>2", "rewards": {"numeric": 0.0},
    }  # fmt: skip
    (tmp_path / "answers.jsonl").write_text(json.dumps(answer) + "\n")
    text = page.make(demo.found, tmp_path).render()
    assert "&lt;thinking&gt;1+1=2&lt;/thinking&gt;&lt;script&gt;2" in text


# ---------------------------------------------------------------------------------------------- held out
def given(words: list[str], *flags: str) -> Iterator[Mapping[str, Any]]:
    """The values of some flags of a command."""
    for flag, value in pairwise(words):
        if flag in flags and value.startswith("{"):
            yield yaml.safe_load(value)


def rows(registry: Registry, spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    context = {"build": lambda kind, said: build(registry, kind, said)}
    spec = {key: value for key, value in spec.items() if key != "label"}
    return [row.data for row in DataSpec.model_validate(spec, context=context).source.rows()]


def texts(registry: Registry, *specs: Mapping[str, Any]) -> set[str]:
    """All documents of the prose among some sources, each source read once."""
    wanted = [{key: value for key, value in spec.items() if key != "label"} for spec in specs]
    prose = [spec for i, spec in enumerate(wanted) if spec.get("name") == "python-docs" and spec not in wanted[:i]]
    return {str(row["text"]) for spec in prose for row in rows(registry, spec)}


def numbers(prompt: str) -> frozenset[str]:
    return frozenset(re.findall(r"\d+", prompt.partition("?")[0]))


@pytest.mark.parametrize("size", [QUICK, FULL], ids=["quick", "full"])
def test_no_stage_trains_on_what_any_model_is_measured_on(size: stages.Size, registry: Registry) -> None:
    output = Path("x")
    training = [stages.training(size, stage, output, 0, False) for stage in STAGES]
    measuring = stages.measuring(size, output, 0)
    (asked,) = given(measuring["accuracy"], "--data")
    (prose,) = given(measuring["prose"], "--text")
    unseen = texts(registry, prose)
    trained = [spec for words in training for spec in given(words, "--data", "--replay")]
    assert len(unseen) > 3
    assert not unseen & texts(registry, *trained)
    held_out = {numbers(row["prompt"]) for row in rows(registry, asked)}
    drawn = {numbers(row["prompt"]) for spec in trained if spec["name"] == "arithmetic" for row in rows(registry, spec)}
    assert len(drawn) > 5
    assert not held_out & drawn
    evaluated = [spec for words in training for spec in given(words, "--eval-data") if "name" in spec]
    assert texts(registry, *evaluated) == unseen


def test_files_that_are_trained_on_hold_no_pair_of_numbers_that_is_measured_on(demo: Demo) -> None:
    def pairs(name: str) -> set[frozenset[str]]:
        lines = map(json.loads, (demo.folder / "data" / name).read_text().splitlines())
        return {numbers(line.get("prompt") or line["text"]) for line in lines}

    asked = pairs(stages.HELD_OUT_TEXTS)
    assert len(asked) > 5
    assert not asked & set().union(*(pairs(name) for name in stages.DATA.values()))


# ---------------------------------------------------------------------------------------------- its texts
def test_steps_work_out_every_problem_and_mistakes_reach_the_answer() -> None:
    chance = random.Random(0)
    for prompt, steps, answer in sums.problems(Arithmetic(num_rows=300, digits=3)):
        assert all(eval(left) == int(total) for left, total in (step.split("=") for step in steps))
        assert follows(prompt, steps) == answer
        wrong, other = sums.mistaken(steps, answer, chance)
        assert other != answer
        assert sum(a != b for a, b in zip(steps, wrong, strict=True)) == 1
        assert follows(prompt, wrong) == other


def follows(prompt: str, steps: list[str]) -> int:
    """The answer that the steps lead to: the last digit of each, and a carry that is left."""
    totals = [int(step.partition("=")[2]) for step in steps]
    value = sum(total % 10 * 10**place for place, total in enumerate(totals))
    return value + (10 ** len(steps) if "+" in prompt and totals[-1] > 9 else 0)


def test_about_the_said_share_of_the_worked_sums_is_wrong_and_no_other(tmp_path: Path) -> None:
    source = Arithmetic(num_rows=1000)
    answers = [row.data["answer"] for row in source.rows()]
    sums.write_demonstrations(tmp_path / "d.jsonl", source, 0)
    sums.write_texts(tmp_path / "t.jsonl", source, 0)
    sums.write_pairs(tmp_path / "p.jsonl", source, 0)
    said = {name: list(map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())) for name in "dtp"}
    for texts in ([row["completion"] for row in said["d"]], [row["text"] for row in said["t"]]):
        wrong = sum(not re.search(rf"[ >]{answer}$", text) for text, answer in zip(texts, answers, strict=True))
        assert wrong / 1000 == pytest.approx(sums.WRONG, abs=0.05)
    for row, answer in zip(said["p"], answers, strict=True):
        assert row["chosen"].endswith(f">{answer}")
        assert not row["rejected"].endswith(f">{answer}")


# ---------------------------------------------------------------------------------------------- its folder
def test_a_used_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for output, message in ((tmp_path, "is used already"), (tmp_path / "mine.txt", "is a file")):
        code, _, err = run("demo", "--quick", "--output", str(output))
        assert code == 2
        assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("plugin", "missing"), [("rloo", "the method rloo"), ("format", "the reward format")])
def test_a_component_that_was_left_out_is_named_before_anything_is_done(
    tmp_path: Path, plugin: str, missing: str
) -> None:
    code, _, err = run("--no-plugin", plugin, "demo", "--quick", "--output", str(tmp_path / "made"))
    assert code == 2
    assert f"the demo needs {missing}" in err
    assert "Traceback" not in err
    assert not (tmp_path / "made").exists()


# ---------------------------------------------------------------------------------------------- what it says
def estimate(value: float, spread: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def outcome(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """A result in which all went well, with other values for some stages."""
    accuracy = {"pt": 0.0, "cpt": 0.3, "sft": 0.4, "dpo": 0.5, "grpo": 0.6, "rloo": 0.6}
    found = [
        {
            "method": method,
            "accuracy": estimate(accuracy[method]),
            "greedy": estimate(0.6),
            "change": estimate(accuracy[method] - 0.4) if method in result.LEARNERS else None,
            "format": 0.0 if method in ("pt", "cpt") else 0.98,
            "prose_loss": estimate(4.0),
            "forgetting": None if method == "pt" else estimate(0.2),
            **changes.get(method, {}),
        }
        for method in METHODS
    ]
    return {"quick": False, "seed": 0, "stages": found}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "From worked sums in plain text (CPT) the model has learned to add and subtract: 30% right, after 0%"),
        ({"cpt": {"accuracy": estimate(0.02)}}, "has not brought the model to add and subtract yet: 2% right"),
        ({}, "with 15% replay it forgot 0.200 nats per token of prose"),
        ({"cpt": {"forgetting": estimate(0.01)}}, "with 15% replay it forgot nothing of the prose that could be told"),
        ({"cpt": {"forgetting": estimate(-0.2)}}, "with 15% replay it forgot nothing of the prose that could be told"),
        ({"cpt": {"forgetting": None}}, "its loss on prose cannot be compared"),
        ({}, "The cold start (SFT) taught the form (answers in the wanted form: 98%, after 0%), at 40% right."),
        ({"sft": {"format": 0.3}}, "The cold start (SFT) has not taught the form (answers in the wanted form: 30%"),
        ({}, "GRPO made it better than the cold start (+20.0 points, +15.0 to +25.0)."),
        ({"grpo": {"change": estimate(-0.2)}}, "GRPO made it worse than the cold start (-20.0 points"),
        ({"rloo": {"change": estimate(0.04)}}, "RLOO changed nothing that can be told from chance (+4.0 points"),
        ({"dpo": {"greedy": estimate(0.5)}}, "in points: DPO -10, GRPO +0, RLOO +0."),
        ({}, "the loss on prose is above that of PT by SFT 0.20, DPO 0.20, GRPO 0.20, RLOO 0.20."),
        ({"sft": {"forgetting": estimate(0.0)}}, "above that of PT by DPO 0.20, GRPO 0.20, RLOO 0.20."),
        ({m: {"forgetting": estimate(0.0)} for m in METHODS[2:]}, "No stage after CPT is worse at prose"),
    ],
)
def test_the_reading_follows_the_numbers(changes: Mapping[str, Any], said: str) -> None:
    assert said in " ".join(result.reading(outcome(**changes)))


def test_the_limits_say_what_is_not_shown() -> None:
    full, quick = (result.limits({**outcome(), "quick": quick}) for quick in (False, True))
    assert "one seed (0)" in full
    assert "wrong on purpose" in full
    assert "too short" in quick


# ---------------------------------------------------------------------------------------------- the whole of it
@pytest.mark.slow
def test_every_stage_of_the_full_demo_does_its_job(tmp_path: Path) -> None:
    before = os.times()
    found = {stage["method"]: stage for stage in made(tmp_path / "made").found["stages"]}
    after = os.times()
    assert sum(after[:4]) - sum(before[:4]) < 300
    assert found["cpt"]["accuracy"]["low"] > found["pt"]["accuracy"]["high"]
    assert found["cpt"]["forgetting"]["value"] < 0.1
    assert found["sft"]["format"] > 0.9
    assert all(found[method]["change"]["low"] > 0 for method in result.LEARNERS)
