"""The site: it builds without a warning, asks nobody for anything, and what is made from the code is up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A page that is not in the navigation and a link that leads nowhere are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_findable(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "tunesmith_register_generators" in index


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"' >]+)", text)
        loaded += re.findall(r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*href=[\"']?([^\"' >]+)", text)
        assert loaded and not [link for link in loaded if link.startswith(("http:", "https:", "//"))], path


def test_links_out_of_the_pages_are_paths(site: Path) -> None:
    text = (site / "plugins" / "index.html").read_text(encoding="utf-8")
    assert "<code>examples/tunesmith-dpop/README.md</code>" in text and 'href="../../examples' not in text
    assert not list(site.rglob("*.py"))


def test_pages_that_are_made_from_the_code_are_up_to_date() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_drifts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import generate  # type: ignore[import-not-found]  # a script
    from generating import conformance  # type: ignore[import-not-found]

    hooks = generate.hooks.page()
    assert generate.outdated({"hooks.md": hooks}) == []
    assert generate.outdated({"hooks.md": hooks.replace("step", "stop")})[0].startswith("docs/hooks.md is out of date")
    text = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert conformance.drift(text) == []
    assert conformance.drift(text.replace("| `sft` |", "| `stf` |"))
    assert conformance.drift(text.replace(". packing", ". pucking"))
