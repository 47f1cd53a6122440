"""The packages under examples/, and each folder of builtin_methods/ as a package of its own: built, installed, run.

All of them go into one environment, which sees the libraries of the present one. What needs torch shares processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.cli.scaffold import Scaffold

ROOT = Path(__file__).parents[2]
EXAMPLES = ("dpop", "reinforce-plus-plus", "units", "git", "verifiers")
"""Beside reasoning-gym, which has tests of its own."""
METHODS = ROOT / "builtin_methods" / "tunesmith_methods"
FOLDERS = sorted(path.parent.name for path in METHODS.glob("*/__init__.py"))
LACKING = {"units": "pint"}
"""What an example needs that nothing else here does."""


def dependency(example: str) -> pytest.MarkDecorator:
    needed = LACKING[example]
    reason = f"NOT TESTED: examples/tunesmith-{example}, because {needed} is not installed: pip install {needed}"
    return pytest.mark.skipif(find_spec(needed) is None, reason=reason)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> dict[str, Path]:
    """Every folder of builtin_methods/ as a distribution: its files as they are, under the scaffold's pyproject."""
    made = {}
    for name in FOLDERS:
        new = Scaffold("method", name, f"tunesmith-copied-{name}", f"copied-{name}", "")
        made[name] = tmp_path_factory.mktemp("copies") / name
        files = new.render()
        for path in ("pyproject.toml", "README.md"):
            (made[name]).mkdir(exist_ok=True)
            (made[name] / path).write_text(files[path])
        shutil.copytree(METHODS / name, made[name] / new.module, ignore=shutil.ignore_patterns("__pycache__"))
    return made


@pytest.fixture(scope="module")
def python(tmp_path_factory, copies) -> Path:
    """The interpreter of an environment with all these packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    text = "".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(ours))
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text(text)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *offline]
    packages = [*(ROOT / "examples" / f"tunesmith-{name}" for name in EXAMPLES), *copies.values()]
    subprocess.run([*pip, *map(str, packages)], check=True, timeout=300)
    return interpreter


@pytest.fixture(scope="module")
def call(python, tmp_path_factory):
    """``call(*words)``: what Python says in that environment, from a folder that holds nothing of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    blocked = ",".join(f"copied-{name}" for name in FOLDERS)

    def run(*words: str | Path, path: Path | None = None, **variables: str) -> SimpleNamespace:
        done = subprocess.run(
            [python, *words],
            cwd=path or folder,
            env={**os.environ, "TUNESMITH_NO_PLUGINS": blocked, "COLUMNS": "300", "OMP_NUM_THREADS": "1", **variables},
            capture_output=True,
            text=True,
            timeout=500,
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_model, chats, texts) -> Path:
    """Rows of every kind for the tiny model, and a repository."""
    folder = tmp_path_factory.mktemp("work")
    rows = {
        "pairs": [{"prompt": f"Say {i}: ", "chosen": f"number {i}", "rejected": f"no {i} times"} for i in range(6)],
        "thumbs": [{"prompt": f"Say {i}: ", "completion": f"number {i}", "label": i % 2 == 0} for i in range(6)],
        "prompts": [{"prompt": f"Say {i}: ", "answer": f"{i} km"} for i in range(6)],
        "answers": [
            {"prompt": "How far?", "answer": "1500 m", "completion": r"\boxed{1.5 km}"},
            {"prompt": "How many?", "answer": "1500", "completion": "1500"},
        ],
    }
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "folders.json").write_text(json.dumps(FOLDERS))
    (folder / "copies.json").write_text(json.dumps([f"copied-{name}" for name in FOLDERS]))
    return folder


@pytest.fixture(scope="module")
def runs(work, tiny_model, chats, texts) -> dict[str, dict]:
    """Settings of a short run of every built-in method."""
    every = {"model": str(tiny_model), "batch_size": 2, "learning_rate": 1e-3, "holdout": 0.0, "max_length": 250}
    pairs, thumbs, prompts = (str(work / f"{name}.jsonl") for name in ("pairs", "thumbs", "prompts"))
    sampled = {
        "data": prompts,
        "rewards": [{"name": "length", "shape": "target", "target": 3}],
        "max_new_tokens": 4,
        "group_size": 2,
    }
    sampled |= {"probe": 0, "force": True}
    data = {
        "pt": {"data": str(texts)},
        "cpt": {"data": str(texts), "replay_share": 0.0},
        "adept": {"data": str(texts), "probe": str(texts), "copies": 1},
        "sft": {"data": str(chats)},
        "rm": {"data": pairs},
        "dpo": {"data": pairs},
        "orpo": {"data": pairs},
        "simpo": {"data": pairs},
        "kto": {"data": thumbs},
        "grpo": sampled,
        "rloo": sampled,
        "ppo": sampled,
        "iterative-dpo": {**sampled, "minibatches": 1},
        "iterative-kto": {**sampled, "minibatches": 1},
    }
    return {name: {**every, **own} for name, own in data.items()}


# ---------------------------------------------------------------------------------------------- the examples
def test_own_tests_of_every_example_pass_where_it_is_installed(call, tmp_path):
    """From another folder, so that the installed packages are tested and not the files beside the tests."""
    packages = [name for name in EXAMPLES if name not in LACKING or find_spec(LACKING[name])]
    tests = [ROOT / "examples" / f"tunesmith-{name}" / "tests" for name in packages]
    # peft reads the old name of a property of transformers
    warnings = ("-W", "error", "-W", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
    options = ("-q", *warnings, "-c", os.devnull, "--rootdir", tmp_path, "-p", "no:cacheprovider")
    done = call("-m", "pytest", *options, "--import-mode=importlib", *tests, path=tmp_path)
    assert done.code == 0, done.out[-3000:] + done.err[-2000:]
    assert int(done.out.split(" passed")[0].split()[-1]) > 30 * len(packages) / 2


def test_they_are_listed_beside_the_built_in_ones_and_none_is_broken(call):
    shown = call("-m", "tunesmith", "plugins", "--json")
    found = {row["plugin"]: row for row in json.loads(shown.out)["plugins"]}
    for name in EXAMPLES:
        assert (found[name]["status"], found[name]["cause"]) == ("ok", ""), found[name]
        assert found[name]["package"] == f"tunesmith-{name}"
    listed = call("-m", "tunesmith", "list").out
    for word in ("dpop", "reinforce-plus-plus", "git-history", "commit", "verifiers"):
        assert f"\n  {word} " in listed
    assert "[replaced by units/numeric: write numeric/numeric]" in listed
    assert "[replaces tunesmith/numeric]" in listed


@dependency("units")
def test_replaced_reward_judges_and_users_are_told(call, work):
    def score(word):
        done = call("-m", "tunesmith", "score", word, "--data", work / "answers.jsonl", "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)["rewards"][0]["mean"], done.err

    mean, told = score("numeric")
    assert mean == 1.0
    assert "note: the reward numeric is units/numeric (tunesmith-units 0.1.0), which replaces that of tunesmith" in told
    assert told.rstrip().endswith("for the latter write numeric/numeric")
    mean, told = score("tunesmith/numeric")
    assert mean == 0.5, "the built-in reward knows no kilometres"
    assert "note:" not in told


def test_bridge_scores_what_its_source_makes(call, tmp_path):
    """In worker processes, with the stand-in where verifiers is not installed."""
    here = ROOT / "examples" / "tunesmith-verifiers" / "tests"
    paths = [here / "environments", *([] if find_spec("verifiers") else [here / "standin" / "0.4"])]
    script = (
        "import json; from tunesmith_verifiers import VerifiersTasks;"
        "[print(json.dumps({**row.data, 'completion': [{'role': 'assistant', 'content': 'Paris'}]}))"
        " for row in VerifiersTasks(environment='capitals-v1').rows()]"
    )
    found = call("-c", script, PYTHONPATH=os.pathsep.join(map(str, paths)))
    assert found.code == 0, found.err
    (tmp_path / "rows.jsonl").write_text(found.out)
    words = ("-m", "tunesmith", "score", "verifiers", "--data", tmp_path / "rows.jsonl", "--json")
    scored = call(*words, PYTHONPATH=os.pathsep.join(map(str, paths)))
    assert scored.code == 0, scored.err
    # right and short: 1 + 1/2; twice wrong but short enough
    assert json.loads(scored.out)["rewards"][0]["mean"] == pytest.approx((1.5 + 0.5 + 0.5) / 3)


def test_runs_with_them(call, work, runs, tmp_path):
    """A step of a built-in method with the new loss, of the new method, and of fine-tuning on a history."""
    script = ROOT / "tests" / "integration" / "several_methods.py"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    (tmp_path / "a.txt").write_text("one\n")
    for words in (["init", "-q"], ["add", "a.txt"], ["commit", "-q", "--no-gpg-sign", "-m", "Write one"]):
        subprocess.run([*git, *words], check=True)
    own = {"max_steps": 1}
    sampled = {**runs["grpo"], **own, "group_size": 1}
    wanted = [
        ("dpo", {**runs["dpo"], **own, "objective": {"name": "dpop", "positive": 5}, "output": str(tmp_path / "dpop")}),
        ("reinforce-plus-plus", {**sampled, "output": str(tmp_path / "plus")}),
        (
            "sft",
            {
                **runs["sft"],
                **own,
                "batch_size": 1,
                "max_length": 256,
                "data": f"git:{tmp_path}",
                "output": str(tmp_path / "git"),
            },
        ),
    ]
    done = call(script, json.dumps(wanted))
    assert done.code == 0, done.err[-3000:]
    first = {name: json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("dpop", "plus", "git")}
    assert first["dpop"]["loss"] == pytest.approx(0.6931472, abs=1e-5) and first["dpop"]["lost"] == 0.0
    assert first["plus"]["step"] == 1 and "reward" in first["plus"]
    assert first["git"]["loss"] > 0
    # as many plugins and versions as there are, on record
    manifest = json.loads((tmp_path / "dpop" / "manifest.json").read_text())
    assert {"tunesmith-dpop", "tunesmith-units"} <= {row["distribution"] for row in manifest["plugins"]}


# ---------------------------------------------------------------------------------------------- separability
@pytest.fixture(scope="module")
def separate(call, work, runs) -> dict:
    """What became of the methods as packages of their own, and of the toolkit without each folder."""
    script = ROOT / "tests" / "integration" / "separate_methods.py"
    done = call(script, work, json.dumps(runs), TUNESMITH_NO_PLUGINS="")
    assert done.code == 0, done.err[-4000:]
    return json.loads(done.out.splitlines()[-1])


def test_every_method_has_a_run(runs, separate):
    from tunesmith.plugins import load

    built_in = {cls.name for plugin, cls in load().entries("method") if plugin.distribution == "tunesmith"}
    assert set(runs) == set(separate["copied"]["runs"]) == built_in


def test_copied_methods_run_where_the_built_in_ones_are_blocked(separate):
    for name, found in separate["copied"]["runs"].items():
        folder = name.partition("-")[0]
        assert found["method"] == f"tunesmith-copied-{folder} 0.1.0", name
        assert found["module"].partition(".")[0] == f"tunesmith_copied_{folder}"
        assert found["objective"] == "tunesmith-copied-objectives 0.1.0", name
        assert found["steps"] >= 1 and found["saved"], name
    assert separate["copied"]["imported"] == [], "nothing of the built-in package was needed"


@pytest.mark.parametrize("gone", FOLDERS)
def test_toolkit_works_without_a_folder(separate, gone):
    found = separate["deleted"][gone]
    assert found["broken"] == {gone: f"ModuleNotFoundError: No module named 'tunesmith_methods.{gone}'"}
    code, out, err = found["said"]["list"]
    assert code == 0 and err == f"1 plugin failed to load: {gone}; see `tunesmith plugins`\n"
    assert f"\n  {gone} " not in out.partition("\n\n")[0]
    rows = {row["plugin"]: row["status"] for row in json.loads(found["said"]["plugins"][1])["plugins"]}
    assert {name for name, status in rows.items() if status == "broken"} == {gone}
    assert set(found["methods"].values()) >= {name for name in FOLDERS if name not in (gone, "objectives")}
    assert set(found["shown"].values()) == {0}
    assert found["run"]["steps"] >= 1 and found["run"]["saved"]
