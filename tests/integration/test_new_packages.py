"""What `tunesmith new` writes: all eight kinds, linted, type-checked, installed, tested and taken out again."""

import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith import KINDS
from tunesmith.cli.main import main
from tunesmith.cli.scaffold import Scaffold

NAMES = {kind: f"fresh-{kind}" if kind != "reward" else "sql-result" for kind in KINDS}
PACKAGES = {kind: f"tunesmith-{name}" for kind, name in NAMES.items()}
OFFLINE = ("--", "--no-index", "--no-deps", "--no-build-isolation")
TABLE = "CREATE TABLE city (name TEXT, people INT); INSERT INTO city VALUES ('Oslo', 7), ('Rome', 28), ('Lima', 100)"
EDITS = [
    ("import tunesmith\n", "import sqlite3\n\nimport tunesmith\n"),
    (
        '{"prompt": "What is 170 + 2?", "answer": "172", "completion": "Add the ones first.\\n172"}',
        '{"prompt": "Largest?", "answer": "SELECT \'Lima\'", "completion": "SELECT name FROM city WHERE people > 99"}',
    ),
    (
        '{"prompt": "What is 9 * 2100?", "answer": "18900", "completion": "18,900"}',
        '{"prompt": "How many?", "answer": "SELECT 3", "completion": "SELECT count(*) FROM city"}',
    ),
    (
        'return float(text.strip().rpartition("\\n")[2].replace(",", ""))',
        'return sorted(sqlite3.connect("file:city.db?mode=ro", uri=True).execute(text).fetchall(), key=repr)',
    ),
    ("except ValueError:", "except (sqlite3.Error, sqlite3.Warning, ValueError):"),
]
"""The five lines that make a verifier of SQL out of what was written."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All eight packages, as they are written."""
    folder = tmp_path_factory.mktemp("new")
    for kind, package in PACKAGES.items():
        assert main(["new", kind, NAMES[kind], "--output", str(folder / package)]) == 0
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment of its own that also sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    text = "".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours))
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text(text)
    return interpreter


def typed(python: Path, folder: Path, *words: str) -> SimpleNamespace:
    """What a user of that environment sees."""
    done = subprocess.run(
        [python, "-m", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="module")
def installed(python, folder) -> SimpleNamespace:
    return typed(python, folder, "tunesmith", "install", *PACKAGES.values(), *OFFLINE)


# ---------------------------------------------------------------------------------------------- as written
def test_the_component_is_one_short_file_beside_all_that_a_package_needs(folder):
    for kind, package in PACKAGES.items():
        module = package.replace("-", "_")
        files = {str(path.relative_to(folder / package)) for path in (folder / package).rglob("*") if path.is_file()}
        assert files == {
            "pyproject.toml", "README.md", ".gitignore", ".github/workflows/ci.yml", "tests/test_conformance.py",
            f"{module}/__init__.py", f"{module}/py.typed",
        }  # fmt: skip
        source = (folder / package / module / "__init__.py").read_text()
        assert len(source.splitlines()) < 60 and source.count("EDIT") >= 2, kind
        test = [line for line in (folder / package / "tests/test_conformance.py").read_text().splitlines() if line]
        assert len(test) == 2 and test[0].startswith("from tunesmith.testing import ")
        project = tomllib.loads((folder / package / "pyproject.toml").read_text())["project"]
        assert project["entry-points"]["tunesmith"] == {NAMES[kind]: module} and "license" not in project


def test_lint_and_format_are_clean_also_with_the_longest_of_names(folder, tmp_path):
    long = "-".join(["abcdefghi"] * 4)
    assert len(long) == 39
    for kind in KINDS:
        assert main(["new", kind, long, "--output", str(tmp_path / kind), "--package", f"x-{kind}-{long}"]) == 0
    for words in (("check",), ("format", "--check", "--diff")):
        ruff = [sys.executable, "-m", "ruff", *words, "--no-cache", str(folder), str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_types_are_right_under_their_own_settings(folder, python, installed, tmp_path):
    settings = tomllib.loads((folder / PACKAGES["reward"] / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    modules = [word for package in PACKAGES.values() for word in ("-p", package.replace("-", "_"))]
    mypy = [sys.executable, "-m", "mypy", "--python-executable", str(python), "--cache-dir", str(tmp_path / "cache")]
    config = ["--config-file", str(folder / PACKAGES["reward"] / "pyproject.toml")]
    done = subprocess.run([*mypy, *config, *modules], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "symbol"),
    [
        ("reward", "sql-result", "sql_result"),
        ("reward", "float", "reward_float"),
        ("reward", "import", "reward_import"),
        ("reward", "2-wrongs", "reward_2_wrongs"),
        ("tracker", "csv-tracker", "CsvTracker"),
        ("format", "data", "DataFormat"),
        ("scheduler", "2-phase", "A2PhaseScheduler"),
    ],
)
def test_what_it_is_called_in_python_hides_nothing(kind, name, symbol):
    scaffold = Scaffold(kind, name, "p", name, "")
    assert scaffold.symbol == symbol
    names: dict = {}
    exec(compile(scaffold.render()[scaffold.component], name, "exec"), names)
    assert name in {cls.name for cls in names[f"tunesmith_register_{'data_' * (kind == 'format')}{kind}s"]()}


# ---------------------------------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("reward", "sql_result"),
            ("'sql_result' cannot be the name of a reward", "fix   tunesmith new reward sql-result"),
        ),
        (("reward", "SqlResult"), ("tunesmith new reward sql-result",)),
        (("reward", "x" * 41), ("40 characters at most",)),
        (("rewardd", "x"), ("there is no kind of component 'rewardd'; did you mean 'reward'?",)),
        (
            ("reward", "math"),
            ("there is a reward 'math' already", "math/math (tunesmith ", 'replaces = "tunesmith/math"'),
        ),
        (("reward", "fresh", "--package", "2x"), ("'2x' cannot be the name of a package",)),
        (("reward", "fresh", "--package", "json"), ("there is a module 'json' already",)),
        (("reward", "fresh", "--output", "full"), ("full exists already",)),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    assert main(["new", *words]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in said), told
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["full", "full/mine.txt"]


def test_a_name_is_free_again_where_its_plugin_is_left_out(tmp_path, capsys):
    assert main(["new", "reward", "math", "--output", str(tmp_path / "m"), "--no-plugin", "math"]) == 0
    assert 'tunesmith-math = "tunesmith_math"' in (tmp_path / "m" / "pyproject.toml").read_text()
    assert "tunesmith check reward math" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- installed
def test_install_says_what_has_appeared_and_list_has_it(installed, python, folder):
    assert installed.code == 0, installed.err
    for kind, name in NAMES.items():
        assert f"new     {kind} {name}  ({PACKAGES[kind]} 0.1.0)\n" in installed.out
    listed = json.loads(typed(python, folder, "tunesmith", "list", "--json").out)["components"]
    assert {(row["kind"], row["name"], row["package"]) for row in listed} >= {
        (kind, name, PACKAGES[kind]) for kind, name in NAMES.items()
    }
    again = typed(python, folder, "tunesmith", "install", PACKAGES["scheduler"], *OFFLINE)
    assert again.code == 0 and again.out.startswith("no component has appeared or disappeared")


def test_their_own_tests_pass(installed, python, folder):
    tests = [f"{package}/tests" for package in PACKAGES.values()]
    done = typed(python, folder, "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", *tests)
    assert done.code == 0, done.out[-3000:]


def test_five_edited_lines_make_a_verifier_that_a_run_is_trained_with(installed, python, folder, tiny_model):
    package = folder / PACKAGES["reward"]
    path = package / "tunesmith_sql_result" / "__init__.py"
    text = path.read_text()
    for old, new in EDITS:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    with sqlite3.connect(package / "city.db") as connection:
        connection.executescript(TABLE)
    connection.close()
    prompts = [("Largest?", "SELECT 'Lima'"), ("Smallest?", "SELECT 'Oslo'"), ("How many?", "SELECT 3")]
    rows = "".join(json.dumps({"prompt": prompt, "answer": answer}) + "\n" for prompt, answer in prompts)
    (package / "prompts.jsonl").write_text(rows)

    editable = typed(python, package, "tunesmith", "install", "--editable", ".", *OFFLINE)
    assert editable.code == 0, editable.err
    check = typed(python, package, "tunesmith", "check", "reward", "sql-result")
    assert check.code == 0, check.out + check.err
    assert "hostile answers" in check.out and "failed" not in check.out
    pip = typed(python, package, "pip", "install", "-q", "--disable-pip-version-check", *OFFLINE[1:], ".")
    assert pip.code == 0, pip.err
    run = typed(
        python, package, "tunesmith", "run", "grpo", "--reward", "sql-result", "--model", str(tiny_model),
        "--data", "prompts.jsonl", "--max-steps", "1", "--batch-size", "2", "--group-size", "2",
        "--max-new-tokens", "4", "--force", "--output", "run",
    )  # fmt: skip
    assert run.code == 0, run.err
    samples = [json.loads(line) for line in (package / "run" / "samples.jsonl").read_text().splitlines()]
    assert samples and all("sql-result" in json.dumps(sample) for sample in samples)


def test_uninstall_takes_out_what_is_a_plugin_package_and_nothing_else(installed, python, folder):
    for name, said in [
        ("tunesmith", "is tunesmith itself"),
        ("sft", "'sft' is a part of tunesmith itself"),
        ("pluggy", "pluggy is no plugin of tunesmith, so it is left alone"),
        ("fresh-sheduler", "did you mean 'fresh-scheduler'?"),
    ]:
        refused = typed(python, folder, "tunesmith", "uninstall", name)
        assert (refused.code, refused.out) == (2, "") and said in refused.err, refused.err
    done = typed(python, folder, "tunesmith", "uninstall", "fresh-scheduler", "tunesmith_fresh_source")
    assert done.code == 0, done.err
    assert done.out == (
        "gone    scheduler fresh-scheduler  (tunesmith-fresh-scheduler 0.1.0)\n"
        "gone    source fresh-source  (tunesmith-fresh-source 0.1.0)\n"
    )


def test_a_plugin_that_fails_to_load_is_said_with_its_cause(installed, python, folder):
    package = folder / PACKAGES["tracker"]
    path = package / PACKAGES["tracker"].replace("-", "_") / "__init__.py"
    path.write_text(f"{path.read_text()}import a_package_that_nobody_wrote\n")
    done = typed(python, folder, "tunesmith", "install", str(package), *OFFLINE, "--force-reinstall")
    assert done.code == 4 and "gone    tracker fresh-tracker" in done.out
    cause = "ModuleNotFoundError: No module named 'a_package_that_nobody_wrote'"
    assert f"broken  fresh-tracker (tunesmith-fresh-tracker 0.1.0): {cause}" in done.out
    assert "installed, but a plugin fails to load" in done.err


def test_what_cannot_be_installed_is_one_error(python, folder):
    missing = typed(python, folder, "tunesmith", "install", "./no-such-folder")
    assert missing.code == 2 and "there is no folder or file './no-such-folder'" in missing.err
    unknown = typed(python, folder, "tunesmith", "install", "tunesmith-nobody-wrote-this", *OFFLINE)
    assert unknown.code == 4 and "could not install tunesmith-nobody-wrote-this" in unknown.err
    assert "why   No matching distribution found" in unknown.err


def test_without_pip_it_is_uv_or_an_error(monkeypatch, capsys, tmp_path):
    import tunesmith.cli.install as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["install", "x"]) == 4
    assert "there is nothing to install packages with" in capsys.readouterr().err
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {tmp_path}/said\n')
    uv.chmod(0o755)
    assert main(["install", "--editable", "x"]) == 0
    assert (tmp_path / "said").read_text() == f"pip install --python {sys.executable} --editable x "
