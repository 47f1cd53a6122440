"""A component that declares that it stands in for another one of its name: used, said, and never by chance."""

import json
from pathlib import Path

import pytest
import yaml

import tunesmith
from tunesmith.config import build
from tunesmith.plugins import Plugin, load

OBJECTIVE = """
from typing import ClassVar
import tunesmith

class Sigmoid(tunesmith.Objective):
    \"\"\"{summary}\"\"\"
    name: ClassVar[str] = "sigmoid"
    replaces: ClassVar[str] = "{replaces}"
    inputs: ClassVar[type] = tunesmith.ReferencedPairLogps
    unit: ClassVar[str] = "pair"
    def __call__(self, x):
        raise NotImplementedError

@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [Sigmoid]
"""
SOURCE = """
from typing import ClassVar
import tunesmith

class Docs(tunesmith.Source):
    \"\"\"Other documents.\"\"\"
    name: ClassVar[str] = "python-docs"
    replaces: ClassVar[str] = "sources/python-docs"
    def rows(self):
        yield tunesmith.Row({"text": "mine"}, "mine", 1)

class Text(tunesmith.DataFormat):
    \"\"\"Other texts.\"\"\"
    name: ClassVar[str] = "text"
    replaces: ClassVar[str] = "tunesmith/text"
    produces: ClassVar[type] = tunesmith.Text
    columns: ClassVar[tuple[str, ...]] = ("text",)
    def __call__(self, row):
        return tunesmith.Text(row["text"].upper())

@tunesmith.hookimpl
def tunesmith_register_sources():
    return [Docs]

@tunesmith.hookimpl
def tunesmith_register_data_formats():
    return [Text]
"""
DPO = ("run", "dpo", "--model", "m", "--data", "python-docs", "--dry-run")
NOTE = "the objective sigmoid is mine/sigmoid ({file}), which replaces that of tunesmith 0.1.0; for the latter write "


@pytest.fixture
def write(tmp_path):
    """``write(name, replaces)``: a plugin file with an objective `sigmoid` that replaces this one."""

    def to(name: str, replaces: str = "tunesmith/sigmoid") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(OBJECTIVE.format(summary=f"That of {name}.", replaces=replaces))
        return path

    return to


def owner(registry, word: str) -> str:
    return registry.owner(registry.get("objective", word)).name


@pytest.mark.parametrize("replaces", ["tunesmith/sigmoid", "objectives/sigmoid"])
def test_plain_name_means_the_replacement_and_the_original_is_still_there(write, replaces):
    registry = load(files=[write("mine", replaces)])
    assert owner(registry, "sigmoid") == owner(registry, "mine/sigmoid") == "mine"
    assert owner(registry, "objectives/sigmoid") == owner(registry, "tunesmith/sigmoid") == "objectives"
    selectors = {registry.selector(p, cls) for p, cls in registry.entries("objective") if cls.name == "sigmoid"}
    assert selectors == {"sigmoid", "tunesmith/sigmoid"}
    assert [p.name for p, cls in registry.current("objective") if cls.name == "sigmoid"] == ["mine"]


def test_note_is_made_on_use_of_the_plain_name_alone_and_told_once(write):
    registry = load(files=[write("mine")])
    registry.get("objective", "objectives/sigmoid")
    registry.get("objective", "mine/sigmoid")
    registry.get("objective", "ipo")
    assert registry.untold() == []
    registry.get("objective", "sigmoid")
    registry.get("objective", "sigmoid")
    assert len(registry.untold()) == 1 and registry.untold() == [] and len(registry.notes) == 1


def test_clash_without_the_declaration_stays_an_error(write):
    with pytest.raises(tunesmith.ConfigError, match="2 plugins provide the objective 'sigmoid'"):
        load(files=[write("mine", "")]).get("objective", "sigmoid")
    with pytest.raises(tunesmith.ConfigError, match="2 plugins provide the objective 'sigmoid'"):
        load(files=[write("mine", "elsewhere/sigmoid")]).get("objective", "sigmoid")


def test_two_that_replace_the_same_are_an_error_that_names_all_three(write):
    registry = load(files=[write("mine"), write("yours")])
    with pytest.raises(tunesmith.ConfigError, match="2 plugins replace the objective 'sigmoid'") as caught:
        registry.get("objective", "sigmoid")
    assert "write one of: mine/sigmoid, tunesmith/sigmoid, yours/sigmoid" in str(caught.value.fix)
    assert owner(load(files=[write("mine"), write("yours")], block=["yours"]), "sigmoid") == "mine"


def test_one_may_replace_a_replacement_and_two_that_replace_each_other_are_an_error(write):
    chain = load(files=[write("mine"), write("yours", "mine/sigmoid")])
    assert owner(chain, "sigmoid") == "yours"
    circle = load(files=[write("mine", "yours/sigmoid"), write("yours", "mine/sigmoid")], block=["objectives"])
    with pytest.raises(tunesmith.ConfigError, match="2 plugins provide the objective 'sigmoid'"):
        circle.get("objective", "sigmoid")


def test_where_the_original_is_blocked_the_replacement_is_all_there_is(write):
    registry = load(files=[write("mine")], block=["objectives"])
    assert owner(registry, "sigmoid") == "mine" and registry.notes == []


def test_declaration_must_name_a_component_of_the_same_name(write):
    registry = load(files=[write("mine", "tunesmith/ipo")])
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "mine")
    assert isinstance(plugin, Plugin) and plugin.status == "broken"
    assert plugin.cause == "Sigmoid.replaces must be 'PLUGIN/sigmoid', not 'tunesmith/ipo'"


def test_replaced_sources_and_formats_are_not_asked(tmp_path):
    """Or a row would look like two formats, and a word would be claimed by what is not used."""
    from tunesmith.data.detect import _formats

    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    registry = load(files=[path])
    (row,) = build(registry, "source", "python-docs").rows()
    assert row.data == {"text": "mine"}
    assert [registry.owner(cls).name for cls in _formats(registry) if cls.name == "text"] == ["mine"]


def test_users_are_told_in_list_plugins_show_and_a_run(cli, write):
    path = write("mine")
    mine = ("--plugin", str(path))
    listed = cli("list", "objectives", *mine).out
    assert "That of mine. [replaces tunesmith/sigmoid]" in listed
    assert "[replaced by mine/sigmoid: write tunesmith/sigmoid]" in listed
    rows = json.loads(cli("list", "objectives", "--json", *mine).out)["components"]
    both = {row["plugin"]: row for row in rows if row["name"] == "sigmoid"}
    assert both["mine"]["replaces"] == "tunesmith/sigmoid" and not both["mine"]["clash"]
    assert both["objectives"]["replaced_by"] == "mine/sigmoid" and not both["objectives"]["clash"]
    assert "objective sigmoid; replaces the objective tunesmith/sigmoid" in cli("plugins", *mine).out
    shown = cli("show", "sigmoid", *mine)
    assert "replaces  tunesmith/sigmoid" in shown.out
    note = f"note: {NOTE.format(file=path)}tunesmith/sigmoid\n"
    assert shown.err == cli(*DPO, *mine).err == note
    assert cli("show", "tunesmith/sigmoid", *mine).err == ""


def test_run_file_says_which_one_was_used(cli, write):
    mine = ("--plugin", str(write("mine")))
    assert yaml.safe_load(cli(*DPO, *mine).out)["objective"]["name"] == "mine/sigmoid"
    original = yaml.safe_load(cli(*DPO, *mine, "--objective", "tunesmith/sigmoid").out)["objective"]
    assert original == {"name": "tunesmith/sigmoid", "beta": 0.1}
    assert yaml.safe_load(cli(*DPO).out)["objective"]["name"] == "sigmoid"


def test_log_and_manifest_of_a_run_say_it(train, write, texts):
    from tunesmith.cli.failures import configure_logging
    from tunesmith.config import Layers, resolve
    from tunesmith.runner.launch import start

    configure_logging()
    path = write("mine")
    path.write_text(
        path.read_text()
        .replace("sigmoid", "nll").replace("ReferencedPairLogps", "TokenLogps").replace('"pair"', '"token"')
        .replace("raise NotImplementedError", "return tunesmith.Loss(-x.logps.sum())")
    )  # fmt: skip
    output = train("pt", "before", data=str(texts), max_steps=1, batch_size=2)
    model = str(output / "model")
    flags = {"model": model, "data": str(texts), "max_steps": 1, "batch_size": 2, "output": str(output.parent / "run")}
    ours = load(files=[path])
    start(resolve(ours, "pt", Layers(flags=flags)), ours)
    note = NOTE.format(file=path).replace("sigmoid", "nll") + "tunesmith/nll"
    assert f"replaced {note}" in (output.parent / "run" / "log.txt").read_text()
    assert json.loads((output.parent / "run" / "manifest.json").read_text())["replaced"] == [note]
    assert "name: mine/nll" in (output.parent / "run" / "run.yaml").read_text()
    assert json.loads((output / "manifest.json").read_text())["replaced"] == []
