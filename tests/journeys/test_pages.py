"""The pages on plugins and on coming from elsewhere, typed as they stand there.

What pip would do stands in for itself: a folder of metadata makes a package known, as it is after an installation. Real
ones are in tests/integration.
"""

import importlib
import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the folder is no package
import console

from tunesmith.cli import install

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path for path in [*DOCS.glob("plugins/*.md"), DOCS / "migrate.md", DOCS / "compatibility.md"])


def put(packages: Path, folder: Path) -> None:
    """Make the package in a folder known, as an editable installation does."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = project["name"]
    info = packages / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    requires = "".join(f"Requires-Dist: {text}\n" for text in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head + requires, encoding="utf-8")
    points = project["entry-points"]["tunesmith"]
    lines = "".join(f"{point} = {module}\n" for point, module in points.items())
    (info / "entry_points.txt").write_text(f"[tunesmith]\n{lines}", encoding="utf-8")
    for module in points.values():
        link = packages / module
        if not link.exists():
            link.symlink_to(folder.resolve() / module)


@pytest.fixture
def author(tiny_model, tmp_path, monkeypatch):
    """An empty folder with ``my-model``, and an environment in which packages can be installed."""
    packages = tmp_path / "packages"
    packages.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    shutil.copytree(tiny_model, work / "my-model")
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)

    def run(words, what):
        assert words[:2] == ["install", "--editable"], words
        put(packages, Path(words[2]))
        importlib.invalidate_caches()
        return []

    monkeypatch.setattr(install, "_run", run)
    before = set(sys.modules)
    yield work
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, author):
    typed = 0
    for step, printed in console.play(page.read_text(encoding="utf-8")):
        assert console.agrees(step.printed, printed), f"$ {step.command}\n{printed}"
        typed += step.command.startswith("tunesmith ")
    assert typed >= 1


def test_a_change_is_made_at_its_place(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    assert console.changed(path, "-two\n+2\n\n three\n+four\n") == "one\n2\nthree\nfour\n"
    with pytest.raises(AssertionError, match="0 times"):
        console.changed(path, "-five\n+5\n")
