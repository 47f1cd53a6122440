"""The command line as its users meet it: help, list, plugins, show."""

import json
import re
from pathlib import Path

import pytest

import tunesmith.runner
from tunesmith.cli.common import COMMANDS
from tunesmith.components import KINDS
from tunesmith.plugins import load
from tunesmith.settings import RunSettings

TOY = str(Path(__file__).parent / "toy_plugin.py")


# ---------------------------------------------------------------------------------------------- the root
@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_root_help_fits_a_screen_and_names_every_command(cli, words):
    result = cli(*words)
    assert result.code == 0 and result.err == ""
    assert len(result.out.splitlines()) < 25
    _, explained, others = re.split(r"\nCommands:\n|\nMore, .*:\n", result.out)
    first = {line.split()[0] for line in explained.splitlines() if line}
    assert set(COMMANDS) <= first | set(re.split(r",\s+", others.strip()))


def test_version(cli):
    assert cli("--version").out == f"tunesmith {tunesmith.__version__}\n"


def test_every_command_has_help(cli):
    for name in COMMANDS:
        result = cli(name, "--help")
        assert (result.code, result.err) == (0, ""), name
        assert result.out.startswith(f"Usage: tunesmith {name}")


def test_commands_of_plugins_are_listed_and_run(cli):
    assert "toybox  Open the toy box." in cli("--plugin", TOY, "--help").out
    assert cli("--plugin", TOY, "toybox").out == "a toy box\n"
    assert "unknown command 'toybox'" in cli("toybox").err


def test_unknown_command_gets_the_nearest(cli):
    result = cli("lst")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: unknown command 'lst'; did you mean 'list'?\n  fix   see `tunesmith --help`\n"


def test_method_without_run_is_told_so(cli):
    assert "fix   tunesmith run toy" in cli("--plugin", TOY, "toy").err


def test_command_of_a_broken_plugin_is_explained(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    assert "No module named 'not_a_package_at_all'" in cli("--plugin", "bad.py", "frobnicate").err


# ---------------------------------------------------------------------------------------------- list, plugins
def test_list_shows_every_component_once(cli):
    registry = load(files=[Path(TOY)])
    out = cli("list", "--plugin", TOY).out
    for kind in KINDS:
        entries = registry.entries(kind)
        assert (f"{kind}s\n" in out) == bool(entries)
        for _, cls in entries:
            assert sum(line.split()[:1] == [cls.name] for line in out.splitlines()) >= 1
    assert "  toy  " in out and "Learn from toys." in out and "second paragraph" not in out


@pytest.mark.parametrize("word", ["method", "methods", "Methods"])
def test_kinds_are_singular_or_plural(cli, word):
    out = cli("list", word).out
    assert out.startswith("methods\n") and "objectives" not in out


@pytest.mark.parametrize("word", ["format", "formats", "data-formats", "data_format"])
def test_formats_are_data_formats_too(cli, word):
    assert cli("list", word).out.startswith("formats\n")


def test_unknown_kind(cli):
    result = cli("list", "metod")
    assert result.code == 2 and "did you mean 'method'?" in result.err


def test_list_for_programs(cli):
    found = json.loads(cli("list", "--json", "--plugin", TOY).out)["components"]
    toy = next(component for component in found if component["name"] == "toy")
    assert toy == {
        "kind": "method",
        "name": "toy",
        "summary": "Learn from toys.",
        "plugin": "toy_plugin",
        "package": TOY,
        "version": "",
        "selector": "toy",
        "replaces": "",
        "replaced_by": "",
        "clash": False,
    }
    nll = next(component for component in found if component["package"] == "tunesmith")
    assert nll["version"] == tunesmith.__version__


def test_clash_is_marked_in_both_lists(cli, tmp_path):
    (tmp_path / "other.py").write_text(Path(TOY).read_text())
    out = cli("list", "methods", "--plugin", TOY, "--plugin", "other.py").out
    assert "[clash: write toy_plugin/toy]" in out and "[clash: write other/toy]" in out
    found = json.loads(cli("list", "methods", "--json", "--plugin", TOY, "--plugin", "other.py").out)["components"]
    assert [c["selector"] for c in found if c["clash"]] == ["toy_plugin/toy", "other/toy"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_pages_keep_to_the_width_of_the_terminal(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    pages = (
        [("list",), ("plugins",)] if columns == 60 else [("list",), ("plugins",), ("show", "toy"), ("run", "--help")]
    )
    for words in pages:
        lines = cli(*words, "--plugin", TOY).out.splitlines()
        assert len(lines) > 5
        assert [line for line in lines if len(line) > columns] == []


def test_without_a_terminal_lines_stay_whole(cli):
    long = max(cli("list").out.splitlines(), key=len)
    assert len(long) > 120


def test_colours_follow_the_environment(cli, monkeypatch):
    assert "\x1b[" not in cli("list").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("list").out and "\x1b[" in cli("lst").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("list").out + cli("lst").err
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in cli("list").out + cli("lst").err


def test_plugins_show_status_cause_and_what_they_provide(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    words = ("plugins", "--plugin", TOY, "--plugin", "bad.py", "--no-plugin", "trackers")
    out = cli(*words).out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "broken" in lines["bad"] and "No module named 'not_a_package_at_all'" in lines["bad"]
    assert "blocked" in lines["trackers"]
    assert "method toy" in lines["toy_plugin"] and "command toybox" in lines["toy_plugin"]
    rows = {row["plugin"]: row for row in json.loads(cli(*words, "--json").out)["plugins"]}
    assert (rows["bad"]["status"], rows["trackers"]["status"], rows["toy_plugin"]["status"]) == (
        "broken",
        "blocked",
        "ok",
    )
    assert {"kind": "source", "name": "toy-rows"} in rows["toy_plugin"]["components"]
    assert rows["schedulers"]["package"] == "tunesmith" and rows["schedulers"]["ms"] > 0


def test_list_mentions_what_failed_to_load_on_stderr(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    assert cli("list", "--plugin", "bad.py").err == "1 plugin failed to load: bad; see `tunesmith plugins`\n"


def test_plugin_options_stand_before_or_behind_the_command(cli):
    before = cli("--plugin", TOY, "--no-plugin", "trackers", "list").out
    assert before == cli("list", "--plugin", TOY, "--no-plugin", "trackers").out
    assert before == cli("--plugin", TOY, "list", "--no_plugin=trackers").out
    assert "trackers" not in before.replace("toy-tracker", "").split("\n  ")[0] and "tensorboard" not in before


# ---------------------------------------------------------------------------------------------- show
def test_show_method_prints_card_presets_and_settings(cli):
    out = cli("show", "toy", "--plugin", TOY).out
    for text in (
        "toy  method, from " + TOY,
        "  paper     Toys, a study (arXiv:0000.00000)",
        "  use when  Testing.",
        "  data      3 rows.",
        "  memory    Little.",
        "  models    policy",
        "--preset wooden",
        "learning_rate 1e-4; patience 9",
        "  patience  integer  [default 3]\n      Steps to wait.",
        "  colour  red|light-blue  [default red]",
        "  label  text or null\n",
        "learning_rate  number  [default 0.001, with an adapter 0.005]",
        "schedule  scheduler or null  [default toy-ramp (warmup 0.1)]",
        "Make `noise`.",
    ):
        assert text in out, text
    consumes = next(line for line in out.splitlines() if line.startswith("  consumes"))
    assert consumes.startswith("  consumes  Text (formats: ") and "toy-format" in consumes
    supplies = next(line for line in out.splitlines() if line.startswith("  supplies"))
    assert "toy-sum" in supplies and "toy-numbers" not in supplies


def test_show_for_programs_has_every_setting(cli):
    facts = json.loads(cli("show", "toy", "--json", "--plugin", TOY).out)
    assert [s["name"] for s in facts["run_settings"]] == list(RunSettings.model_fields)
    rate = next(s for s in facts["run_settings"] if s["name"] == "learning_rate")
    assert (rate["default"], rate["default_with_adapter"], rate["type"]) == (1e-3, 5e-3, "number")
    assert facts["presets"]["wooden"]["settings"]["patience"] == 9
    assert facts["settings"][0] == {
        "name": "objective",
        "type": "objective",
        "optional": False,
        "required": False,
        "default": "toy-sum",
        "help": "Loss.",
    }


def test_every_installed_component_can_be_shown(cli):
    for component in json.loads(cli("list", "--json", "--plugin", TOY).out)["components"]:
        result = cli("show", f"{component['kind']}/{component['name']}", "--plugin", TOY)
        assert result.code == 0 and component["summary"] in result.out


@pytest.mark.parametrize("word", ["toy-sum", "objective/toy-sum", "objectives/toy_sum", "toy_plugin/toy-sum"])
def test_names_may_have_a_kind_or_a_plugin_in_front(cli, word):
    out = cli("show", word, "--plugin", TOY).out
    assert out.startswith("toy-sum  objective, from")
    assert "  reads     TokenLogps\n  sum over  tokens\n" in out and "toy" in out.split("methods")[1]
    assert cli("show", "toy-sum", "--kind", "objectives", "--plugin", TOY).out == out


def test_show_of_a_format(cli):
    out = cli("show", "toy-format", "--plugin", TOY).out
    assert "  columns   toy\n  produces  Text\n" in out


def test_name_of_two_kinds_is_the_method_and_the_other_is_said(cli, tmp_path):
    text = Path(TOY).read_text().replace('name: ClassVar[str] = "toy-ramp"', 'name: ClassVar[str] = "toy"')
    (tmp_path / "two.py").write_text(text)
    result = cli("show", "toy", "--plugin", "two.py")
    assert result.code == 0
    assert result.out.startswith("toy  method") and "toy is a scheduler too: tunesmith show scheduler/toy" in result.err
    assert cli("show", "scheduler/toy", "--plugin", "two.py").code == 0


def test_unknown_component(cli):
    result = cli("show", "toi", "--plugin", TOY)
    assert result.code == 2 and "there is no component 'toi'; did you mean 'toy'?" in result.err
