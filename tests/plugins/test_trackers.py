"""The trackers, seen as a user sees them: lines, screens, and files that are read back."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith import ConfigError, RunInfo, plugins
from tunesmith.config import build
from tunesmith_plugins.trackers import TensorBoard, Terminal, Trackio, text
from tunesmith_plugins.trackers.terminal import LiveSession, PlainSession

STEP = {
    "loss": 3.2141,
    "grad_norm": 1.0234,
    "learning_rate": 9.9e-6,
    "epoch": 0.05,
    "num_tokens": 41_000,
    "num_trained_tokens": 40_000,
    "tokens_per_s": 2941.3,
    "step_s": 1.5,
    "loss/web": 3.1,
    "mix/web": 0.85,
    "loss/code": 3.5,
    "mix/code": 0.15,
}


def info(total: int = 200, first: int = 0, log_every: int = 10) -> RunInfo:
    return RunInfo(Path("runs/cpt-003"), "cpt", {"log_every": log_every}, total, first)


def ticking(seconds: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += seconds


# ---------------------------------------------------------------------------------------------- plain lines
def plain(capsys: pytest.CaptureFixture[str], run: RunInfo, *logged: tuple[int, dict[str, float]]) -> list[str]:
    """What stderr gets when every training step takes 2 s; nothing may reach stdout."""
    session = PlainSession(run, ticking(2.0).__next__)
    for step, metrics in logged:
        session.log(step, metrics)
    session.close(None)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_line_at_the_first_and_last_step_and_every_interval(capsys: pytest.CaptureFixture[str]) -> None:
    lines = plain(capsys, info(total=25), *((step, STEP) for step in range(1, 26)))
    assert [line.split("  ")[0] for line in lines] == ["step 1/25", "step 10/25", "step 20/25", "step 25/25"]


def test_the_line_reads_as_documented(capsys: pytest.CaptureFixture[str]) -> None:
    lines = plain(capsys, info(), *((step, STEP) for step in range(1, 11)))
    # left: before there is a second step to average with, step_s: 199 * 1.5 s = 298.5 s; then 190 * 2 s = 380 s
    rest = "loss 3.214  grad_norm 1.02  lr 9.9e-06  tokens/s 2,941"
    assert lines == [f"step 1/200  {rest}  left 4m58s", f"step 10/200  {rest}  left 6m20s"]


def test_evaluations_are_printed_whenever_they_come_under_their_own_names(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = {"eval/general/loss": 5.1234, "forgetting": -0.0123}
    lines = plain(capsys, info(), (0, evaluation), (1, STEP), (3, evaluation))
    assert lines[0] == "step 0/200  eval/general/loss 5.123  forgetting -0.0123"
    assert lines[2] == "step 3/200  eval/general/loss 5.123  forgetting -0.0123"


def test_a_method_s_own_metrics_are_shown_and_details_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = plain(capsys, info(), (1, {"loss": 1.0, "kl": 0.5, "rewards/math": 0.1, "epoch": 0.2}))
    assert line == "step 1/200  loss 1.000  kl 0.500"


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (0.0, "0")])
def test_losses_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], value: float, shown: str) -> None:
    (line,) = plain(capsys, info(), (1, {"loss": value}))
    assert line == f"step 1/200  loss {shown}"


@pytest.mark.parametrize("name", ["loss", "grad_norm", "loss/web"])
def test_what_is_not_finite_is_printed_between_intervals(capsys: pytest.CaptureFixture[str], name: str) -> None:
    lines = plain(capsys, info(), (1, STEP), (2, STEP), (3, {**STEP, name: math.nan}), (4, STEP))
    assert [line.split("  ")[0] for line in lines] == ["step 1/200", "step 3/200"]


def test_a_resumed_run_starts_at_its_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    lines = plain(capsys, info(first=104), *((step, STEP) for step in range(105, 111)))
    assert [line.split("  ")[0] for line in lines] == ["step 105/200", "step 110/200"]
    assert lines[1].endswith("left 3m00s")  # 90 steps of 2 s: the time before the stop does not count


# ---------------------------------------------------------------------------------------------- the live view
class Screen:
    """As much of a terminal as the live view needs: text, line feeds, cursor up, erase line."""

    def __init__(self, width: int = 72) -> None:
        self.width, self.file = width, io.StringIO()
        self.console = Console(file=self.file, force_terminal=True, width=width, height=40, legacy_windows=False)

    def lines(self) -> list[str]:
        rows, row, column = [""], 0, 0
        for match in re.finditer(r"\x1b\[([?\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", self.file.getvalue()):
            argument, command, back, feed, written = match.groups()
            if command == "A":
                row -= int(argument or 1)
            elif command == "K":
                assert argument == "2"
                rows[row] = ""
            elif command:
                assert command in "mhl", match.group()
            elif back:
                column = 0
            elif feed:
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            else:
                rows[row] = rows[row][:column].ljust(column) + written + rows[row][column + len(written) :]
                column += len(written)
            assert row >= 0
            assert len(rows[row]) <= self.width
        return [line.rstrip() for line in rows]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "COLUMNS", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Screen()


def test_the_live_view_shows_the_run(screen: Screen) -> None:
    session = LiveSession(info(), screen.console, ticking(2.0).__next__)
    assert screen.lines()[0] == "cpt  runs/cpt-003"
    assert "step 0/200  0%" in screen.lines()[1]
    assert screen.lines()[2] == "waiting for the first step"
    session.log(1, {**STEP, "loss": 4.0})
    session.log(2, STEP)
    # 198 steps of 2 s
    title, bar, loss, numbers, sources, *rest = screen.lines()
    assert title == "cpt  runs/cpt-003"
    assert bar.endswith(" step 2/200  1%  left 6m36s")
    assert loss == f"loss 3.214  {text.BLOCKS[-1]}{text.BLOCKS[0]}"
    assert numbers == "grad_norm 1.02  lr 9.9e-06  tokens/s 2,941  tokens 41.0k  epoch 0.05"
    assert sources == "by source  web 3.100 (85%)  code 3.500 (15%)"
    assert rest in ([], [""])
    session.close(None)


def test_the_bar_fills_and_the_view_keeps_its_place(screen: Screen) -> None:
    session = LiveSession(info(total=4), screen.console, ticking(2.0).__next__)
    for step in range(1, 5):
        session.log(step, STEP)
        assert f"step {step}/4  {25 * step}%" in screen.lines()[1]
    session.close(None)
    lines = screen.lines()
    assert lines[0] == "cpt  runs/cpt-003"
    assert sum("step " in line for line in lines) == 1
    assert lines[-1] == ""  # the cursor stands on a line of its own for whoever writes next


def test_warnings_and_evaluations_stay_above_the_view(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    stderr = sys.stderr
    handler = logging.StreamHandler()  # holds stderr, as the handler of a program does
    logger = logging.getLogger("tunesmith")
    logger.addHandler(handler)
    try:
        session = LiveSession(info(), screen.console, ticking(2.0).__next__)
        session.log(1, STEP)
        logging.getLogger("tunesmith.runner").warning("micro_tokens is now %d", 2048)
        session.log(2, STEP)
        print("written to stderr", file=sys.stderr)
        session.log(2, {"eval/general/loss": 5.0, "forgetting": 0.25})
        session.log(3, {**STEP, "loss": math.nan})
        lines = screen.lines()
        session.close(None)
        logger.warning("after the run")
    finally:
        logger.removeHandler(handler)
    assert lines[:4] == [
        "micro_tokens is now 2048",
        "written to stderr",
        "step 2/200  eval/general/loss 5.000  forgetting 0.250",
        "step 3/200  loss nan  grad_norm 1.02  lr 9.9e-06  tokens/s 2,941",
    ]
    assert lines[4] == "cpt  runs/cpt-003"
    assert lines[6] == f"loss nan  {text.BLOCKS[0]}{text.BLOCKS[0]}!"
    assert lines[9] == "evaluation at step 2  general 5.000  forgetting 0.250"
    assert [line for line in lines[10:] if line] == []
    # both the handler and stderr itself are as they were before
    assert sys.stderr is handler.stream is stderr
    assert capsys.readouterr() == ("", "after the run\n")


def test_a_resumed_live_view_starts_where_the_run_stopped(screen: Screen) -> None:
    session = LiveSession(info(first=100), screen.console, ticking(2.0).__next__)
    assert "step 100/200  50%" in screen.lines()[1]
    session.close(RuntimeError("out of memory"))


def test_frames_are_not_drawn_faster_than_eyes_can_read_but_the_last_one_is(screen: Screen) -> None:
    session = LiveSession(info(total=100), screen.console, ticking(0.001).__next__)
    sizes = []
    for step in range(1, 101):
        session.log(step, STEP)
        sizes.append(screen.file.tell())
    assert len(set(sizes)) == 2  # the first step and the last one, 99 ms apart
    assert "step 100/100  100%" in screen.lines()[1]
    session.close(None)


def test_a_narrow_screen_cuts_lines_instead_of_wrapping_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    narrow = Screen(width=40)
    session = LiveSession(info(), narrow.console, ticking(2.0).__next__)
    session.log(1, STEP)
    session.log(2, STEP)
    lines = [line for line in narrow.lines() if line]
    assert len(lines) == 5
    assert lines[3].endswith("\N{HORIZONTAL ELLIPSIS}")
    session.close(None)


# ---------------------------------------------------------------------------------------------- which of the two
class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("view", "is_terminal", "environment", "live"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", True, {"TERM": "xterm", "CI": "false"}, True),
        ("auto", True, {"TERM": "xterm", "CI": "true"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", False, {"TERM": "xterm"}, False),
        ("live", False, {"TERM": "xterm"}, True),
        ("plain", True, {"TERM": "xterm"}, False),
    ],
)
def test_the_view_fits_where_stderr_goes(
    monkeypatch: pytest.MonkeyPatch, view: str, is_terminal: bool, environment: dict[str, str], live: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stderr = FakeTerminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    session = Terminal.model_validate({"view": view}).open(info())
    session.log(1, STEP)
    session.close(None)
    assert isinstance(session, LiveSession if live else PlainSession)
    assert ("\x1b[?25l" in stderr.getvalue()) == live  # only a live view hides the cursor
    assert stderr.getvalue().count("\x1b[?25h") == live  # and it is shown again
    assert sys.stderr is stderr


def test_only_the_terminal_is_opened_without_being_asked_for() -> None:
    registry = plugins.load()
    always = {cls.name for _, cls in registry.entries("tracker") if getattr(cls, "always", False)}
    assert always == {"terminal"}
    built = build(registry, "tracker", {"name": "terminal", "view": "plain"})
    assert isinstance(built, Terminal)
    assert built.view == "plain"


# ---------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3.2141, "3.214"),
        (0.1, "0.100"),
        (0.09, "0.09"),
        (1e-7, "1e-07"),
        (9999, "9999.000"),
        (12345, "1.23e+04"),
    ],
)
def test_number(value: float, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (80, "1m20s"),
        (3599.6, "1h00m"),
        (7500, "2h05m"),
        (273_600, "3d04h"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (9_500, "9,500"), (12_500, "12.5k"), (3.14e6, "3.1M"), (2e9, "2.0B"), (15e12, "15.0T")],
)
def test_short(value: float, shown: str) -> None:
    assert text.short(value) == shown


def test_sparkline_spans_the_whole_run_by_merging_neighbours() -> None:
    spark = text.Sparkline(cells=4)
    for value in (0, 1, 2, 3):
        spark.add(value)
    assert spark.text("abcd") == "abcd"
    # a fifth value merges the others into means of 0.5 and 2.5; 4 and 10 share the third cell: 7
    spark.add(4)
    spark.add(10)
    assert spark.text("abcdefghijklmn") == "aen"  # (2.5 - 0.5) / (7 - 0.5) * 13 = 4


def test_sparkline_never_hides_what_is_not_finite() -> None:
    spark = text.Sparkline(cells=4)
    for value in (0, math.nan, 1, math.inf, 0, 0):
        spark.add(value)
    assert spark.text("ab") == "!!a"
    flat = text.Sparkline()
    assert flat.text("ab") == ""
    flat.add(5)
    flat.add(5)
    assert flat.text("ab") == "aa"


# ---------------------------------------------------------------------------------------------- stores
def test_tensorboard_keeps_every_metric_and_a_resumed_run_hides_the_steps_it_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last, loss in ((0, 3, 2.0), (2, 4, 0.5)):
        session = TensorBoard().open(RunInfo(tmp_path, "sft", {}, 4, first))
        for step in range(first + 1, last + 1):
            session.log(step, {"loss": loss * step, "loss/web": math.nan})
        session.close(None)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "loss/web"}
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.0), (2, 4.0), (3, 1.5), (4, 2.0)]
    assert all(math.isnan(e.value) for e in events.Scalars("loss/web"))


TRACKIO_RUN = """
import json, math, pathlib, sys
from tunesmith import RunInfo
from tunesmith_plugins.trackers import Trackio
for first in (0, 2):
    session = Trackio(project="tests").open(RunInfo(pathlib.Path("runs/sft-001"), "sft", {"seed": 7}, 4, first))
    session.log(first + 1, {"loss": 1.5 + first})
    session.log(first + 2, {"loss": math.nan})
    session.close(None)
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("tests", "sft-001")
config = SQLiteStorage.get_run_config("tests", "sft-001")
runs = len(SQLiteStorage.get_run_records("tests"))
print(json.dumps([[(row["step"], str(row["loss"])) for row in logs], config["seed"], runs]))
"""


def test_trackio_writes_a_local_data_base_and_nothing_on_stdout(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    # in a process of its own: trackio fixes its folder when it is imported, and finishes runs when Python exits
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRACKIO_RUN],
        env={**environment, "TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logs, seed, runs = json.loads(done.stdout)
    assert logs == [[1, "1.5"], [2, "nan"], [3, "3.5"], [4, "nan"]]
    assert (seed, runs) == (7, 1)
    assert (tmp_path / "tests.db").is_file()


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_refuses_an_environment_that_asks_for_uploads(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "someone/somewhere")
    with pytest.raises(ConfigError, match=f"unset {variable}"):
        Trackio().open(info())
