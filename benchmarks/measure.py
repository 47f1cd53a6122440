"""How a side is run and measured: a fresh process on one pinned thread, a clock at every step, resident memory.

A side is a function that trains and calls `Meter.begin` when training starts, `Meter.step` after every optimizer
step and `Meter.end` after the last one. All that lies between two calls of `step` counts: drawing the rows, the
update, the logging.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.01
UNDISTURBED = 0.95
"""Share of a step's wall time in which the process must have had its core, for the step to count as undisturbed."""
MEGABYTE = 2**20


@dataclass(slots=True)
class Step:
    """One optimizer step.

    Attributes:
        seconds: wall time since the step before (or since training started).
        cpu_seconds: CPU time of the process in it; where it is less than ``seconds``, others had the core.
        tokens: real tokens that went through the model, padding not counted.
        trained: tokens that the loss is over.
        loss: mean over the trained tokens.
        grad_norm: global norm of the gradient before clipping.
        phases: CPU seconds of its parts by name, where a side takes them; what is left of ``cpu_seconds`` is the rest.
    """

    seconds: float
    cpu_seconds: float
    tokens: int
    trained: int
    loss: float
    grad_norm: float
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Measurement:
    """What one process of a side measured; memory in MB.

    Attributes:
        empty_memory: resident when the meter was made, before models were loaded.
        start_memory: resident when training started.
        helper_memory: that of the processes it has started.
    """

    side: str
    steps: list[Step] = field(default_factory=list)
    empty_memory: float = 0.0
    start_memory: float = 0.0
    peak_memory: float = 0.0
    helper_memory: float = 0.0

    @property
    def memory(self) -> float:
        """Peak of resident memory above its value when training started, and all that its helpers have."""
        return self.peak_memory - self.start_memory + self.helper_memory

    @property
    def whole_memory(self) -> float:
        """The same above the value when the meter was made: with the weights of all models."""
        return self.peak_memory - self.empty_memory + self.helper_memory

    def total(self, what: str, warmup: int = 0) -> float:
        """Sum of a field over the steps after the first ``warmup``."""
        return float(sum(getattr(step, what) for step in self.steps[warmup:]))

    def rate(self, what: str, warmup: int, clock: str = "seconds") -> float:
        """``what`` (tokens or trained) a second after the first ``warmup`` steps."""
        return self.total(what, warmup) / self.total(clock, warmup)


class Meter:
    """Takes the measurements of one side."""

    def __init__(self, side: str) -> None:
        self.result = Measurement(side, empty_memory=resident_memory())
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def begin(self) -> None:
        """Training starts. Memory that was freed before goes back first: it would hide what training needs."""
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.result.start_memory = self.result.peak_memory = resident_memory()
        self._sampler.start()
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    def step(
        self, tokens: int, trained: int, loss: float, grad_norm: float, phases: Mapping[str, float] | None = None
    ) -> None:
        """A step has ended."""
        wall, cpu = time.perf_counter(), cpu_seconds()
        spent = wall - self._wall, cpu - self._cpu
        self.result.steps.append(Step(*spent, tokens, trained, loss, grad_norm, dict(phases or {})))
        self.result.helper_memory = max(self.result.helper_memory, sum(map(own_memory, helpers())))
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    def end(self) -> None:
        """The last step has ended."""
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.result.peak_memory = max(self.result.peak_memory, resident_memory())


def resident_memory() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


# ---------------------------------------------------------------------------------------------- helpers
def helpers() -> list[int]:
    """The processes that this one has started, and those that they have: such as judge answers for it."""
    found, unseen = [], [os.getpid()]
    while unseen:
        process = unseen.pop()
        for listed in Path(f"/proc/{process}/task").glob("*/children"):
            children = [int(child) for child in _text(listed).split()]
            found += children
            unseen += children
    return found


def cpu_seconds() -> float:
    """CPU time of this process and its helpers, to 10 ms for those."""
    ticks = [_text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()[11:15] for process in helpers()]
    return time.process_time() + sum(sum(map(int, times)) for times in ticks) / os.sysconf("SC_CLK_TCK")


def own_memory(process: int) -> float:
    """Resident memory of a process in MB, with its share of the pages that it has in common with others."""
    lines = _text(Path(f"/proc/{process}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _text(path: Path) -> str:
    """Nothing of a process that has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


# ---------------------------------------------------------------------------------------------- processes
def pin(core: int) -> None:
    """Keep this process on one core with one thread; before torch is imported."""
    os.sched_setaffinity(0, {core})
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def fresh_process(side: str, arguments: Sequence[str], folder: Path) -> Measurement:
    """Run one side of the calling script in a process of its own.

    Raises:
        RuntimeError: the process failed; the end of what it wrote is in the message.
    """
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, sys.argv[0], *arguments, "--side", side, "--result", str(result)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or not result.exists():
        raise RuntimeError(f"{side} ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return Measurement(**{**content, "steps": [Step(**step) for step in content["steps"]]})


def write(measurements: Any, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(measurements, default=asdict), encoding="utf-8")


def check_same_tokens(runs: Mapping[str, Sequence[Measurement]]) -> None:
    """Raises `RuntimeError` unless every side trained on exactly as many tokens: no row cut, dropped or added."""
    totals = {
        (measured.total("tokens"), measured.total("trained")): side
        for side, repeats in runs.items()
        for measured in repeats
    }
    if len(totals) > 1:
        raise RuntimeError(f"the sides did not train on the same tokens: {totals}")


def loss_difference(runs: Mapping[str, Sequence[Measurement]]) -> float:
    """Largest difference of the loss of a step between two processes, of any side."""
    losses = [[step.loss for step in measured.steps] for repeats in runs.values() for measured in repeats]
    return max(max(step) - min(step) for step in zip(*losses, strict=True))


def environment(packages: Sequence[str]) -> str:
    """Date, processor and versions, in one line."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = model[0].partition(":")[2].strip() if model else platform.machine()
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = os.getloadavg()[1]
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {processor}, load {load:.1f}, {versions}"


# ---------------------------------------------------------------------------------------------- the tables
LABELS = {"tokens": "tokens/s", "trained": "trained tokens/s"}


def rate_table(
    runs: Mapping[str, Sequence[Measurement]], warmup: int, rates: Sequence[str] = ("tokens", "trained")
) -> str:
    """Medians over the repeats, the last of ``rates`` also by CPU time; undisturbed steps are those of all repeats."""
    heads = ["side", *(LABELS[rate] for rate in rates), "the same by CPU time", "core had", "peak MB above start"]
    heads += ["peak MB", "tokens/s, undisturbed steps"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for side, repeats in runs.items():
        values = [
            (
                *(m.rate(rate, warmup) for rate in rates),
                m.rate(rates[-1], warmup, "cpu_seconds"),
                100 * m.total("cpu_seconds", warmup) / m.total("seconds", warmup),
                m.memory,
                m.peak_memory,
            )
            for m in repeats
        ]
        medians = [f"{statistics.median(column):,.0f}" for column in zip(*values, strict=True)]
        medians[-3] += "%"
        undisturbed = _undisturbed([step for m in repeats for step in m.steps[warmup:]])
        lines.append(f"| {' | '.join([side, *medians, undisturbed])} |")
    return "\n".join(lines)


def _undisturbed(steps: Sequence[Step]) -> str:
    """Real tokens a second of wall time in the undisturbed steps, and how many those are."""
    quiet = [step for step in steps if step.cpu_seconds > UNDISTURBED * step.seconds]
    if not quiet:
        return "none"
    rate = sum(step.tokens for step in quiet) / sum(step.seconds for step in quiet)
    return f"{rate:,.0f} ({len(quiet)} of {len(steps)})"


def ratio_table(runs: Mapping[str, Sequence[Measurement]], ours: str, warmup: int, rate: str = "trained") -> str:
    """Median (least to most) of our side's ratio to each other side's run of the same repeat."""
    lines = [
        f"| {ours} against | {LABELS[rate]} | the same by CPU time | peak memory above start |",
        "|---|---|---|---|",
    ]
    for side, repeats in runs.items():
        if side == ours:
            continue
        pairs = list(zip(runs[ours], repeats, strict=True))
        speed = [a.rate(rate, warmup) / b.rate(rate, warmup) for a, b in pairs]
        by_cpu = [a.rate(rate, warmup, "cpu_seconds") / b.rate(rate, warmup, "cpu_seconds") for a, b in pairs]
        memory = [a.memory / b.memory for a, b in pairs]
        lines.append(f"| {' | '.join([side, *(_spread(values) for values in (speed, by_cpu, memory))])} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}x ({min(values):.2f} to {max(values):.2f})"
