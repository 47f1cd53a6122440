"""The checks of trackers: good ones pass, and every fault is found by the check that is meant for it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tunesmith import RunInfo, Tracker, plugins
from tunesmith.plugins import load
from tunesmith.testing import check

ALONE = {"trackio"}
"""Trackers that fix their folder when they are imported, and so are checked in a process of their own."""
BUILT_IN = {c.name for plugin, c in load().entries("tracker") if plugin.distribution == plugins.GROUP}


@pytest.mark.parametrize("name", sorted(BUILT_IN - ALONE))
def test_a_built_in_tracker_keeps_its_promises(registry, name):
    report = check(registry.get("tracker", name))
    assert report.failed == [] and report.skipped == []


@pytest.mark.parametrize("name", sorted(BUILT_IN & ALONE))
def test_a_tracker_with_a_folder_of_its_own_keeps_its_promises(name, tmp_path):
    pytest.importorskip(name)
    script = "import sys; from tunesmith.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "check", "tracker", name, "--json"]
    done = subprocess.run(
        command, env={**os.environ, "TRACKIO_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    states = {finding["check"]: finding["state"] for finding in json.loads(done.stdout)["checks"]}
    assert set(states.values()) == {"ok"} and "files" in states


class Lines(Tracker):
    """A line per step in the run's folder."""

    name: ClassVar[str] = "lines"

    def open(self, run: RunInfo) -> Any:
        return Session(run, self)

    def log(self, run: RunInfo, step: int, metrics: dict[str, float]) -> None:
        with (run.output / "lines.txt").open("a", encoding="utf-8") as file:
            file.write(f"{step} {metrics}\n")

    def close(self, error: BaseException | None) -> None:
        """Nothing is open."""


class Session:
    def __init__(self, run: RunInfo, tracker: Any) -> None:
        self.run, self.tracker = run, tracker

    def log(self, step: int, metrics: Any) -> None:
        self.tracker.log(self.run, step, metrics)

    def close(self, error: BaseException | None) -> None:
        self.tracker.close(error)


def test_a_tracker_that_keeps_its_promises_passes_every_check():
    report = check(Lines)
    assert report.failed == [] and report.skipped == []
    assert report.findings[-1].seen == "1 files in the run's folder"


class NoSession(Lines):
    """Opens nothing."""

    def open(self, run):
        return None


class ChangesMetrics(Lines):
    """Takes metrics out of what it is given."""

    def log(self, run, step, metrics):
        metrics.pop("step_s", None)


class NoNaN(Lines):
    """Cannot write NaN."""

    def log(self, run, step, metrics):
        json.dumps(metrics, allow_nan=False)


class NamesFiles(Lines):
    """A file per metric."""

    def log(self, run, step, metrics):
        for name in metrics:
            (run.output / name.replace("/", "-")).write_text("")


class NeedsMetrics(Lines):
    """Takes the first metric for granted."""

    def log(self, run, step, metrics):
        next(iter(metrics.items()))


class Whole(Lines):
    """Rounds everything."""

    def log(self, run, step, metrics):
        [round(value) for value in metrics.values() if not math.isnan(value)]


class RaisesTheError(Lines):
    """Raises what ended the run."""

    def close(self, error):
        if error is not None:
            raise error


class NeedsSteps(Lines):
    """Cannot be closed before the first step."""

    def open(self, run):
        session = Session(run, self)
        session.close = lambda error: (run.output / "lines.txt").unlink()
        return session


class OnlyOnce(Lines):
    """Cannot go on in a folder."""

    def open(self, run):
        (run.output / "opened").mkdir()
        return super().open(run)


class Prints(Lines):
    """Prints on stdout."""

    def log(self, run, step, metrics):
        print(step)


class WritesHome(Lines):
    """Keeps a file in the user's home."""

    def close(self, error):
        (Path.home() / ".lines").write_text("a")


class WritesBeside(Lines):
    """Keeps a file beside the run's folder."""

    def log(self, run, step, metrics):
        (run.output.parent / f"{run.output.name}.txt").write_text("a")


class WritesHere(Lines):
    """Keeps a file in the working folder."""

    def log(self, run, step, metrics):
        Path("lines.txt").write_text("a")


@pytest.mark.parametrize(
    ("fault", "name", "seen"),
    [
        (NoSession, "usual run", "AttributeError"),
        (ChangesMetrics, "usual run", "the metrics of step 1 are not what they were"),
        (NoNaN, "odd metrics", "'loss': nan: ValueError"),
        (NamesFiles, "odd metrics", "'': 0.0: IsADirectoryError"),
        (NeedsMetrics, "odd metrics", "no metrics: StopIteration"),
        (Whole, "odd metrics", "'reward': inf: OverflowError"),
        (RaisesTheError, "failed run", "closed with ValueError after a step: ValueError"),
        (NeedsSteps, "failed run", "closed with ValueError before the first step: FileNotFoundError"),
        (OnlyOnce, "resumed run", "FileExistsError"),
        (Prints, "stdout", "it prints on stdout: '1\\n"),
        (WritesHome, "files", "~/.lines; declare that as `elsewhere`"),
        (WritesBeside, "files", ".txt; declare that as `elsewhere`"),
        (WritesHere, "files", "lines.txt; declare that as `elsewhere`"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_fault_is_found_by_its_check(failed_checks, fault, name, seen):
    found = failed_checks(fault)
    assert seen in found[name]
    everything = {"odd metrics", "failed run", "resumed run", "stdout", "files"}
    beside = {NoSession: everything, NeedsSteps: {"resumed run", "odd metrics"}}
    assert set(found) - {name} <= beside.get(fault, set())


class SaysWhere(WritesHome):
    """Keeps a file in the user's home, and says so."""

    elsewhere: ClassVar[str] = "~/.lines"


def test_a_tracker_may_write_elsewhere_if_it_says_so(failed_checks):
    home = os.environ.get("HOME")
    assert failed_checks(SaysWhere) == {}
    assert os.environ.get("HOME") == home
