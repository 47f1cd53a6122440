"""Checks of a tracker: whatever a run logs and however it ends, it takes it, and writes where it may."""

from __future__ import annotations

import io
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tunesmith.components import RunInfo, Tracker
from tunesmith.plugins import Registry
from tunesmith.testing.report import Finding, failed, ok
from tunesmith.testing.suite import Suite

STEPS = 3
Metrics = Mapping[str, float]
Logged = Sequence[tuple[int, Metrics]]
USUAL: Logged = [
    *((step, {"loss": 2.0 / step, "learning_rate": 1e-5, "tokens": 10.0 * step, "step_s": 0.1}) for step in (1, 2)),
    (2, {"eval/held-out/loss": 1.5}),
    (3, {"loss": 0.5, "learning_rate": 0.0, "tokens": 30.0, "step_s": 0.1, "data/chats/loss": 0.5}),
]
"""What a run of three steps logs, with an evaluation after the second."""
ODD: Logged = [
    (1, {"loss": math.nan, "reward": math.inf, "a/b/c": -math.inf}),
    (1, {}),
    (2, {"": 0.0, " ": 1.0, "a b": 1e300, "a\nb": -0.0, "\u00e4/\u4e2d [%]": 5e-324, "/": 1.0, "../a": 1.0}),
    (2, {"loss": 1, "x" * 300: 1.5, "rewards/[bold]{0}%s/mean": 1.0, "count": 10**15}),
    (STEPS, {"eval/held-out/loss": math.nan}),
    (STEPS, {"loss": 1e-45}),
]
"""Numbers and names that a run may log: of data sets and rewards that users name, and of losses that diverge."""
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME")


@dataclass(slots=True)
class Subject:
    """A tracker, and folders for runs.

    Attributes:
        tracker: with its settings.
        folder: below it every run has its folder, and what a user would call home lies.
        runs: how many there were.
        printed: what went to stdout.
    """

    tracker: Tracker
    folder: Path
    runs: int = 0
    printed: str = ""

    def output(self) -> Path:
        """The folder of another run."""
        self.runs += 1
        made = self.folder / "runs" / f"check-{self.runs:03}"
        made.mkdir(parents=True)
        return made

    def play(
        self, logged: Logged, error: BaseException | None = None, *, output: Path | None = None, first: int = 0
    ) -> Path:
        """Track a run from the opening to the end; the folder of the run."""
        output = output or self.output()
        settings = {"method": "check", "learning_rate": 1e-5, "log_every": 1, "data": [{"source": {"path": "a"}}]}
        run = RunInfo(output, "check", settings, STEPS, first)
        with self._surroundings() as printed:
            session = self.tracker.open(run)
            for step, metrics in logged:
                session.log(step, metrics)
            session.close(error)
        self.printed += printed.getvalue()
        return output

    @contextmanager
    def _surroundings(self) -> Iterator[io.StringIO]:
        """Away from the user's home and folder, and without a terminal."""
        home, here = self.folder / "home", os.getcwd()
        home.mkdir(exist_ok=True)
        before = {name: os.environ.get(name) for name in HOMES}
        with ExitStack() as stack:
            printed = stack.enter_context(redirect_stdout(io.StringIO()))
            stack.enter_context(redirect_stderr(io.StringIO()))
            stack.callback(_restore, before)
            stack.callback(os.chdir, here)
            os.environ.update({name: str(home) for name in HOMES})
            os.chdir(home)
            yield printed


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def subject(tracker: Tracker, registry: Registry) -> Iterator[Subject]:
    """A tracker and an empty folder."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as folder:
        yield Subject(tracker, Path(folder).resolve())


# ---------------------------------------------------------------------------------------------- runs
def usual_run(subject: Subject) -> Finding:
    """A run is opened, logged and closed, and its metrics are left as they were."""
    given = [(step, dict(metrics)) for step, metrics in USUAL]
    subject.play(given)
    for (step, metrics), (_, before) in zip(given, USUAL, strict=True):
        if metrics != before:
            return failed(f"the metrics of step {step} are not what they were after they were logged: {metrics}")
    return ok(f"{STEPS} steps and an evaluation")


def odd_metrics(subject: Subject) -> Finding:
    """NaN, infinity, very small and large numbers, and names that users chose are logged like any other."""
    for step, metrics in ODD:
        for name, value in metrics.items() or [("", None)]:
            one: Metrics = {} if value is None else {name: value}
            try:
                subject.play([(step, one)])
            except Exception as error:  # a stranger's code may raise anything; here it would end a run
                shown = f"{name[:30]!r}: {value}" if one else "no metrics"
                return failed(f"{shown}: {type(error).__name__}: {error}")
    subject.play(ODD)
    return ok(f"{sum(len(metrics) for _, metrics in ODD)} odd names and numbers")


def failed_run(subject: Subject) -> Finding:
    """It is closed with the error that ended the run, and does not raise another."""
    endings = (ValueError("two\nlines, [bold] \x1b[31m{0}"), KeyboardInterrupt(), SystemExit(75))
    for error in endings:
        for logged in (USUAL[:1], []):
            when = "after a step" if logged else "before the first step"
            try:
                subject.play(logged, error)
            except BaseException as raised:  # of a stranger's code, in the place of the error that matters
                return failed(f"closed with {type(error).__name__} {when}: {type(raised).__name__}: {raised}")
    return ok(f"closed with {len(endings)} errors, after a step and before it")


def resumed_run(subject: Subject) -> Finding:
    """A run that goes on in its folder is tracked again, with steps that it repeats."""
    output = subject.play(USUAL[:2])
    subject.play(USUAL[1:], output=output, first=1)
    subject.play([], output=output, first=STEPS)
    return ok("opened again after step 1, and after the last")


# ---------------------------------------------------------------------------------------------- where it writes
def stdout(subject: Subject) -> Finding:
    """Nothing is printed on stdout, which is for results; progress belongs on stderr."""
    subject.printed = ""
    subject.play(USUAL)
    if subject.printed:
        return failed(f"it prints on stdout: {subject.printed[:80]!r}")
    return ok("nothing is printed on stdout")


def files(subject: Subject) -> Finding:
    """It writes below the run's folder, or says where else."""
    told = subject.tracker.elsewhere
    with watched() as places:
        output = subject.play(USUAL)
    left = sorted({place for place in places if place.is_file() and output not in place.parents})
    shown = [str(place).replace(str(subject.folder / "home"), "~") for place in left]
    if left and not told:
        return failed(f"it writes outside of the run's folder: {', '.join(shown[:3])}; declare that as `elsewhere`")
    inside = sum(path.is_file() for path in output.rglob("*"))
    return ok(f"{inside} files in the run's folder" + (f"; and: {told}" if told else ""))


@dataclass(slots=True)
class Watch:
    """What the interpreter tells about files that are opened to write; ``places`` is ``None`` while nobody asks."""

    places: list[Path] | None = field(default=None)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called for everything that the interpreter audits, so what does not matter is left at once."""
        if self.places is None or event not in WRITING:
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        if event == "open" and not _writes(*arguments[1:3]):
            return
        if isinstance(path, (str, bytes, os.PathLike)):
            place = Path(os.path.abspath(os.fsdecode(path)))
            if "__pycache__" not in place.parts and place.parts[:2] not in SYSTEM:
                self.places.append(place)


WRITING = ("open", "os.rename", "sqlite3.connect")
SYSTEM = (("/", "dev"), ("/", "proc"), ("/", "sys"))


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@cache
def _watch() -> Watch:
    """The one that this process has: the interpreter forgets none."""
    made = Watch()
    sys.addaudithook(made)
    return made


@contextmanager
def watched() -> Iterator[list[Path]]:
    """The files that Python code of this process writes, in any thread."""
    watch = _watch()
    found: list[Path] = []
    watch.places = found
    try:
        yield found
    finally:
        watch.places = None


SUITE = Suite(
    Tracker.kind,
    subject,
    {
        "usual run": usual_run,
        "odd metrics": odd_metrics,
        "failed run": failed_run,
        "resumed run": resumed_run,
        "stdout": stdout,
        "files": files,
    },
)
