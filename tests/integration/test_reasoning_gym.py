"""The example package for reasoning-gym: installed like any stranger's, its tests, and the command line beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "examples" / "tunesmith-reasoning-gym"
pytestmark = pytest.mark.skipif(
    find_spec("reasoning_gym") is None,
    reason="NOT TESTED: examples/tunesmith-reasoning-gym, because reasoning-gym is not installed (it brings matplotlib "
    "and needs a C compiler): pip install 'reasoning-gym>=0.1.25,<0.2'",
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment of its own with the package, which also sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site) / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours)))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *offline]
    subprocess.run([*pip, str(PACKAGE)], check=True, timeout=300)
    return interpreter


def run(python: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *words], cwd=cwd, env=os.environ, capture_output=True, text=True, timeout=500)


def test_its_own_tests_pass_where_it_is_installed(python: Path, tmp_path: Path) -> None:
    """From another folder, so that the installed package is tested and not the files beside the tests."""
    options = ("-q", "-c", PACKAGE / "pyproject.toml", "--rootdir", tmp_path, "-p", "no:cacheprovider")
    done = run(python, "-m", "pytest", *options, "--import-mode=importlib", PACKAGE / "tests", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_source_and_reward_are_there_like_the_built_in_ones(python: Path, tmp_path: Path) -> None:
    for kind in ("sources", "rewards"):
        found = run(python, "-m", "tunesmith", "list", kind, cwd=tmp_path)
        assert found.returncode == 0 and "reasoning-gym" in found.stdout, found.stderr
    script = (
        "import json; from tunesmith import plugins; from tunesmith.config import build;"
        "source = build(plugins.load(), 'source', {'name': 'reasoning-gym', 'task': ['chain_sum', 'jugs'], 'size': 8});"
        "[print(json.dumps(row.data)) for row in source.rows()]"
    )
    made = run(python, "-c", script, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "rows.jsonl").write_text(made.stdout)
    scored = run(python, "-m", "tunesmith", "score", "reasoning-gym", "--data", "rows.jsonl", "--json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["rewards"][0]["mean"] == 1.0
