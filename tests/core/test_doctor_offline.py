"""What a run would ask a network for; versions that tunesmith is tested with."""

import json
import re
import socket
from pathlib import Path

import pytest

from tunesmith.cli import doctor
from tunesmith.cli.offline import needs_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path, monkeypatch):
    """``HF_HUB_CACHE`` of the test."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def in_hub(tmp_path, kind, name, *files):
    folder = tmp_path / "hub" / f"{kind}--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")


def missing(words):
    return {(one.kind, one.name) for one in needs_of(str(words)) if not one.there}


def run_file(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


# ---------------------------------------------------------------------------------------------- models
def test_models_in_folders_and_in_the_cache_are_there(tiny_model, tmp_path):
    in_hub(tmp_path, "models", "org/whole", "config.json", "model.safetensors", "tokenizer_config.json")
    in_hub(tmp_path, "models", "org/config-only", "config.json")
    in_hub(tmp_path, "models", "org/no-tokenizer", "config.json", "model.safetensors")
    assert missing(tiny_model) == missing("org/whole") == set()
    assert missing("org/config-only") == {("model", "org/config-only")}
    assert missing("org/no-tokenizer") == {("tokenizer", "org/no-tokenizer")}
    assert missing("org/nothing") == {("model", "org/nothing")}


def test_an_adapter_needs_its_base(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    for name in ("adapter_model.safetensors", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    assert missing(folder) == {("model", "org/base")}
    in_hub(tmp_path, "models", "org/base", "config.json", "model-00001-of-00002.safetensors")
    assert missing(folder) == set()


def test_a_path_that_is_not_there_names_the_nearest(tiny_model):
    [one] = needs_of(f"{tiny_model}x")
    assert not one.there and str(tiny_model) in one.detail


# ---------------------------------------------------------------------------------------------- run files
def test_everything_that_a_run_would_ask_for(tiny_model, tmp_path):
    path = run_file(
        tmp_path,
        f"""
method: grpo
model: {tiny_model}
reference_model: org/reference
data: {{name: arithmetic, num_rows: 8}}
eval_data: org/rows
rewards:
  - {{name: judge, base_url: "https://api.example.org/v1", model: m}}
  - {{name: reward-model, model: org/scores}}
  - numeric
""",
    )
    expected = {
        ("model", "org/reference"),
        ("dataset", "org/rows"),
        ("address", "https://api.example.org/v1"),
        ("model", "org/scores"),
    }
    assert missing(path) == expected
    in_hub(tmp_path, "models", "org/reference", "config.json", "model.safetensors", "tokenizer_config.json")
    (tmp_path / "datasets" / "org___rows" / "default").mkdir(parents=True)
    assert missing(path) == expected - {("model", "org/reference"), ("dataset", "org/rows")}


def test_an_endpoint_on_this_machine_must_answer(tiny_model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        text = f"method: grpo\nmodel: {tiny_model}\ndata: {{name: arithmetic, num_rows: 8}}\n"
        path = run_file(tmp_path, f"{text}rewards: [{{name: judge, base_url: '{url}', model: m}}]\n")
        assert missing(path) == set()
    assert missing(path) == {("address", url)}


def test_a_pipeline_needs_what_its_stages_do_not_make(tiny_model, texts, tmp_path):
    path = run_file(
        tmp_path,
        f"""
output: {tmp_path / "out"}
stages:
  first: {{method: cpt, model: {tiny_model}, data: {texts}, replay_share: 0}}
  second: {{method: dpo, model: stages.first, data: org/pairs, reference_model: org/other}}
""",
    )
    needed = {(one.name, one.use, one.there) for one in needs_of(str(path))}
    assert (str(tiny_model), "stage first: model", True) in needed
    assert missing(path) == {("dataset", "org/pairs"), ("model", "org/other")}


# ---------------------------------------------------------------------------------------------- the command
def test_the_command_takes_several_and_exits_with_4(cli, tiny_model):
    result = cli("doctor", "--offline", tiny_model, "org/nothing")
    assert result.code == 4 and "neither a folder nor in the hub cache" in result.out
    assert [line for line in result.out.splitlines() if line and line[0] != " "] == [str(tiny_model), "org/nothing"]
    found = json.loads(cli("doctor", "--json", "--offline", tiny_model).out)
    assert found["ok"] and {check["group"] for check in found["checks"]} == {str(tiny_model)}
    assert cli("doctor", "--offline").code == 2


def test_the_report_tells_sandbox_and_attention(cli):
    names = {(check["group"], check["name"]) for check in json.loads(cli("doctor", "--json").out)["checks"]}
    assert ("Devices", "attention") in names and "Sandbox" in {group for group, _ in names}


def test_tested_versions_are_those_of_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {name.lower(): number for name, _, number in (line.partition("==") for line in lines) if number}
    assert {name: pinned[name.lower()] for name in doctor.TESTED} == doctor.TESTED
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    names = re.findall(r'"([\w-]+)', wanted[1])
    assert set(names) <= set(doctor.TESTED) and len(names) > 10
