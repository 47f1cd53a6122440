"""Looking around is instant: no command that only reads about components imports a heavy package."""

import os
import resource
import subprocess
import sys

import pytest

LIMIT_S = 0.3
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "numpy",
    "pyarrow",
    "accelerate",
    "peft",
    "pandas",
    "bitsandbytes",
    "rich",
}
LOOKING = [
    (), ("--help",), ("--version",), ("list",), ("list", "methods"), ("plugins",), ("show", "sft"), ("schema",),
    ("list", "--help"), ("show", "--help"), ("plugins", "--help"), ("run", "--help"), ("run", "sft", "--help"),
    ("run", "sft", "--help-all"), ("resume", "--help"), ("plan", "--help"), ("plan", "sft", "--help"),
    ("doctor", "--help"), ("data", "--help"),
    ("data", "check", "--help"), ("data", "show", "--help"), ("score", "--help"), ("check", "--help"),
    ("advise", "--help"), ("budget", "--help"),
    ("new", "--help"), ("install", "--help"), ("uninstall", "--help"),
    ("list", "rewards"), ("vocab", "--help"), ("vocab", "measure", "--help"), ("vocab", "expand", "--help"),
    ("report", "--help"), ("compare", "--help"), ("chat", "--help"), ("export", "--help"),
]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """As installed packages are: compiled once."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**environ, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("pycache"))}


def tunesmith(*words, environment, flags=()):
    command = [sys.executable, *flags, "-m", "tunesmith", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_looking_around_imports_nothing_heavy(words, environment):
    trace = tunesmith(*words, environment=environment, flags=("-X", "importtime")).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in trace.splitlines()}
    assert "tunesmith" in imported, "the trace is not what this test takes it for"
    assert imported & HEAVY == set()


@pytest.mark.parametrize("words", [("list",), ("show", "sft"), ("--help",), ("run", "sft", "--help")], ids=" ".join)
def test_looking_around_is_instant(words, environment):
    """Processor time, as the machine may be busy; on an idle one that is the time that a user waits.

    A busy machine makes every instruction slower too: there the limit is four times what importing pydantic takes
    at the same moment, which is a quarter of the limit on an idle one.
    """

    def seconds(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours, pydantic = [sys.executable, "-m", "tunesmith", *words], [sys.executable, "-c", "import pydantic.main"]
    seconds(ours), seconds(pydantic)  # compiles
    rounds = [(seconds(ours), seconds(pydantic)) for _ in range(5)]
    assert min(one for one, _ in rounds) < max(LIMIT_S, 4 * min(other for _, other in rounds))


def test_showing_rewards_with_their_examples_imports_nothing_heavy(environment):
    code = f"""
import sys
from tunesmith.cli.main import main
from tunesmith.plugins import load
codes = [main(["show", f"reward/{{name}}"]) for name in load().names("reward")]
print(any(codes), len(codes) > 3, {HEAVY!r} & set(sys.modules), file=sys.stderr)
"""
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stderr == "False True set()\n"


def test_importing_plugins_imports_nothing_heavy(environment):
    """One after the other in a fresh process; a plugin is blamed for what it is the first to import."""
    code = f"""
import importlib, sys
from importlib.metadata import entry_points
blame, seen = {{}}, set()
for point in entry_points(group="tunesmith"):
    importlib.import_module(point.module)
    new = {HEAVY!r} & set(sys.modules) - seen
    seen |= new
    if new:
        blame[point.name] = sorted(new)
print(blame, len(entry_points(group="tunesmith")) > 3)
"""
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout == "{} True\n"


def test_plugin_that_imports_torch_is_told_so(environment, tmp_path):
    (tmp_path / "torch.py").write_text("")  # an empty one does, and is quicker
    plugin = "import torch, tunesmith\n@tunesmith.hookimpl\ndef tunesmith_register_rewards():\n    return []\n"
    (tmp_path / "slow.py").write_text(plugin)
    (tmp_path / "slower.py").write_text(plugin)
    files = ("--plugin", str(tmp_path / "slow.py"), "--plugin", str(tmp_path / "slower.py"))
    rows = tunesmith("plugins", *files, environment={**environment, "PYTHONPATH": str(tmp_path)}).stdout.splitlines()
    assert [line.split()[0] for line in rows if "it imports torch when it is loaded" in line] == ["slow"]
