"""Stages in one file: run once, gone on with, run anew on request, held up by gates."""

import json
import os
import signal
from pathlib import Path

import pytest

from tunesmith.cli.main import main
from tunesmith.runner.card import lineage_of


def standings(err: str) -> list[str]:
    """What was said of every stage, in order."""
    return [line.rpartition(")")[2] for line in err.splitlines() if line.startswith("stage    ")]


def test_stages_follow_each_other_and_are_not_run_twice(pipeline, stages, tmp_path):
    first = pipeline(stages)
    assert (first.code, first.out) == (0, "out/short/model\n"), first.err
    assert standings(first.err) == [""] * 4
    made = {
        name: (tmp_path / "out" / name / ("" if name == "words" else "model")).stat().st_mtime_ns for name in stages
    }
    again = pipeline(stages)
    assert (again.code, again.out) == (0, "out/short/model\n")
    assert standings(again.err) == [": done already, nothing has changed"] * 4
    for name, when in made.items():
        assert (tmp_path / "out" / name / ("" if name == "words" else "model")).stat().st_mtime_ns == when
    runs = [json.loads((tmp_path / "out" / name / "manifest.json").read_text()) for name in ("domain", "chat", "short")]
    assert all(run["processes"] == 1 for run in runs)


def test_the_lineage_goes_with_the_model(pipeline, stages, tiny_model, tmp_path):
    assert pipeline(stages).code == 0
    model = tmp_path / "out" / "short" / "model"
    lineage = lineage_of(model)
    assert [one["method"] for one in lineage] == ["cpt", "vocab expand", "sft", "sft"]
    assert lineage[0]["model"] == str(tiny_model) and lineage[2]["model"] == "out/words"
    assert [source["rows"] for one in lineage if one["method"] == "sft" for source in one["data"]] == [24, 24]
    card = (model / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\ntags: [tunesmith, cpt, vocab-expand, sft]\n---\n")
    assert "| 3 | `sft` | nll | `chats` (24 rows) | 2 |" in card


def test_changed_stage_is_refused_then_run_anew_with_all_that_follows(pipeline, stages):
    assert pipeline(stages).code == 0
    stages["chat"]["max_steps"] = 3
    refused = pipeline(stages)
    assert refused.code == 2 and "the stage chat has changed since it was run" in refused.err
    assert "max_steps: 2 -> 3" in refused.err and "--overwrite" in refused.err
    plan = pipeline(stages, "--dry-run")
    assert plan.code == 0
    assert [line.split()[0] for line in plan.out.splitlines()] == ["stage", *stages]
    assert "has changed: max_steps: 2 -> 3" in plan.out and plan.out.count("done, nothing has changed") == 2
    anew = pipeline(stages, "--overwrite")
    assert anew.code == 0, anew.err
    assert standings(anew.err) == [": done already, nothing has changed"] * 2 + [""] * 2


def test_changed_rows_are_a_change_and_new_paths_of_the_same_are_not(pipeline, stages, chats, tmp_path):
    (tmp_path / "rows.jsonl").write_text(chats.read_text())
    stages["short"]["data"] = "rows.jsonl"
    assert pipeline(stages).code == 0
    (tmp_path / "rows.jsonl").write_text(chats.read_text().replace("Say number", "Tell number"))
    refused = pipeline(stages)
    assert refused.code == 2 and "the rows of rows changed" in refused.err
    (tmp_path / "rows.jsonl").write_text(chats.read_text())
    assert pipeline(stages).code == 0


def test_settings_that_change_no_result_are_no_change(pipeline, stages):
    assert pipeline(stages).code == 0
    stages["chat"] |= {"log_every": 1, "micro_tokens": 300}
    assert standings(pipeline(stages).err) == [": done already, nothing has changed"] * 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_its_third_stage_it_goes_on_to_the_same_weights(pipeline, stages, weights, tmp_path, number, capfd):
    listener = tmp_path / "stops.py"
    listener.write_text(
        "import os, signal, tunesmith\n\n\n@tunesmith.hookimpl\ndef tunesmith_step_ended(run, step):\n"
        "    if run.output.name == 'chat' and step == 2 and os.environ.pop('STOP', None):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
    )
    stages["chat"]["max_steps"] = 4
    plugins = {"files": [str(listener)]}
    os.environ["STOP"] = "1"
    stopped = pipeline(stages, plugins=plugins)
    assert stopped.code == {signal.SIGTERM: 75, signal.SIGINT: 130}[number]
    assert "stopped on request after step 2 of 4; saved" in stopped.err and "tunesmith resume out" in stopped.err
    assert not (tmp_path / "out" / "short").exists()
    assert main(["resume", "out"]) == 0
    went_on = capfd.readouterr()
    assert standings(went_on.err) == [": done already, nothing has changed"] * 2 + [": goes on", ""]
    assert "steps 3 to 4 of 4" in " ".join(went_on.err.split()) or "steps 3 to 4" in went_on.err
    straight = pipeline(stages, "--output", "straight", plugins=plugins)
    assert straight.code == 0
    one, other = (weights(tmp_path / folder / "short" / "model") for folder in ("out", "straight"))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_rows_that_an_earlier_stage_writes(pipeline, stages, tmp_path):
    """A file in the folder of a stage; it is checked when it is there, and counts as an input."""
    stages["again"] = {"method": "sft", "model": "stages.short", "data": "stages.words/made.jsonl", "max_steps": 1}
    lost = pipeline(stages)
    assert lost.code != 0 and "made.jsonl" in lost.err
    (tmp_path / "out" / "words" / "made.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 4)


def test_a_command_may_write_a_file_that_the_next_stage_reads(pipeline, stages, tmp_path):
    asked = {"name": "arithmetic", "digits": 1, "num_rows": 6}
    words = ["stages.chat", "--data", asked, "--reward", "numeric", "--samples", 1, "--max-new-tokens", 2]
    said = {"command": "eval", "arguments": words, "writes": "answers.jsonl"}
    used = {"method": "sft", "model": "stages.chat", "data": "stages.said/answers.jsonl", "max_steps": 1}
    del stages["short"]
    found = pipeline({**stages, "said": said}, "--until", "said")
    assert (found.code, found.out) == (0, "out/said\n"), found.err
    lines = (tmp_path / "out" / "said" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 12 and all(json.loads(line)["model"] == "out/chat/model" for line in lines)
    assert standings(pipeline({**stages, "said": said}).err)[-1] == ": done already, nothing has changed"
    words[2] = {**asked, "seed": 1}
    changed = pipeline({**stages, "said": said, "used": used}, "--dry-run")
    assert "has changed: words.3.seed: None -> 1" in " ".join(changed.out.split())


def test_the_text_of_a_plugin_file_counts(pipeline, stages, tmp_path):
    file = tmp_path / "steady.py"
    file.write_text(
        "import tunesmith\nfrom tunesmith import Scheduler\n\n\nclass Steady(Scheduler):\n"
        '    """One."""\n\n    name = "steady"\n\n    def shape(self, step, total):\n        """One."""\n'
        "        return 1.0\n\n\n@tunesmith.hookimpl\ndef tunesmith_register_schedulers():\n    return [Steady]\n"
    )
    one = {"domain": {**stages["domain"], "schedule": "steady"}}
    assert pipeline(one, plugins={"files": ["steady.py"]}).code == 0
    file.write_text(file.read_text().replace("return 1.0", "return 0.5"))
    refused = pipeline(one, plugins={"files": ["steady.py"]})
    assert refused.code == 2 and "version of" in refused.err and "steady.py" in refused.err, refused.err


def test_the_page_shows_stages_gates_and_where_the_model_comes_from(pipeline, stages, tmp_path):
    stages["chat"]["gates"] = [{"metric": "loss", "max": 100}]
    stages["short"]["gates"] = [{"metric": "loss", "max": 0.001}]
    assert pipeline(stages).code == 7
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 of 4 stages done" in page and "held up by a gate" in page and "not passed" in page
    assert all(f'href="{name}/report.html"' in page for name in ("domain", "chat", "short"))
    assert "vocab expand</td>" in page and "chats (24 rows)" in page


# ---------------------------------------------------------------------------------------------- gates
def gated(stages, *gates):
    return {"chat": {**stages["chat"], "model": stages["domain"]["model"], "gates": list(gates)}, **{
        "short": stages["short"]
    }}  # fmt: skip


def test_gates_hold_up_what_follows_and_may_be_changed(pipeline, stages, tmp_path):
    prompts = {"name": "arithmetic", "num_rows": 3, "split": "test"}
    asked = {"data": prompts, "reward": "numeric", "samples": 2, "max_new_tokens": 3}
    held = pipeline(gated(stages, {"answers": asked, "min": 0.5}, {"metric": "loss", "max": 100}))
    assert held.code == 7
    assert "the stage chat did not pass: pass@1 by numeric is 0, not at least 0.5" in held.err
    assert "gate     loss: " in held.err, "all gates are measured, so that one sees all that is wrong"
    assert not (tmp_path / "out" / "short").exists()
    loosened = pipeline(gated(stages, {"answers": asked, "max": 0.5}, {"metric": "loss", "max": 100}))
    assert loosened.code == 0, loosened.err
    assert standings(loosened.err) == [": done already, nothing has changed", ""]
    record = json.loads((tmp_path / "out" / "pipeline.json").read_text())["stages"]["chat"]
    assert sorted(found["gate"] for found in record["gates"].values()) == ["loss", "pass@1 by numeric"]


def test_forgetting_is_measured_against_the_start_of_the_stage(pipeline, stages, texts):
    budget = {"forgetting": {"data": str(texts)}}
    found = pipeline(gated(stages, {**budget, "max": -1}))
    assert found.code == 7 and "forgetting in bits per byte" in found.err
    stages["chat"] |= {"max_steps": 1, "learning_rate": 1e-30}
    exact = pipeline(gated(stages, {**budget, "min": 0, "max": 0}), "--output", "still")
    assert exact.code == 0, exact.err


def test_metric_that_is_not_logged_is_an_error(pipeline, stages):
    found = pipeline(gated(stages, {"metric": "lost", "max": 1}))
    assert found.code == 2 and "the gate's metric 'lost' is not in" in found.err and "did you mean 'loss'?" in found.err


# ---------------------------------------------------------------------------------------------- what is refused
def wrong(stages, name, **changes):
    return {**stages, name: {**stages[name], **changes}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: wrong(s, "short", model="stages.chatt"),
            "reads stages.chatt, which is no stage; did you mean 'chat'?",
        ),
        (lambda s: wrong(s, "domain", model="stages.short"), "reads stages.short, which does not come before it"),
        (lambda s: wrong(s, "chat", model="stages.chat"), "reads stages.chat, which does not come before it"),
        (lambda s: wrong(s, "short", max_stepz=3), "max_stepz"),
        (lambda s: wrong(s, "short", method="sftt"), "there is no method 'sftt'; did you mean 'sft'?"),
        (lambda s: wrong(s, "short", command="vocab expand"), "needs a method or a command, and not both"),
        (lambda s: wrong(s, "words", method="sft"), "needs a method or a command, and not both"),
        (lambda s: wrong(s, "words", pieces=3), "a command has no 'pieces'"),
        (lambda s: wrong(s, "short", output="x"), "a stage has no output of its own"),
        (lambda s: wrong(s, "short", gates=[{"metric": "loss"}]), "a gate needs min, max, or both"),
        (lambda s: wrong(s, "short", gates=[{"metric": "loss", "min": 2, "max": 1}]), "min 2 is above max 1"),
        (lambda s: wrong(s, "short", gates=[{"metrics": "loss", "max": 1}]), "a gate measures one of metric, answers"),
        (lambda s: wrong(s, "short", gates=[{"metric": "loss", "mx": 1}]), "a gate has no 'mx'"),
        (lambda s: wrong(s, "short", gates=[{"answers": {"data": "x"}, "max": 1}]), "a mapping with data and reward"),
        (
            lambda s: wrong(s, "short", gates=[{"answers": {"data": "arithmetic", "reward": "numerik"}, "max": 1}]),
            "there is no reward 'numerik'",
        ),
        (lambda s: wrong(s, "short", writes="x.jsonl"), "writes belongs to a command"),
        (lambda s: wrong(s, "words", writes="a/b"), "writes: 'a/b' is not the name of a file"),
        (lambda s: wrong(s, "words", writes="a.jsonl"), "reads stages.words, which is no model"),
        (lambda s: {**s, "Short One": s["short"]}, "must be called like 'cold-start'"),
        (lambda s: {}, "stages: write NAME"),
    ],
)
def test_mistakes_in_any_stage_are_found_before_the_first_is_run(pipeline, stages, change, said, tmp_path):
    found = pipeline(change(stages))
    assert found.code == 2 and said in " ".join(found.err.split()), found.err
    assert "pipe.yaml" in found.err
    assert not (tmp_path / "out").exists()


def test_bad_rows_of_the_last_stage_are_found_before_the_first_is_run(pipeline, stages, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": 7}\n')
    stages["short"]["data"] = "bad.jsonl"
    found = pipeline(stages)
    assert found.code == 3 and "stage short" in found.err and "row 2" in found.err
    assert not (tmp_path / "out").exists()


def test_settings_of_the_file_and_of_the_command_line(pipeline, stages, tmp_path):
    short = {"chat": {**stages["chat"], "model": stages["domain"]["model"]}}
    assert pipeline(short, "--set", "chat.max_steps=1", "--set", "chat.schedule.name=constant").code == 0
    written = (tmp_path / "out" / "chat" / "run.yaml").read_text()
    assert "max_steps: 1" in written and "name: constant" in written and "seed: 1" in written
    for text, said in {
        "max_steps=1": "write STAGE.SETTING=VALUE", "chatt.max_steps=1": "did you mean 'chat'?",
    }.items():  # fmt: skip
        refused = pipeline(short, "--set", text)
        assert refused.code == 2 and said in refused.err
    unknown = pipeline(short, defaults={"max_stepz": 1})
    assert unknown.code == 2 and "defaults: no stage has a setting 'max_stepz'" in unknown.err
    assert pipeline(short, "--until", "chatt").code == 2


def test_a_folder_of_something_else_is_left_alone(pipeline, stages, tmp_path):
    (tmp_path / "out" / "domain").mkdir(parents=True)
    (tmp_path / "out" / "domain" / "mine.txt").write_text("x")
    found = pipeline(stages)
    assert found.code == 2 and "is used already, and not by this pipeline" in found.err
    assert Path(tmp_path / "out" / "domain" / "mine.txt").read_text() == "x"


def test_runs_started_by_a_launcher(pipeline, stages, tmp_path):
    """The launcher's words come before those of the run; its exit code is that of the pipeline."""
    script = tmp_path / "launcher.sh"
    script.write_text("#!/bin/sh\nprintf '%s ' \"$@\" > words.txt\nexit 3\n")
    script.chmod(0o755)
    found = pipeline(stages, launcher=[str(script), "-n", 2])
    assert found.code == 3 and "the stage domain ended with exit code 3" in found.err
    assert (tmp_path / "words.txt").read_text() == "-n 2 -m tunesmith run out/domain.yaml "
    missing = pipeline(stages, "--overwrite", launcher="no-such-launcher -n 2")
    assert missing.code == 4 and "there is no program 'no-such-launcher'" in missing.err


def test_a_pipeline_is_not_started_by_a_launcher_itself(pipeline, stages, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = pipeline(stages)
    assert found.code == 2 and "a pipeline is started once" in found.err
