"""What import-linter cannot see: what importing a plugin costs, and names of built-ins inside the core."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tunesmith
from tunesmith import plugins

CORE = Path(tunesmith.__file__).parent
HEAVY = ("torch", "transformers", "datasets", "pyarrow", "numpy", "pandas", "accelerate", "peft")
POINTS = sorted(point.value for point in entry_points(group=plugins.GROUP) if point.dist.name == plugins.GROUP)


@pytest.mark.parametrize("module", ["tunesmith", "tunesmith.config", "tunesmith.cli.main", *POINTS])
def test_importing_what_list_and_help_need_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def names(kind: str) -> set[str]:
    registry = plugins.load()
    return {cls.name for plugin, cls in registry.entries(kind) if plugin.distribution == plugins.GROUP}


def strings(path: Path) -> list[ast.Constant]:
    """The string constants of a file; a docstring speaks about the code and is not one of them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    docs = {node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    return [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in docs]


def test_the_core_names_no_built_in_method_loss_or_tracker() -> None:
    # names of formats, sources and schedules (text, files, constant), and those of rewards that are one word (length),
    # are ordinary words: see the next test for them
    rewards = {name for name in names("reward") if "-" in name}
    built_in = names("method") | names("objective") | rewards | names("tracker")
    assert {"sft", "nll", "reward-model", "terminal"} <= built_in
    built_in -= {"terminal"}  # also the device that stderr may be
    shell = ("workplace.py", "rm")  # the command that removes a folder
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, sorted(built_in)))})(?![\w-]|\.\w)")
    found = [
        f"{path.relative_to(CORE)}:{n.lineno}: {n.value!r}"
        for path in CORE.rglob("*.py")
        for n in strings(path)
        if word.search(n.value) and (path.name, n.value) != shell
    ]
    assert found == []


def test_the_core_looks_up_no_built_in_format_source_schedule_or_reward() -> None:
    built_in = names("format") | names("source") | names("scheduler") | names("reward")
    assert {"messages", "files", "cosine", "length"} <= built_in
    calls = []
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                literals = {a.value for a in node.args if isinstance(a, ast.Constant)}
                if called in ("build", "get") and literals & built_in and literals & set(tunesmith.KINDS):
                    calls.append(f"{path.relative_to(CORE)}:{node.lineno}")
    assert calls == []
