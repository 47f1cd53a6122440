"""Rows that a method measures the model on: read and judged like others, and never trained."""

import json
from pathlib import Path

import pytest

from tunesmith import ConfigError, plugins
from tunesmith.config import Layers, resolve
from tunesmith.runner.launch import start


@pytest.fixture(scope="module")
def registry():
    return plugins.load(files=[Path(__file__).with_name("probes_plugin.py")])


@pytest.fixture
def run(registry, tiny_model, texts, tmp_path):
    def go(**more):
        flags = {"model": str(tiny_model), "data": str(texts), "output": str(tmp_path / "run"), "batch_size": 4}
        flags |= {"max_steps": 2, "max_length": 40, "overlong": "split", "learning_rate": 1e-3, **more}
        start(resolve(registry, "prober", Layers(flags=flags)), registry, overwrite=True)
        return tmp_path / "run"

    return go


@pytest.fixture
def demos(tmp_path):
    rows = [{"prompt": f"Number {i}?", "completion": f"It is {i}."} for i in range(6)]
    rows.append({"prompt": "long " * 60, "completion": "answer"})
    path = tmp_path / "demos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_to_measure_on_are_at_hand_and_not_in_the_mix(run, texts, demos, metrics):
    alone = metrics(run())
    found = run(texts=str(texts), demos=demos)
    after = metrics(found)
    assert after[0]["trees/demos"] == 6
    assert after[0]["trees/texts"] == after[0]["trees/train"] == alone[0]["trees/train"]
    assert [line["loss"] for line in after] == [line["loss"] for line in alone], "the same rows were trained on"
    assert not any(key.startswith("mix/") for line in after for key in line)
    sources = json.loads((found / "manifest.json").read_text())["data"]
    assert [source["group"] for source in sources] == ["train", "texts", "demos"]


def test_nothing_is_held_out_of_them_and_what_is_held_out_is_not_measured_on(run, texts, metrics):
    found = run(texts=str(texts), holdout=0.3)
    report = {source["group"]: source for source in json.loads((found / "data_report.json").read_text())["sources"]}
    assert report["train"]["held_out"] == report["texts"]["held_out"] > 0
    assert [key for key in metrics(found)[0] if key.startswith("eval/") and key.endswith("/loss")] == [
        "eval/train/loss"
    ]


def test_a_long_demonstration_is_left_out_where_texts_are_split(run, texts, demos):
    found = run(demos=demos)
    report = {source["group"]: source for source in json.loads((found / "data_report.json").read_text())["sources"]}
    assert (report["demos"]["used"], report["demos"]["dropped"]) == (6, 1)


def test_a_method_may_refuse_adapters(run):
    with pytest.raises(ConfigError, match="the method 'prober' takes none"):
        run(adapter="lora")
