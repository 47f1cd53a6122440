"""Finding, loading and listing plugins: every fault is a row with its cause, and matters only where it is needed."""

import logging
from pathlib import Path

import pytest

import tunesmith
from tunesmith.plugins import Plugin, Registry, load

TOY = Path(__file__).parent / "toy_plugin.py"

REWARD = """
from typing import ClassVar
import tunesmith

class Length(tunesmith.Reward):
    \"\"\"Longer is better.\"\"\"
    name: ClassVar[str] = "longer"
    def __call__(self, rollouts):
        return [float(len(r.completion)) for r in rollouts]

@tunesmith.hookimpl
def tunesmith_register_rewards():
    return [Length]
"""


@pytest.fixture
def plugin_file(tmp_path):
    """Write a plugin file and load it, alone or with others."""

    def write(text: str, name: str = "local") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return path

    return write


def row(registry: Registry, name: str) -> Plugin:
    return next(plugin for plugin in registry.plugins if plugin.name == name)


def cause_of(path: Path) -> str:
    """The cause of a plugin that must be broken, must keep nothing registered, and must leave the rest alone."""
    registry = load(files=[path])
    plugin = row(registry, path.stem)
    assert plugin.status == "broken"
    assert plugin.components == [] and plugin.commands == {}
    assert not any(path.stem in str(name) for name, module in registry.manager.list_name_plugin() if module)
    assert row(registry, "schedulers").status == "ok"
    return plugin.cause


# ---------------------------------------------------------------------------------------------- what is found
def test_own_plugins_come_first_and_name_their_package():
    registry = load()
    own = [plugin for plugin in registry.plugins if plugin.distribution == "tunesmith"]
    assert registry.plugins[: len(own)] == own
    assert [plugin.name for plugin in own] == sorted(plugin.name for plugin in own)
    assert {plugin.version for plugin in own} == {tunesmith.__version__}
    assert all(plugin.ms > 0 for plugin in own)


def test_file_is_a_plugin_with_components_of_every_kind_it_registers():
    registry = load(files=[TOY])
    plugin = row(registry, "toy_plugin")
    assert (plugin.status, plugin.distribution) == ("ok", str(TOY.resolve()))
    assert {(cls.kind, cls.name) for cls in plugin.components} >= {("method", "toy"), ("source", "toy-rows")}
    assert registry.owner(registry.get("tracker", "toy-tracker")) is plugin
    assert list(plugin.commands) == ["toybox"] and registry.commands()["toybox"][0] is plugin


def test_names_may_be_written_with_underscores():
    registry = load(files=[TOY])
    assert registry.get("objective", "toy_sum") is registry.get("objective", "toy-sum")


def test_two_files_of_one_name_do_not_collide(tmp_path):
    paths = []
    for folder, name in (("a", "short"), ("b", "long")):
        paths.append(tmp_path / folder / "mine.py")
        paths[-1].parent.mkdir()
        paths[-1].write_text(REWARD.replace('"longer"', f'"{name}"'))
    assert {"long", "short"} <= set(load(files=paths).names("reward"))


def test_file_given_twice_is_loaded_once(plugin_file):
    path = plugin_file(REWARD)
    registry = load(files=[path, path.parent / "." / path.name])
    assert registry.get("reward", "longer").name == "longer"


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(tunesmith.ConfigError, match=r"nowhere\.py: there is no such file"):
        load(files=[tmp_path / "nowhere.py"])


# ---------------------------------------------------------------------------------------------- what is broken
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import not_a_package_at_all", "ModuleNotFoundError: No module named 'not_a_package_at_all'"),
        ("1 +", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("x = 1", "has no function with @tunesmith.hookimpl"),
        (REWARD.replace("return [Length]", "return 1 / 0"), "ZeroDivisionError: division by zero"),
        (REWARD.replace("return [Length]", "pass"), "tunesmith_register_rewards returned nothing"),
        (REWARD.replace("return [Length]", "return [int]"), "is not a subclass of tunesmith.Reward"),
        (REWARD.replace("return [Length]", "return [Length()]"), "is not a subclass of tunesmith.Reward"),
        (REWARD.replace("return [Length]", "return [Length, Length]"), "two components called 'longer'"),
        (REWARD.replace("_rewards()", "_reward()"), "did you mean 'tunesmith_register_rewards'?"),
        (REWARD.replace("@tunesmith.hookimpl", ""), "lacks the @tunesmith.hookimpl decorator"),
        (REWARD.replace("@tunesmith.hookimpl", "").replace("_rewards()", "_reward()"), "there is no hook"),
        (REWARD.replace("_rewards()", "_rewards(extra)"), "PluginValidationError"),
        (REWARD.replace('"longer"', '"My_Length"'), "Length.name must be kebab-case such as 'my-reward'"),
        (REWARD.replace("Longer is better.", ""), "Length has no docstring"),
        (REWARD.replace("__call__", "call"), "Length does not define __call__"),
    ],
)
def test_fault_is_a_row_with_its_cause(plugin_file, text, cause):
    assert cause in cause_of(plugin_file(text))


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("patience: int", "batch_size: int", "Toy.batch_size has the name of a setting of every run"),
        ("patience: int", "overwrite: int", "Toy.overwrite has the name of a setting of every run"),
        ('"epochs": 3', '"epoch": 3', "Toy.defaults: there is no setting 'epoch'; did you mean 'epochs'?"),
        ('"patience": 9', '"patienec": 9', "Toy.presets['wooden']: there is no setting 'patienec'"),
        ("consumes: ClassVar[type] = tunesmith.Text", "", "Toy does not declare consumes"),
        ("consumes: ClassVar[type] = tunesmith.Text", "consumes: ClassVar[type] = int", "Toy.consumes must be"),
        ("[tunesmith.Card] = tunesmith.Card", "[object] = 3 or tunesmith.Card", "Toy.card must be"),
        ("inputs: ClassVar[type] = Numbers", "inputs: ClassVar[str] = 'x'", "ToyNumbers.inputs must be a class"),
        ("columns: ClassVar[tuple[str, ...]] = (\"toy\",)", "columns = 'toy'", "ToyFormat.columns must be a tuple"),
        ("def shape(", "def form(", "ToyRamp does not define shape"),
    ],
)  # fmt: skip
def test_what_a_component_must_declare(plugin_file, old, new, cause):
    text = TOY.read_text()
    assert old in text
    assert cause in cause_of(plugin_file(text.replace(old, new)))


def test_helper_with_our_prefix_is_no_misspelt_hook(plugin_file):
    registry = load(files=[plugin_file(REWARD + "\ndef tunesmith_helper(): pass\n")])
    assert row(registry, "local").status == "ok"


def test_what_a_plugin_prints_does_not_end_up_on_stdout(plugin_file, capsys):
    load(files=[plugin_file("print('hello')\n" + REWARD)])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


# ---------------------------------------------------------------------------------------------- errors on use
def test_unknown_name_gets_the_nearest_and_the_cause_of_what_failed(plugin_file):
    registry = load(files=[TOY, plugin_file("import not_a_package_at_all")])
    with pytest.raises(tunesmith.ConfigError) as caught:
        registry.get("objective", "toy-sun")
    assert caught.value.what == "there is no objective 'toy-sun'; did you mean 'toy-sum'?"
    assert "toy-numbers, toy-sum" in (caught.value.why or "")
    assert "local" in (caught.value.why or "") and "No module named 'not_a_package_at_all'" in (caught.value.why or "")


def test_name_of_another_kind_says_so():
    with pytest.raises(tunesmith.ConfigError, match="'toy-sum' is an objective"):
        load(files=[TOY]).get("method", "toy-sum")


def test_clash_is_an_error_on_use_only_and_plugin_slash_name_resolves_it(plugin_file):
    first, second = plugin_file(REWARD, "first"), plugin_file(REWARD.replace("Longer", "Shorter"), "second")
    registry = load(files=[first, second])
    with pytest.raises(tunesmith.ConfigError) as caught:
        registry.get("reward", "longer")
    assert caught.value.what == "2 plugins provide the reward 'longer'"
    assert str(first) in (caught.value.where or "") and str(second) in (caught.value.where or "")
    assert "first/longer, second/longer" in (caught.value.fix or "")
    assert (registry.get("reward", "first/longer").__doc__ or "") == "Longer is better."
    assert (registry.get("reward", "second/longer").__doc__ or "") == "Shorter is better."


def test_distribution_slash_name_resolves_a_clash_of_plugins_of_one_name(tmp_path):
    registry = Registry()
    for folder in ("one", "two"):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(REWARD)
    loaded = load(files=[tmp_path / "one" / "mine.py", tmp_path / "two" / "mine.py"])
    registry.plugins = [plugin for plugin in loaded.plugins if plugin.name == "mine"]
    for plugin, folder in zip(registry.plugins, ("My_Pkg.One", "other"), strict=True):
        plugin.distribution = folder
    with pytest.raises(tunesmith.ConfigError, match="2 plugins provide the reward 'longer'") as caught:
        registry.get("reward", "mine/longer")
    assert "My_Pkg.One/longer, other/longer" in (caught.value.fix or "")
    assert registry.owner(registry.get("reward", "my-pkg-one/longer")).distribution == "My_Pkg.One"


# ---------------------------------------------------------------------------------------------- blocking
def test_block_by_plugin_name_leaves_it_out():
    registry = load(block=["schedulers"])
    assert row(registry, "schedulers").status == "blocked"
    assert registry.names("scheduler") == []
    with pytest.raises(tunesmith.ConfigError, match="blocked plugins: schedulers"):
        registry.get("scheduler", "cosine")


def test_block_by_package_name_leaves_out_all_its_plugins():
    registry = load(files=[TOY], block=["Tunesmith"])
    statuses = {plugin.distribution: plugin.status for plugin in registry.plugins}
    assert statuses["tunesmith"] == "blocked" and statuses[str(TOY.resolve())] == "ok"
    assert registry.names("method") == ["toy"]


def test_block_by_variable(monkeypatch):
    monkeypatch.setenv("TUNESMITH_NO_PLUGINS", "schedulers, trackers,")
    blocked = {plugin.name for plugin in load().plugins if plugin.status == "blocked"}
    assert blocked == {"schedulers", "trackers"}


def test_blocking_what_is_not_installed_is_refused():
    with pytest.raises(tunesmith.ConfigError, match=r"cannot block 'schedulrs'.*did you mean 'schedulers'"):
        load(block=["schedulrs"])


# ---------------------------------------------------------------------------------------------- commands
COMMAND = """
import click, tunesmith

@tunesmith.hookimpl
def tunesmith_register_commands(cli):
    @cli.command("{name}")
    def command():
        "A command."
        click.echo("{says}")
"""


def test_taken_commands_are_refused_with_their_owner_and_the_plugin_stays(plugin_file):
    ours = plugin_file(COMMAND.format(name="list", says="no") + REWARD, "greedy")
    first = plugin_file(COMMAND.format(name="hello", says="first"), "first")
    second = plugin_file(COMMAND.format(name="hello", says="second"), "second")
    registry = load(files=[ours, first, second], reserved_commands={"list"})
    assert row(registry, "greedy").cause == "the command 'list' is refused: it belongs to tunesmith"
    assert row(registry, "greedy").status == "ok" and "longer" in registry.names("reward")
    assert row(registry, "second").cause.startswith("the command 'hello' is refused: it belongs to the plugin first (")
    assert registry.commands()["hello"][0].name == "first" and "list" not in registry.commands()


def test_raising_command_hook_breaks_the_plugin(plugin_file):
    assert "KeyError: 'x'" in cause_of(plugin_file(REWARD + COMMAND.split("@cli")[0] + "    {}['x']\n"))


# ---------------------------------------------------------------------------------------------- notifications
LISTENER = """
import tunesmith
seen = []

@tunesmith.hookimpl
def tunesmith_step_ended(step, metrics):
    seen.append(step)
    if {fails}:
        raise RuntimeError("no more")
"""


def test_raising_listener_is_detached_with_one_warning_and_the_others_go_on(plugin_file, caplog):
    files = [plugin_file(LISTENER.format(fails=fails), name) for name, fails in (("bad", True), ("good", False))]
    registry = load(files=files)
    modules = {name.rpartition(":")[2]: module for name, module in registry.manager.list_name_plugin()}
    bad, good = modules["bad"], modules["good"]
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        for step in (1, 2, 3):
            registry.notify("tunesmith_step_ended", run=None, step=step, metrics={})
    assert (bad.seen, good.seen) == ([1], [1, 2, 3])
    assert [record.getMessage() for record in caplog.records] == [
        f"plugin {files[0]}:bad raised in tunesmith_step_ended and is detached: RuntimeError('no more')"
    ]
