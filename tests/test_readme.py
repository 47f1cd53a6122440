"""What README.md says to type works, in the order in which it says so, in an empty folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tunesmith.cli.common import COMMANDS
from tunesmith.cli.main import main
from tunesmith.plugins import Registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def own_part(heading: str) -> str:
    """What stands under a heading, up to the next of any level."""
    return re.split(r"\n##+ ", README.partition(f"\n## {heading}\n")[2])[0]


def lines(text: str = README) -> list[str]:
    """Every line of shell but comments."""
    return [line for block in blocks("sh", text) for line in block.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves, in its quick form."""
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--quick", "--output", str(folder / "runs" / "demo")]) == 0
    return folder


def type_all(typed: list[str]) -> None:
    for line in typed:
        command, *arguments = shlex.split(line)
        if command == "tunesmith":
            assert main(arguments) == 0, line
        else:
            subprocess.run(["bash", "-euc", line], check=True)


def test_everything_after_the_set_up_works(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.yaml").write_text(*blocks("yaml"), encoding="utf-8")
    (tmp_path / "my_plugin.py").write_text(*blocks("python"), encoding="utf-8")
    typed = [line for line in lines() if "pip install" not in line]
    assert sum(line.startswith("tunesmith run ") for line in typed) >= 5
    type_all(typed)
    for name in ("model", "run.yaml", "report.html", "metrics.jsonl", "data_report.json", "manifest.json", "log.txt"):
        assert f"`{name}`" in README or f"`{name}/`" in README
        assert (tmp_path / "runs" / "domain" / name).exists()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guides_work(guide: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    type_all(lines(guide.read_text(encoding="utf-8")))


def test_files_that_are_linked_are_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)", README)
    assert linked and not [name for name in linked if not (ROOT / name).exists()]


def test_both_set_up_lines_install_the_same_way_and_end_with_what_they_promise() -> None:
    demo, tests = (line.split(" && ") for line in lines() if "pip install" in line)
    assert demo[:-2] == tests[:-2]
    assert demo[-2] == "pip install -q -c constraints.txt -e ."
    assert re.fullmatch(r'pip install -q -c constraints.txt -e "\.\[dev.*\]"', tests[-2])
    assert demo[-1] == "tunesmith demo"


@pytest.mark.parametrize(("heading", "kind"), [("Methods", "method"), ("Rewards", "reward")])
def test_a_table_is_the_list_of_what_is_built_in(registry: Registry, heading: str, kind: str) -> None:
    section = README.partition(f"\n## {heading}\n")[2].partition("\n##")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    built_in = [cls.name for plugin, cls in registry.entries(kind) if plugin.distribution == "tunesmith"]
    assert sorted(named) == sorted(built_in)


def test_the_table_of_rewards_says_which_columns_they_read(registry: Registry) -> None:
    section = README.partition("\n## Rewards\n")[2].partition("\n##")[0]
    for names, columns in re.findall(r"^\| (`.*?) \|.*\|(.*)\|$", section, flags=re.MULTILINE):
        groups = [re.findall(r"`(\w+)`", group) for group in columns.split(";")]
        for i, name in enumerate(re.findall(r"`([\w-]+)`", names)):
            reward = registry.get("reward", name).model_construct()
            assert list(reward.columns()) == (groups[i] if len(groups) > 1 else groups[0]), name


def test_commands_in_the_text_exist(registry: Registry) -> None:
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    mentioned = set(re.findall(r"`tunesmith (\w+)", text))
    assert mentioned
    assert mentioned <= {*COMMANDS, *registry.commands()}
