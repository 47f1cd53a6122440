"""The documentation is right: its plugins do what is said, its hooks exist, its commands are the ones that CI runs."""

from __future__ import annotations

import ast
import inspect
import math
import re
import sqlite3
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tunesmith
from tunesmith import (
    BadField,
    Completion,
    ConfigError,
    DataError,
    ReferencedPairLogps,
    Rollout,
    RunInfo,
    TokenLogps,
    hookspecs,
    plugins,
)
from tunesmith.cli import aliases
from tunesmith.config import Layers, build, resolve
from tunesmith.fieldtypes import help_texts
from tunesmith.plugins import Plugin, Registry
from tunesmith.rollout.panel import Panel, missing_columns
from tunesmith.testing import check_reward

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = ROOT / "docs" / "plugins"
WRITING = (PAGES / "index.md").read_text(encoding="utf-8")
HOOK_PAGE = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("tunesmith_")}


def code(page: str) -> str:
    """The Python block of a page about one kind of plugin."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    block = re.findall(r'^```python title="\w+(?:/__init__)?\.py"\n(.*?)^```$', text, flags=re.DOTALL | re.MULTILINE)[0]
    return str(block)


def load(page: str, folder: Path) -> tuple[Registry, Plugin]:
    """The example of a page, as a local plugin beside all installed ones."""
    path = folder / "my_plugin.py"
    path.write_text(code(page), encoding="utf-8")
    registry = plugins.load(files=[path])
    plugin = registry.plugins[-1]
    assert (plugin.name, plugin.status, plugin.cause) == ("my_plugin", "ok", "")
    return registry, plugin


# ---------------------------------------------------------------------------------------------- the examples
def test_a_method(tmp_path: Path) -> None:
    from torch import nn

    registry, _ = load("method", tmp_path)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    flags = {"model": "m", "data": str(rows), "freeze_head": True}
    run = resolve(registry, "sft-frozen-embeddings", Layers(flags=flags))
    assert (run.method.objective.name, run.settings.epochs) == ("nll", 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head, self.embed = nn.Linear(2, 2), nn.Linear(2, 3), nn.Embedding(3, 2)

        def get_input_embeddings(self) -> nn.Module:
            return self.embed

        def get_output_embeddings(self) -> nn.Module:
            return self.head

    model = run.method.prepare(Model(), SimpleNamespace())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"inner.weight", "inner.bias"}


def test_a_method_that_samples(tmp_path: Path, tiny_model: Path) -> None:
    import numpy as np
    import torch

    from tunesmith.data.trees import Batch, Branch, Tree
    from tunesmith.numerics import grouped
    from tunesmith.runner.launch import start

    registry, _ = load("online-method", tmp_path)
    (tmp_path / "rewards.py").write_text("def long(completion):\n    return float(len(completion))\n", encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Say a number"}\n' * 2, encoding="utf-8")
    flags = {"model": str(tiny_model), "data": str(tmp_path / "prompts.jsonl"), "output": str(tmp_path / "run")}
    flags |= {"rewards": f"{tmp_path / 'rewards.py'}:long", "max_new_tokens": 4, "batch_size": 2, "probe": 0}
    run = resolve(registry, "opo", Layers(flags=flags))
    branches = tuple(Branch(np.ones(size, np.int32), np.ones(size, bool)) for size in (1, 3))
    batch = Batch([Tree(np.ones(1, np.int32), branches)])
    groups = grouped(torch.tensor([0, 0]), 1)
    found = run.method.advantages(torch.tensor([1.0, 0.0]), groups, batch)  # type: ignore[attr-defined]
    assert found.tolist() == [0.75, -0.25]
    start(run, registry)
    assert len((tmp_path / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 2 * 8


def test_a_loss(tmp_path: Path) -> None:
    import torch

    registry, _ = load("objective", tmp_path)
    focal = build(registry, "objective", {"name": "focal", "gamma": 2})
    logps = torch.tensor([0.5, 0.25], dtype=torch.float64).log().requires_grad_()
    loss = focal(TokenLogps(logps, torch.tensor([0, 0]), 1))
    # (1 - 1/2)^2 * ln 2 + (1 - 1/4)^2 * ln 4
    assert loss.total.item() == pytest.approx(0.25 * math.log(2) + 0.5625 * math.log(4))
    assert loss.metrics["nll"].item() == pytest.approx(math.log(8))
    flags = {"model": "m", "data": str(tmp_path / "my_plugin.py"), "objective": "focal"}
    run = resolve(registry, "sft", Layers(flags=flags, overrides=["objective.gamma=1.5"]))
    assert (run.method.objective.name, run.method.objective.gamma) == ("focal", 1.5)
    gamma = focal.model_copy(update={"gamma": 1.5})
    assert torch.autograd.gradcheck(lambda x: gamma(TokenLogps(x, torch.tensor([0, 0]), 1)).total, [logps])


def test_a_reward_from_a_function(tmp_path: Path) -> None:
    registry, plugin = load("reward-function", tmp_path)
    rollouts = [
        Rollout("2+2?", "two and two\nis\n4 ", {"answer": 4}),
        Rollout("2+2?", "4, no\n5", {"answer": 4}),
        Rollout("2+2?", "a long way\n4", {"answer": "4"}),
    ]
    for name in ("right-and-short", f"{plugin.distribution}:right_and_short"):
        reward = build(registry, "reward", {"name": name, "limit": 20})
        with Panel([reward], workers=1) as panel:
            assert panel.totals(panel.judge(rollouts)) == [1.0, 0.0, 1.0]
            assert panel.totals(panel.judge([Rollout("2+2?", "x" * 20 + "\n4", {"answer": "4"})])) == [0.5]
    assert help_texts(type(reward))["limit"] == "Longest completion, in characters."
    assert list(reward.columns()) == ["answer"]
    assert not check_reward(reward).failed


def test_a_reward(tmp_path: Path) -> None:
    registry, _ = load("reward", tmp_path)
    reward = build(registry, "reward", {"name": "last-number", "tolerance": 0.01, "on_error": "mask"})
    rollouts = [
        Rollout("2+2?", "It is 5, no, 4.", {"answer": 4}),
        Rollout("2+2?", "It is 4, no, 5.", {"answer": 4}),
        Rollout("2+2?", "", {"answer": "4"}),
        Rollout("2+2?", "4", {"answer": "four"}),
        Rollout("1/3?", [{"role": "assistant", "content": "0.333"}], {"answer": 1 / 3}),
    ]
    with Panel([reward], workers=1) as panel:
        (found,) = panel.judge(rollouts)
        assert [verdict.score for verdict in found] == [1.0, 0.0, 0.0, None, 1.0]
        assert (found[3].state, found[3].why) == ("error", "the column 'answer' is no number: 'four'")
        samples = [Rollout(row["prompt"], row["completion"], row) for row in reward.samples()]
        assert panel.totals(panel.judge(samples)) == [type(reward).best] * 2
    with pytest.raises(ConfigError, match="needs the column 'answer'"):
        missing_columns([reward], ["gold"])
    report = check_reward(reward)
    assert not report.failed and not report.skipped


def test_a_format(tmp_path: Path) -> None:
    registry, _ = load("format", tmp_path)
    quiz = build(registry, "format", "quiz")
    row = {"question": "2+2?", "choices": ["3", "4"], "right": 1}
    assert quiz.matches(row)
    assert not quiz.matches({"question": "2+2?"})
    assert quiz(row) == Completion("2+2?\nOne of: 3, 4\nAnswer:", " 4")
    assert quiz({**row, "choices": ["4", "4"]}) is None
    with pytest.raises(BadField, match="should be an index into the 2 choices"):
        quiz({**row, "right": 2})


def test_a_schedule(tmp_path: Path) -> None:
    registry, _ = load("scheduler", tmp_path)
    halving = build(registry, "scheduler", {"name": "halving", "times": 2, "warmup": 2})
    assert [halving(step, 8) for step in range(8)] == [1 / 3, 2 / 3, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_source(tmp_path: Path) -> None:
    registry, _ = load("source", tmp_path)
    path = tmp_path / "quiz.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rows (text)")
        connection.executemany("INSERT INTO rows VALUES (?)", [("one",), ("two",)])
    connection.close()
    source = build(registry, "source", str(path))
    found = [(dict(row.data), row.where) for row in source.rows()]
    assert found == [({"text": "one"}, f"{path}, row 1"), ({"text": "two"}, f"{path}, row 2")]
    assert source.label() == "quiz"
    assert source.fingerprint() == build(registry, "source", str(path)).fingerprint()
    with pytest.raises(DataError, match="no such table: other"):
        list(build(registry, "source", {"path": str(path), "table": "other"}).rows())


def test_a_generator(tmp_path: Path) -> None:
    registry, _ = load("generator", tmp_path)
    engine = build(registry, "generator", {"name": "plain-generate", "say": False})
    assert not engine.open(None, None, ()).say and engine.repeats == "sample"


def test_a_tracker(tmp_path: Path) -> None:
    registry, _ = load("tracker", tmp_path)
    for first in (0, 1):  # a resumed run goes on in the same file
        session = build(registry, "tracker", "csv").open(RunInfo(tmp_path, "sft", {}, 2, first))
        session.log(first + 1, {"loss": 2.5, "epoch": 0.5})
        session.close(None)
    written = (tmp_path / "metrics.csv").read_text(encoding="utf-8").split()
    assert written == ["1,loss,2.5", "1,epoch,0.5", "2,loss,2.5", "2,epoch,0.5"]


def test_a_listener_and_a_command(tmp_path: Path) -> None:
    registry, plugin = load("listener", tmp_path)
    run = RunInfo(tmp_path, "sft", {}, 2)
    registry.notify("tunesmith_run_started", run=run)
    for step in (1, 2):
        registry.notify("tunesmith_step_ended", run=run, step=step, metrics={"loss": 1.0})
        registry.notify("tunesmith_checkpoint_saved", run=run, step=step, path=tmp_path / f"step-{step}")
    registry.notify("tunesmith_run_ended", run=run, error=None)
    result = CliRunner().invoke(plugin.commands["outcome"], [str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "done after 0 s, 2 checkpoints\n")


# ---------------------------------------------------------------------------------------------- what is said about them
def examples() -> list[str]:
    """The pages with an example."""
    return sorted(path.stem for path in PAGES.glob("*.md") if path.stem not in ("index", "sql-result"))


def blocks() -> list[str]:
    return [code(page) for page in examples()]


def test_every_kind_of_component_that_can_be_used_has_an_example() -> None:
    registered = {name for name in HOOKS if name.startswith("tunesmith_register_")}
    shown = {name for name in registered if any(f"def {name}(" in block for block in blocks())}
    assert registered == shown


def test_every_example_is_tested_here() -> None:
    tested = re.findall(r'load\("(.*?)", tmp_path\)', Path(__file__).read_text(encoding="utf-8"))
    assert examples() == sorted(tested)


def test_examples_use_the_public_names_only_and_import_no_torch_at_the_top() -> None:
    for block in blocks():
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom) and node.module == "tunesmith":
                assert {alias.name for alias in node.names} <= set(tunesmith.__all__)
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [m for m in modules if m.startswith(("tunesmith.", "torch", "transformers", "numpy"))]


def test_every_hook_is_documented_with_its_arguments_and_none_is_invented() -> None:
    for name, spec in HOOKS.items():
        assert f"`{name}({', '.join(inspect.signature(spec).parameters)})`" in HOOK_PAGE
    mentioned = set(re.findall(r"\btunesmith_(?:register|run|step|checkpoint|report)_\w+", HOOK_PAGE))
    assert mentioned == set(HOOKS)


def test_the_package_of_a_plugin_uses_our_entry_points() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", WRITING, flags=re.DOTALL | re.MULTILINE)
    project = tomllib.loads(text)["project"]
    assert list(project["entry-points"]) == [plugins.GROUP]
    (requirement,) = map(Requirement, project["dependencies"])
    assert requirement.name == PROJECT["name"]
    assert requirement.specifier.contains(tunesmith.__version__)


def test_a_loss_that_comes_from_elsewhere(tmp_path: Path) -> None:
    """Worked out by hand: at beta * margin = ln 4 and tau 1 the modulation is 4/5, the losses -ln(4/5) and 1/4."""
    import torch

    text = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r'^```python title="discopop\.py"\n(.*?)^```$', text, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "discopop.py").write_text(block, encoding="utf-8")
    loss = build(
        plugins.load(files=[tmp_path / "discopop.py"]), "objective", {"name": "discopop", "beta": 0.5, "tau": 1}
    )
    zero, size = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    chosen = torch.tensor([2 * math.log(4), 0.0], dtype=torch.float64)
    x = ReferencedPairLogps(chosen, zero, size, size, 1.0, reference_chosen=zero, reference_rejected=zero)
    at_four, at_start = -math.log(0.8) * 0.2 + 0.25 * 0.8, (math.log(2) + 1) / 2
    assert loss(x).total.item() == pytest.approx(at_four + at_start)


def test_the_aliases_are_all_listed() -> None:
    text = (ROOT / "docs" / "migrate.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `--(\w+)` \| ", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted({*aliases.SAME_AS, *aliases.ALIASES})


# ---------------------------------------------------------------------------------------------- set-up
def test_ci_runs_the_tests_as_the_readme_says() -> None:
    lines = [line for line in README.splitlines() if "pytest" in line]
    assert len(lines) == 1, "README.md must have exactly one line with pytest: .ci/run takes the command from it"
    install, _, tests = lines[0].rpartition("&& ")
    assert re.fullmatch(r"(\S*/)?(python -m )?pytest( .*)?", tests), tests
    assert "-c constraints.txt" in install
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "line=$(grep -m 1 pytest README.md)" in script
    assert "tests=${line##*&& }" in script
    assert 'bash -c "$tests"' in script


def test_constraints_pin_every_requirement_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): Version(version) for name, version in pins.items()}
    assert all(version.local is None for version in versions.values())
    assert versions["torch"] == Version("2.13.0")
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_the_layout_table_names_folders_that_exist() -> None:
    table = CONTRIBUTING.partition("\n## Layout\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)/` \| (?:`(\w+)`)? ?\|", table, flags=re.MULTILINE)
    assert {folder for folder, package in rows if package} == {"core", "plugins", "builtin_methods", "builtin_rewards"}
    for folder, package in rows:
        assert (ROOT / folder / package).is_dir(), folder
