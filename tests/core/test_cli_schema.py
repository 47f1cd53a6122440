"""The JSON schema of run files, and doctor."""

import json
from pathlib import Path

import jsonschema
import pytest

from tunesmith.plugins import load
from tunesmith.runfile import read_run_file
from tunesmith.settings import RunSettings

TOY = str(Path(__file__).parent / "toy_plugin.py")


# ---------------------------------------------------------------------------------------------- schema
@pytest.fixture(scope="module")
def schema():
    from tunesmith.cli.schema import run_file_schema

    found = run_file_schema(load(files=[Path(TOY)]))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_schema_is_printed_as_json(cli, schema):
    assert json.loads(cli("schema", "--plugin", TOY).out) == json.loads(json.dumps(schema.schema))
    assert schema.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_takes_every_resolved_run(cli, schema, tmp_path):
    registry = load(files=[Path(TOY)])
    assert set(schema.schema["properties"]["method"]["enum"]) == set(registry.names("method"))
    resolved = set()
    for name in registry.names("method"):
        result = cli("run", name, "--plugin", TOY, "--model", "m", "--data", "toy:3", "--dry-run")
        if result.code == 0:  # others need more than a model and data
            resolved.add(name)
            (tmp_path / "run.yaml").write_text(result.out)
            schema.validate(read_run_file(tmp_path / "run.yaml"))
    assert "toy" in resolved and len(resolved) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patience": 2, "preset": "wooden"},
        {"data": "x.jsonl"},
        {"data": ["x", {"path": "y", "weight": 0.3, "limit": 4}]},
        {"data": {"source": {"name": "toy-rows", "count": 3}, "weight": {"name": "toy-ramp", "final": 1}}},
        {"objective": "toy-sum"},
        {"objective": {"name": "toy-sum", "beta": 2}},
        {"objective": {"beta": 2}},
        {"schedule": None, "shadow": "toy-ramp"},
        {"trackers": "toy-tracker", "lora_targets": "q_proj"},
        {"trackers": [{"name": "toy-tracker", "folder": "x"}]},
        {"plugins": {"files": ["x.py"], "block": [], "require": ["a>=1"]}},
    ],
)
def test_schema_takes_what_the_command_line_takes(schema, settings):
    schema.validate({"method": "toy", **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"pateince": 2},
        {"patience": 0},
        {"replay": "x"},
        {"preset": "plastic"},
        {"data": [{"path": "y", "wieght": 0.3}]},
        {"data": {"source": {"name": "toy-rows", "cuont": 3}}},
        {"objective": "toy-sun"},
        {"objective": {"name": "toy-sum", "bta": 2}},
        {"schedule": {"name": "toy-ramp", "wramup": 2}},
        {"trackers": ["toy-trucker"]},
        {"dtype": "fp16"},
        {"plugins": {"fils": []}},
    ],
)
def test_schema_marks_what_the_command_line_refuses(schema, settings):
    assert not schema.is_valid({"method": "toy", **settings})


def test_schema_describes_every_setting(schema):
    properties = schema.schema["properties"]
    assert [name for name in RunSettings.model_fields if not properties[name].get("description")] == []
    (toy,) = (
        rule["then"]["properties"]
        for rule in schema.schema["allOf"]
        if rule["if"]["properties"]["method"]["const"] == "toy"
    )
    assert toy["patience"]["description"] == "Steps to wait." and toy["patience"]["default"] == 3
    assert toy["learning_rate"] == {"default": 1e-3} and "default" not in properties["learning_rate"]


# ---------------------------------------------------------------------------------------------- doctor
def test_doctor_reports_and_finds_this_environment_fit(cli):
    result = cli("doctor", "--json")
    report = json.loads(result.out)
    assert report["ok"] is (result.code == 0)
    checks = {check["name"]: check for check in report["checks"]}
    assert {"python", "torch", "cpu", "auto", "hub cache", "token cache", "runs", "loaded"} <= set(checks)
    assert checks["torch"]["status"] == "ok" and "a run computes on" in checks["auto"]["detail"]


def test_doctor_exits_with_4_when_something_required_is_broken(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["torch>=999", "not-a-package-at-all>=2", "x; extra == 'e'"]
    )
    result = cli("doctor")
    assert result.code == 4
    lines = {tuple(line.split()[:2]): line for line in result.out.splitlines()}
    assert "needs >=999; pip install 'torch>=999'" in lines["broken", "torch"]
    assert "not installed, needs >=2" in lines["broken", "not-a-package-at-all"]
    assert "cannot write to" in lines["broken", "token"] and "TUNESMITH_CACHE" in lines["broken", "token"]


def test_doctor_says_what_works_without_a_connection(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    offline = {c["name"]: c for c in json.loads(cli("doctor", "--json").out)["checks"]}
    assert offline["offline"]["status"] == "note" and "0 models" in offline["hub cache"]["detail"]
    (tmp_path / "hub" / "models--a--b").mkdir(parents=True)
    ready = {c["name"]: c for c in json.loads(cli("doctor", "--json").out)["checks"]}
    assert "offline" not in ready and "1 models" in ready["hub cache"]["detail"]
