"""The pipelines under examples/ are right as they are, and run when they are cut to seconds."""

import json
import os
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tunesmith.cli.main import main
from tunesmith.runfile import read_run_file

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples" / "pipelines").glob("*.yaml"))
DOCS = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
TINY = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300,
    "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
SUMS = {"name": "arithmetic", "digits": 1, "num_rows": 60}
ONLINE = {"max_new_tokens": 6, "group_size": 2, "force": True, "probe": 0}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def cut(name, stage):
    """Settings of a stage that make it short; what it reads, and what is wired to what, stays."""
    if "command" in stage:
        words = [
            SUMS if isinstance(word, dict) and word["name"] == "arithmetic" else word for word in stage["arguments"]
        ]
        return {"arguments": [6 if words[i - 1] == "--max-new-tokens" else word for i, word in enumerate(words)]}
    changed = {"max_steps": 2, "batch_size": 4, "gates": []}
    if name == "base":
        return {**changed, "vocab_size": 300, "max_length": 64}
    if "thinking_tag" in stage:
        changed["thinking_tag"] = None
    if "rewards" in stage:
        return {**changed, **ONLINE}
    if stage["method"] == "sft":  # so that answers end, and some are right by chance
        demonstrations = {**SUMS, "map": {"completion": "answer"}}
        data = stage["data"] if isinstance(stage["data"], list) else [stage["data"]]
        kept = [one for one in data if one["name"] == "samples"]
        return {**changed, "batch_size": 16, "max_steps": 40, "learning_rate": 0.01, "data": [*kept, demonstrations]}
    return changed


def few(said):
    """The same settings, text sources reading few files."""
    if isinstance(said, dict):
        return {key: 2 if key == "max_files" else few(value) for key, value in said.items()}
    return [few(value) for value in said] if isinstance(said, list) else said


def overrides(path, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(TINY))
    stages = read_run_file(path)["stages"]
    changes = {name: {**few(stage), **cut(name, few(stage))} for name, stage in stages.items()}
    changes["base"]["model"] = str(config)
    return [
        f"--set={name}.{key}={json.dumps(value)}" for name, change in changes.items() for key, value in change.items()
    ]


def test_there_is_one_for_every_decision_of_the_guide():
    assert {path.stem for path in FILES} == {"facts", "lifecycle", "limited-data", "r1", "reasoning", "style"}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert f"tunesmith run {path.relative_to(ROOT)}" in text, "it says how it is run"
        assert read_run_file(path)["output"] == f"runs/{path.stem}"
        assert "# real:" in text, "it says what to change for a real model"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_stage_of_the_file_is_right(path, capfd, tmp_path):
    assert main(["run", str(path), "--output", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:]] == list(read_run_file(path)["stages"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_to_its_end_and_leaves_a_page(path, capfd, tmp_path):
    out = tmp_path / "out"
    assert main(["run", str(path), "--output", str(out), *overrides(path, tmp_path)]) == 0, capfd.readouterr().err
    stages = read_run_file(path)["stages"]
    records = json.loads((out / "pipeline.json").read_text())["stages"]
    assert list(records) == list(stages) and all(record["finished"] for record in records.values())
    links = Links((out / "report.html").read_text(encoding="utf-8")).found
    assert len([link for link in links if link.endswith("/report.html")]) == sum(
        "method" in one for one in stages.values()
    )
    for link in links:
        assert link.startswith("#") or (out / link).is_file(), link


class Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.append(dict(attributes)["href"])


# ---------------------------------------------------------------------------------------------- docs/pipelines.md
def test_the_page_on_pipelines_does_what_it_says(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "examples", tmp_path / "examples")
    [file] = re.findall(r"^```yaml\n(.*?)^```$", DOCS, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "pipe.yaml").write_text(file)
    [commands] = re.findall(r"^```sh\n(.*?)^```$", DOCS, flags=re.DOTALL | re.MULTILINE)
    said = []
    for line in commands.splitlines():
        _, *words = shlex.split(line)
        assert main(words) == 0, line
        said.append(capfd.readouterr())
    stages = list(yaml.safe_load(file)["stages"])
    assert [line.split()[0] for line in said[0].out.splitlines()] == ["stage", *stages]
    assert said[1].out == "runs/pipe/sums/model\n" and said[2].err.count("done already") == 2
    assert said[3].err.count("done already") == 3 and said[4].err.count("done already") == 4
    for name in ("report.html", "pipeline.json", "pipeline.yaml"):
        assert f"`{name}`" in DOCS and (tmp_path / "runs" / "pipe" / name).is_file()
