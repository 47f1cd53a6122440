"""What reaches the runner, and how errors come back: sentences, exit codes, traceback files."""

import errno
import logging
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import tunesmith.runner
from tunesmith import ConfigError, DataError, DivergedError, ResourceError, StoppedError, TunesmithError
from tunesmith.cli import failures

TOY = str(Path(__file__).parent / "toy_plugin.py")
RUN = ("run", "toy", "--plugin", TOY, "--model", "m", "--data", "toy:3")
FILE = f"method: toy\nmodel: m\ndata: toy:3\npreset: wooden\nplugins: {{files: [{TOY}]}}\n"


@pytest.fixture
def launch(monkeypatch):
    """Stands in for the runner; remembers what it was asked for."""
    calls = []

    def start(run, registry, *, resume, overwrite):
        calls.append(SimpleNamespace(run=run, registry=registry, resume=resume, overwrite=overwrite))
        return Path("runs/x/model")

    def resume(folder, registry):
        calls.append(SimpleNamespace(folder=folder, registry=registry))
        return folder / "model"

    monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start, resume=resume), raising=False)
    return calls


# ---------------------------------------------------------------------------------------------- run: the runner
def test_runner_gets_the_resolved_run(cli, launch):
    result = cli(*RUN, "--patience", 5, "--output", "there")
    assert (result.code, result.out, result.err) == (0, "runs/x/model\n", "")
    (call,) = launch
    assert call.run.method.patience == 5 and call.run.settings.output == Path("there")
    assert (call.resume, call.overwrite) == (False, False)
    assert call.registry.get("method", "toy").name == "toy"


@pytest.mark.parametrize(
    ("flags", "resume", "overwrite"),
    [
        (["--resume"], True, False),
        (["--resume_from_checkpoint"], True, False),
        (["--resume_from_checkpoint", "false"], False, False),
        (["--overwrite"], False, True),
    ],
)
def test_resume_and_overwrite_reach_the_runner(cli, launch, flags, resume, overwrite):
    assert cli(*RUN, *flags).code == 0
    assert (launch[0].resume, launch[0].overwrite) == (resume, overwrite)


def test_resume_loads_the_plugins_of_the_run(cli, launch, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.yaml").write_text(FILE)
    assert cli("resume", "old").out == "old/model\n"
    assert launch[0].folder == Path("old") and launch[0].registry.get("method", "toy").name == "toy"


def test_resume_of_what_is_no_run(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    empty = cli("resume", "empty").err
    assert "there is no run.yaml" in empty.replace("empty/", "") and "fix   give the --output of a run" in empty
    result = cli("resume", "emtpy")
    assert result.code == 2 and "there is no folder emtpy; did you mean 'empty'?" in result.err
    (tmp_path / "rows.jsonl").touch()
    assert "rows.jsonl is a file, not the folder of a run" in cli("resume", "rows.jsonl").err


def test_only_the_first_process_prints(cli, launch, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert cli(*RUN, "--per_device_train_batch_size", 4) == SimpleNamespace(code=0, out="", err="")
    assert len(launch) == 1
    assert cli(*RUN, "--lr", "x") == SimpleNamespace(code=2, out="", err="")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert cli(*RUN, "--lr", "x").err.startswith("error (process 1): learning_rate")


# ---------------------------------------------------------------------------------------------- errors
@pytest.fixture
def fail(cli, monkeypatch):
    """Run something whose runner raises."""

    def run(error: BaseException, *flags: object) -> SimpleNamespace:
        def start(*_, **__):
            raise error

        monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start), raising=False)
        return cli(*RUN, *flags)

    return run


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (ConfigError("a"), 2, "error: a"),
        (DataError("a"), 3, "error: a"),
        (ResourceError("a"), 4, "error: a"),
        (DivergedError("a"), 5, "error: a"),
        (StoppedError("a", exit_code=75), 75, "stopped: a"),
        (TunesmithError("a"), 1, "error: a"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("a"), 4, "error: there is not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "here"), 4, "error: no space left on device: here"),
        (PermissionError(errno.EACCES, "Permission denied", "here"), 4, "error: permission denied: here"),
        (OSError("something else"), 1, "error: this is a bug of tunesmith"),
        (ZeroDivisionError("a"), 1, "error: this is a bug of tunesmith"),
    ],
)
def test_exit_codes(fail, error, code, first, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fail(error)
    assert (result.code, result.out, result.err.splitlines()[0]) == (code, "", first)


def test_errors_have_four_parts_and_at_most_eight_lines(fail, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    rows = "\n".join(f"row {i}: {'x' * 30}" for i in range(30))
    error = DataError("label must be true or false", where="a.jsonl, row 3", why=rows, fix="--on-bad-row skip")
    lines = fail(error).err.splitlines()
    assert len(lines) == failures.MAX_LINES and max(map(len, lines)) <= 60
    assert lines[0] == "error: label must be true or false"
    assert lines[1] == "  where a.jsonl, row 3"
    assert lines[2] == "  why   row 0: " + "x" * 30 and lines[3].startswith("        row 1: ")
    assert lines[-2].endswith(" ...") and lines[-1] == "  fix   --on-bad-row skip"


def test_bug_leaves_a_traceback_where_it_says(fail, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fail(ZeroDivisionError("secret hf_abcdefghijklmnop"))
    _, why, log = result.err.splitlines()
    assert why == "  why   ZeroDivisionError: secret hf_***"
    text = Path(log.split(maxsplit=1)[1]).read_text()
    assert "Traceback" in text and "hf_***" in text and "hf_abc" not in text


def test_bug_in_a_run_is_written_to_its_folder(fail, tmp_path):
    error = ZeroDivisionError("a")
    error.add_note(f"run folder: {tmp_path}")
    log = Path(fail(error).err.splitlines()[-1].split(maxsplit=1)[1])
    assert log.parent == tmp_path and "ZeroDivisionError: a" in log.read_text()


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debug_prints_the_traceback(fail, monkeypatch, tmp_path, how):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if how == "variable":
        monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    result = fail(ZeroDivisionError("a"), *(["--debug"] if how == "flag" else []))
    assert "Traceback (most recent call last)" in result.err and "ZeroDivisionError: a" in result.err


def test_bug_of_a_later_process_is_said_too(fail, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert fail(ZeroDivisionError("a")).err.startswith("error (process 3): this is a bug")
    assert fail(ResourceError("no memory")).err.startswith("error (process 3): no memory")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("token hf_AbCdEfGhIjKl at", "token hf_*** at"),
        ("key sk-proj-abc_defghijk.", "key sk-***."),
        ("password hunter2hunter2", "password ***"),
        ("half_life and task-force", "half_life and task-force"),
        ("TOKENIZERS_PARALLELISM is falsefalse", "TOKENIZERS_PARALLELISM is falsefalse"),
    ],
)
def test_secrets_are_masked(monkeypatch, text, masked):
    monkeypatch.setenv("MY_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    assert failures.mask(text) == masked
    assert click.unstyle(failures.render(ConfigError(text))) == f"error: {masked}"


def test_messages_of_the_run_go_to_stderr(cli, monkeypatch):
    def start(*_, **__):
        log = logging.getLogger("tunesmith.runner")
        log.info("model    m")
        log.warning("slow: hf_abcdefghijklmnop")
        log.debug("nothing")
        return Path("x")

    monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start), raising=False)
    assert cli(*RUN) == SimpleNamespace(code=0, out="x\n", err="model    m\nwarning: slow: hf_***\n")
    monkeypatch.setenv("RANK", "1")
    assert cli(*RUN).err == ""


def test_messages_of_plugins_go_the_same_way(cli, monkeypatch, tmp_path):
    (tmp_path / "talker.py").write_text(
        "import logging\nimport tunesmith\n\nlog = logging.getLogger(__name__)\n\n"
        "@tunesmith.hookimpl\ndef tunesmith_run_started(run):\n    log.info('hello')\n    log.debug('nothing')\n"
    )

    def start(run, registry, *_, **__):
        registry.notify("tunesmith_run_started", run=run)
        logging.getLogger("a_library").warning("nothing to do with us")
        return Path("x")

    monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start), raising=False)
    assert "hello\n" in cli(*RUN, "--plugin", "talker.py").err
    monkeypatch.setenv("RANK", "1")
    assert cli(*RUN, "--plugin", "talker.py").err.count("hello") == 0


def test_completion_knows_commands(cli, monkeypatch):
    monkeypatch.setenv("_TUNESMITH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "tunesmith re")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "plain,resume" in cli().out


def test_plugin_file_that_does_not_load_is_an_error_where_it_was_asked_for(cli, tmp_path):
    """Without it something else of the same name might be used in its place."""
    (tmp_path / "raising.py").write_text("raise RuntimeError('no such thing')\n")
    file = str(tmp_path / "raising.py")
    for words in (("run", "sft", "--model", "m", "--data", "d"), ("show", "sft"), ("check", "nll")):
        found = cli(*words, "--plugin", file)
        assert (found.code, found.out) == (2, "") and "cannot be loaded" in found.err
        assert "RuntimeError: no such thing" in found.err
    for words in (("plugins",), ("list",)):
        assert cli(*words, "--plugin", file).code == 0
