"""Progress on stderr: plain lines, or a live view."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from tunesmith import RunInfo

from . import text

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

REFRESH_S = 0.1
"""Least time between two frames of the live view; drawing it takes about 2 ms."""


def stderr_is_live() -> bool:
    """True when stderr is a terminal that can move its cursor, and nobody collects a log of it."""
    ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") and not ci


class PlainSession:
    """One line per log interval, for the first and the last step, every evaluation and whatever is not finite."""

    def __init__(self, run: RunInfo, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._log_every = int(run.settings.get("log_every", 1))
        self._pace = text.Pace(run.total_steps)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the metrics when it is their turn."""
        left = None
        if text.is_training(metrics):
            left = self._pace.left(step, self._clock(), metrics.get("step_s"))
            edge = step in (self._run.first_step + 1, self._run.total_steps)
            if not edge and step % self._log_every and text.all_finite(metrics):
                return
        print(text.line(step, self._run.total_steps, metrics, left), file=sys.stderr, flush=True)

    def close(self, error: BaseException | None) -> None:
        """Nothing is kept open."""


class LiveSession:
    """A progress bar with the latest metrics below it; evaluations and non-finite steps stay above it as lines.

    While it is open, what is written to ``sys.stderr``, and by logging handlers that hold it, is printed above.

    Args:
        console: where to draw; by default stderr.
    """

    def __init__(
        self, run: RunInfo, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._run, self._clock = run, clock
        self._console = console or Console(stderr=True, force_terminal=True, highlight=False)
        self._pace = text.Pace(run.total_steps)
        self._spark, self._curve = text.Sparkline(), "loss"
        self._step, self._left = run.first_step, None
        self._latest: dict[str, float] = {}
        self._evaluation: tuple[int, dict[str, float]] | None = None
        self._drawn = -math.inf
        stderr = sys.stderr
        # no refresh thread: frames are drawn by `log`, so the view costs nothing between steps
        self._live = Live(self._frame(), console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._live.start(refresh=True)
        self._moved = _move_handlers(stderr, sys.stderr)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics and draw, unless the last frame is too fresh."""
        now = self._clock()
        training = text.is_training(metrics)
        if training:
            self._step, self._latest = step, {**self._details(), **metrics}
            self._left = self._pace.left(step, now, metrics.get("step_s"))
            if text.REWARD in metrics and self._curve != text.REWARD:
                self._spark, self._curve = text.Sparkline(), text.REWARD
            if self._curve in metrics:
                self._spark.add(metrics[self._curve])
        else:
            self._evaluation = (step, dict(metrics))
        lasting = not training or not text.all_finite(metrics)
        if lasting:
            from rich.text import Text

            style = "" if text.all_finite(metrics) else "bold red"
            self._console.print(Text(text.line(step, self._run.total_steps, metrics), style=style))
        if lasting or step >= self._run.total_steps or now - self._drawn >= REFRESH_S:
            self._drawn = now
            self._live.update(self._frame(), refresh=True)

    def close(self, error: BaseException | None) -> None:
        """Leave the last frame standing and give stderr back."""
        self._live.update(self._frame(), refresh=True)
        self._live.stop()
        for handler, stream in self._moved:
            handler.setStream(stream)

    def _details(self) -> dict[str, float]:
        """Metrics of sources stay when a step has none of their rows, so that the view keeps its height."""
        return {name: value for name, value in self._latest.items() if "/" in name}

    def _frame(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        title = Text.assemble((self._run.method, "bold"), f"  {self._run.output}")
        rows = [title, self._numbers(), self._extras(), self._sources(), self._last_evaluation()]
        for row in rows:
            row.no_wrap, row.overflow = True, "ellipsis"
        first, *rest = (row for row in rows if row.plain)
        return Group(first, self._bar(), self._loss(), *rest)

    def _bar(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        total = self._run.total_steps
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        left = "" if self._left is None else f"  left {text.duration(self._left)}"
        bar = ProgressBar(total=total, completed=self._step)
        row.add_row(bar, f"step {self._step}/{total}  {self._step / total:.0%}{left}")
        return row

    def _loss(self) -> Text:
        from rich.text import Text

        if self._curve not in self._latest:
            return Text("waiting for the first step", style="dim")
        value = self._latest[self._curve]
        unicode = self._console.encoding.lower().startswith("utf")
        spark = self._spark.text(text.BLOCKS if unicode else text.ASCII_BLOCKS)
        style = "bold" if math.isfinite(value) else "bold red"
        return Text.assemble(f"{self._curve} ", (text.number(value), style), "  ", (spark, "cyan"), no_wrap=True)

    def _numbers(self) -> Text:
        from rich.text import Text

        counters = {"num_tokens": ("tokens", text.short), "epoch": ("epoch", text.digits)}
        shown = {key: show for key, show in {**text.SHOWN, **counters}.items() if key != self._curve}
        parts = [f"{label} {show(self._latest[key])}" for key, (label, show) in shown.items() if key in self._latest]
        return Text("  ".join(parts))

    def _extras(self) -> Text:
        """A row of their own for the method's metrics, so that however many there are they push nothing else out."""
        from rich.text import Text

        return Text("  ".join(f"{name} {text.number(value)}" for name, value in text.extras(self._latest).items()))

    def _sources(self) -> Text:
        """Loss of each source and its share of the tokens."""
        from rich.text import Text

        parts = []
        for name, value in self._latest.items():
            if name.startswith("loss/"):
                label = name.removeprefix("loss/")
                share = self._latest.get(f"mix/{label}")
                parts.append(f"{label} {text.number(value)}" + ("" if share is None else f" ({share:.0%})"))
        return Text("  ".join(["by source", *parts]) if len(parts) > 1 else "")

    def _last_evaluation(self) -> Text:
        from rich.text import Text

        if self._evaluation is None:
            return Text("")
        step, metrics = self._evaluation
        parts = [f"{name.removeprefix('eval/').removesuffix('/loss')} {text.number(v)}" for name, v in metrics.items()]
        return Text("  ".join([f"evaluation at step {step}", *parts]))


def _move_handlers(old: TextIO, new: TextIO) -> list[tuple[logging.StreamHandler[TextIO], TextIO]]:
    """Let handlers that hold stderr write through the live view; return them with the streams they had."""
    moved = []
    for logger in (logging.getLogger(), logging.getLogger("tunesmith")):
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                handler.setStream(new)
                moved.append((handler, old))
    return moved
