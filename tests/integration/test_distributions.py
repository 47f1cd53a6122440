"""Distributions of strangers, built and installed for real, and the command line beside them."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import tunesmith

DISTS = Path(__file__).parent / "dists"
NAMES = ("good", "broken", "clashing", "misspelt")
OF_ANOTHER_TIME = ("older", "outdated")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment of its own that also sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    site = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site) / "ours.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours)))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *offline]
    subprocess.run([*pip, *(str(DISTS / name) for name in NAMES + OF_ANOTHER_TIME)], check=True, timeout=300)
    return interpreter


@pytest.fixture
def cli(python, tmp_path):
    """``cli(*words)``: what a user of that environment gets."""

    def run(*words: str, **variables: str) -> SimpleNamespace:
        import os

        done = subprocess.run(
            [python, "-m", "tunesmith", *words],
            cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


def rows(cli, *words: str) -> dict[str, dict]:
    return {row["plugin"]: row for row in json.loads(cli("plugins", "--json", *words).out)["plugins"]}


DRY = ("--model", "m", "--data", "python-docs", "--dry-run")


def test_every_distribution_is_a_row_with_its_status_and_cause(cli):
    found = rows(cli)
    assert {name: found[name]["status"] for name in NAMES} == {
        "good": "ok",
        "broken": "broken",
        "clashing": "ok",
        "misspelt": "broken",
    }
    assert all((found[name]["package"], found[name]["version"]) == (f"tunesmith-{name}", "1.2") for name in NAMES)
    assert found["broken"]["cause"] == "ModuleNotFoundError: No module named 'a_package_that_nobody_wrote'"
    assert found["misspelt"]["cause"] == (
        "there is no hook 'tunesmith_register_objective'; did you mean 'tunesmith_register_objectives'?"
    )
    assert found["broken"]["components"] == found["misspelt"]["components"] == []
    assert {"kind": "method", "name": "good-method"} in found["good"]["components"]
    own = [row for row in found.values() if row["package"] == "tunesmith"]
    assert own and all(row["status"] == "ok" for row in own)


def test_table_of_plugins_shows_the_same(cli):
    lines = {line.split()[0]: " ".join(line.split()) for line in cli("plugins").out.splitlines()}
    assert lines["broken"].startswith("broken tunesmith-broken 1.2 ")
    assert lines["broken"].endswith("broken ModuleNotFoundError: No module named 'a_package_that_nobody_wrote'")
    assert "method good-method; objective good-loss; scheduler good-ramp;" in lines["good"]


def test_list_has_the_good_ones_beside_ours_and_marks_the_clash(cli):
    result = cli("list", "objectives")
    assert result.code == 0
    assert "Likelihood of the good package. [clash: write good/good-loss]" in result.out
    assert "Likelihood of the clashing package. [clash: write clashing/good-loss]" in result.out
    assert "broken-loss" not in result.out and "misspelt-loss" not in result.out
    assert result.err == "3 plugins failed to load: broken, misspelt, outdated; see `tunesmith plugins`\n"


def test_clash_is_an_error_on_use_that_names_both_and_the_way_out(cli):
    for words in (("show", "good-loss"), ("run", "good-method", *DRY, "--objective", "good-loss")):
        result = cli(*words)
        assert (result.code, result.out) == (2, "")
        assert "2 plugins provide the objective 'good-loss'" in result.err
        assert "good/good-loss (tunesmith-good 1.2)" in result.err
        assert "clashing/good-loss (tunesmith-clashing 1.2)" in result.err
        assert "write one of: clashing/good-loss, good/good-loss; or block one with --no-plugin NAME" in result.err


@pytest.mark.parametrize(
    "selector", ["clashing/good-loss", "tunesmith-clashing/good-loss", "tunesmith_clashing/good-loss"]
)
def test_plugin_or_package_in_front_of_the_name_resolves_the_clash(cli, selector):
    assert "Likelihood of the clashing package." in cli("show", selector).out
    run = cli("run", "good-method", *DRY, "--objective", selector)
    assert run.code == 0, run.err
    assert yaml.safe_load(run.out)["objective"] == {"name": selector, "strength": 2.0}


@pytest.mark.parametrize("name", ["clashing", "tunesmith-clashing"])
def test_blocking_one_resolves_the_clash(cli, name):
    flag = cli("run", "good-method", *DRY, "--objective", "good-loss", "--no-plugin", name)
    variable = cli("run", "good-method", *DRY, "--objective", "good-loss", TUNESMITH_NO_PLUGINS=name)
    assert flag.code == variable.code == 0
    assert yaml.safe_load(flag.out)["objective"] == {"name": "good-loss", "weight": 1.0}
    assert yaml.safe_load(flag.out)["plugins"]["block"] == [name]
    assert rows(cli, "--no-plugin", name)["clashing"]["status"] == "blocked"


def test_package_made_for_an_older_tunesmith_is_refused_in_one_sentence(cli):
    found = rows(cli)["outdated"]
    assert (found["status"], found["version"], found["components"]) == ("broken", "2.0", [])
    assert found["cause"] == (
        f"tunesmith-outdated 2.0 is made for tunesmith <0.1,>=0.0.1 and this is {tunesmith.__version__}: "
        "pip install --upgrade tunesmith-outdated"
    )


def test_package_written_against_the_first_0_1_keeps_working(cli):
    assert rows(cli)["older"]["status"] == "ok"
    assert {(one["kind"], one["name"]) for one in rows(cli)["older"]["components"]} == {
        ("method", "older-method"), ("objective", "older-loss"), ("reward", "older-reward")
    }  # fmt: skip
    for name in ("older-method", "older-loss", "older-reward"):
        assert cli("show", name).code == 0


def test_run_that_does_not_need_the_broken_ones_works(cli):
    for method in ("good-method", "pt"):
        run = cli("run", method, *DRY)
        assert run.code == 0, run.err
        assert yaml.safe_load(run.out)["method"] == method


@pytest.mark.parametrize(
    ("wanted", "cause"),
    [
        (
            "broken-loss",
            "broken (tunesmith-broken): ModuleNotFoundError: No module named 'a_package_that_nobody_wrote'",
        ),
        ("misspelt-loss", "misspelt (tunesmith-misspelt): there is no hook 'tunesmith_register_objective'"),
    ],
)
def test_run_that_needs_a_broken_one_fails_with_its_cause(cli, wanted, cause):
    run = cli("run", "good-method", *DRY, "--objective", wanted)
    assert (run.code, run.out) == (2, "")
    assert f"there is no objective '{wanted}'" in run.err and cause in run.err


def test_commands_are_added_and_taken_ones_refused_with_their_owner(cli):
    assert cli("good-morning").out == "bad morning\n"  # packages are loaded by name: clashing comes before good
    cause = rows(cli)["good"]["cause"]
    assert cause == "the command 'good-morning' is refused: it belongs to the plugin clashing (tunesmith-clashing 1.2)"
    assert rows(cli)["clashing"]["cause"] == "the command 'list' is refused: it belongs to tunesmith"
    assert cli("list").out.startswith("methods\n")
    assert cli("good-morning", "--help").code == 0
    assert cli("--no-plugin", "clashing", "good-morning").out == "good morning\n"


def test_run_file_requires_versions(cli, tmp_path):
    for version, code in ((">=1.2", 0), (">=9", 2)):
        text = f"method: good-method\nmodel: m\ndata: python-docs\nplugins: {{require: ['tunesmith-good{version}']}}\n"
        (tmp_path / "run.yaml").write_text(text)
        run = cli("run", "run.yaml", "--dry-run")
        assert run.code == code
    assert "this run requires tunesmith-good>=9, but tunesmith-good 1.2 is installed" in run.err


def test_schema_knows_the_settings_of_strangers(cli):
    schema = json.loads(cli("schema").out)
    names = schema["$defs"]["objective"]["anyOf"][0]["enum"]
    assert "good-method" in schema["properties"]["method"]["enum"]
    assert {"good/good-loss", "clashing/good-loss"} <= set(names) and "good-loss" not in names


def test_without_our_own_plugins_those_of_strangers_work(cli):
    found = rows(cli, "--no-plugin", "tunesmith")
    assert {row["status"] for row in found.values() if row["package"] == "tunesmith"} == {"blocked"}
    assert "good-method" in cli("list", "--no-plugin", "tunesmith").out
    assert cli("show", "good-method", "--no-plugin", "tunesmith").code == 0
