"""Plugins of one run: the same everywhere, made for this tunesmith, and written down."""

import json
import logging
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from types import SimpleNamespace

import pytest

import tunesmith
from tunesmith.cli.main import main
from tunesmith.errors import ConfigError
from tunesmith.plugin_versions import changed, made_for_another, versions
from tunesmith.plugins import load
from tunesmith.runner.versions import check_same_plugins, say_changed_plugins

OLDER = Path(__file__).parents[1] / "integration" / "dists" / "older" / "tunesmith_older.py"


def distribution(folder: Path, *requires: str) -> Distribution:
    lines = ["Metadata-Version: 2.1", "Name: tunesmith-foo", "Version: 0.3", *(f"Requires-Dist: {r}" for r in requires)]
    folder.mkdir()
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    return PathDistribution(folder)


@pytest.mark.parametrize(
    "requires",
    [
        (),
        ("tunesmith",),
        ("tunesmith>=0.1",),
        (f"tunesmith=={tunesmith.__version__}",),
        ("tunesmith-bar<0.1",),
        ("tunesmith<0.1; extra == 'old'",),
        ("tunesmith<0.1; python_version < '3'",),
        ("torch>=2", "tunesmith[rewards]>=0.1"),
    ],
    ids=str,
)
def test_package_for_this_tunesmith_is_taken(tmp_path, requires):
    assert made_for_another(distribution(tmp_path / "tunesmith_foo-0.3.dist-info", *requires)) is None


@pytest.mark.parametrize("requires", ["tunesmith<0.1", "tunesmith>=99", "tunesmith[rewards]>=99", "tunesmith (<0.1)"])
def test_package_for_another_tunesmith_is_refused(tmp_path, requires):
    refused = made_for_another(distribution(tmp_path / "tunesmith_foo-0.3.dist-info", "torch>=2", requires))
    assert refused is not None and refused.startswith("tunesmith-foo 0.3 is made for tunesmith ")


def test_files_are_told_apart_by_their_content(tmp_path):
    (tmp_path / "mine.py").write_text(OLDER.read_text())
    first = versions(load(files=[tmp_path / "mine.py"]))
    (tmp_path / "mine.py").write_text(OLDER.read_text() + "# changed\n")
    second = versions(load(files=[tmp_path / "mine.py"]))
    [line] = changed(first, second)
    assert line.startswith(f"mine ({tmp_path / 'mine.py'}): ") and changed(first, first) == []


def processes(*listed):
    return SimpleNamespace(gather=lambda own: [*listed])


def test_processes_with_other_plugins_are_refused():
    registry = load()
    ours = versions(registry)
    check_same_plugins(processes(ours), registry)
    check_same_plugins(processes(ours, ours, ours), registry)
    one = [{**ours[0], "version": "0.0.9"}, *ours[1:]]
    with pytest.raises(ConfigError, match="process 2 has other plugins than process 0") as raised:
        check_same_plugins(processes(ours, ours, one), registry)
    assert raised.value.why == f"{ours[0]['name']} (tunesmith): {tunesmith.__version__} -> 0.0.9"
    with pytest.raises(ConfigError) as raised:
        check_same_plugins(processes(ours, [*ours, {**ours[0], "distribution": "foo"}]), registry)
    assert raised.value.why == f"{ours[0]['name']} (foo): not there -> {tunesmith.__version__}"
    with pytest.raises(ConfigError) as raised:
        check_same_plugins(processes(ours, [{**ours[0], "status": "broken"}, *ours[1:]]), registry)
    assert raised.value.why.endswith(f"{tunesmith.__version__} -> {tunesmith.__version__}, broken")


def test_what_changed_since_a_run_was_started_is_said(tmp_path, caplog):
    registry = load()
    say_changed_plugins(tmp_path, registry)
    (tmp_path / "manifest.json").write_text(json.dumps({"plugins": versions(registry)}))
    with caplog.at_level(logging.WARNING, "tunesmith"):
        say_changed_plugins(tmp_path, registry)
        assert caplog.messages == []
        (tmp_path / "manifest.json").write_text(json.dumps({"plugins": versions(registry)[1:]}))
        say_changed_plugins(tmp_path, registry)
    [said] = caplog.messages
    assert said.startswith("plugins have changed since this run was started: ") and "not there -> " in said


def test_method_written_against_the_first_0_1_trains(tmp_path, tiny_model, chats, capsys):
    """No declaration that came later; a listener with one argument; versions are written down."""
    flags = ["--model", str(tiny_model), "--data", str(chats), "--max-steps", "2", "--output", str(tmp_path / "run")]
    assert main(["run", "older-method", "--plugin", str(OLDER), "--device", "cpu", *flags]) == 0
    assert "older: step 2" in capsys.readouterr().out
    listed = json.loads((tmp_path / "run" / "manifest.json").read_text())["plugins"]
    [own] = [one for one in listed if one["name"] == "tunesmith_older"]
    assert len(own["version"]) == 12 and own["status"] == "ok"
