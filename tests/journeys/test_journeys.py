"""The journeys of docs/journeys, typed as they stand there: what they print is what the pages say."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the folder is no package
import console

JOURNEYS = sorted((Path(__file__).parents[2] / "docs" / "journeys").glob("[0-9]*.md"))


@pytest.fixture
def traveller(tiny_model, tmp_path, monkeypatch):
    """An empty folder with ``my-model``, and a terminal of 80 columns without colours."""
    shutil.copytree(tiny_model, tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)


def test_there_are_ten_journeys():
    assert len(JOURNEYS) >= 10


@pytest.mark.parametrize("page", JOURNEYS, ids=lambda page: page.stem)
def test_a_journey_goes_as_it_is_told(page, traveller):
    typed = 0
    for step, printed in console.play(page.read_text(encoding="utf-8")):
        assert console.agrees(step.printed, printed), f"$ {step.command}\n{printed}"
        typed += step.command.startswith("tunesmith ")
    assert typed >= 2


# ------------------------------------------------------------------------------------------------ the test of the test
@pytest.mark.parametrize(
    ("expected", "printed", "agreed"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a\nc\n", False),
        (["a", "b"], "a\n", False),
        (["a"], "a\nb\n", False),
        ([], "", True),
        ([], "a\n", False),
        (["a", "...", "c"], "a\nb\nb\nc\n", True),
        (["a", "...", "c"], "a\nc\n", True),
        (["a", "..."], "a\n", True),
        (["a", "...", "c"], "a\nb\n", False),
        (["loss ... left"], "loss 5.7  left\n", True),
        (["loss ... left"], "loss 5.7\nleft\n", False),
        (["5.7"], "517\n", False),
        (["...", "b", "...", "b", "c"], "b\nb\nc\nb\nb\nc\n", True),
        (["..."] * 30 + ["x"], "a\n" * 3000, False),
        (["a", "", "b"], "a\n\nb\n\n", True),
    ],
)
def test_what_agrees(expected, printed, agreed):
    assert console.agrees(expected, printed) == agreed


def test_steps_of_a_transcript():
    text = '# T\n\n```python title="a/b.py"\nprint(1)\n```\n\n```console\n$ one \\\n    two\n1\n$ three\n```\n'
    text += "\n```sh\n$ not typed\n```\n"
    file, first, second = console.steps(text)
    assert (file.file, file.content) == ("a/b.py", "print(1)\n")
    assert (first.command, first.printed) == ("one two", ["1"])
    assert (second.command, second.printed) == ("three", [])


def test_a_shell_remembers_the_exit_code(traveller):
    shell = console.Shell()
    assert shell.type("tunesmith --version").startswith("tunesmith ")
    assert shell.type("echo $?") == "0\n"
    shell.type("tunesmith show nothing-of-that-name")
    assert shell.type("echo $?") == "2\n"
    shell.type("exit 3")
    assert shell.type("echo $?") == "3\n"
