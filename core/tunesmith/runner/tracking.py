"""What stands around the steps of a run: its metrics, its trackers, how it began and ended, and its report."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from tunesmith.components import Tracker
from tunesmith.errors import StoppedError, TunesmithError
from tunesmith.runner import records
from tunesmith.runner.loop import Trainer

log = logging.getLogger(__name__)


@contextlib.contextmanager
def tracking(trainer: Trainer) -> Iterator[None]:
    """Open metrics.jsonl and the trackers, tell them and the listeners how the run ended, and write its report."""
    if not trainer.processes.main:
        yield
        return
    chosen = list(trainer.settings.trackers)
    names = {tracker.name for tracker in chosen}
    for _, cls in trainer.registry.current(Tracker.kind):
        if getattr(cls, "always", False) and cls.name not in names:
            chosen.insert(0, cls())  # type: ignore[arg-type]
    error: BaseException | None = None
    with records.MetricsFile(trainer.output / records.METRICS, trainer.context.step) as metrics:
        sessions = [tracker.open(trainer.info) for tracker in chosen]
        trainer.sinks.sessions = [metrics, *sessions]
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            for session in sessions:
                session.close(error)
            trainer.registry.notify("tunesmith_run_ended", run=trainer.info, error=error)
            _write_down(trainer, error)


def started(trainer: Trainer) -> dict[str, Any]:
    """What this start of the run works with, for the manifest."""
    policy = trainer.context.models.policy
    parameters = list(policy.module.parameters())
    return {
        "time": time.time(),
        "step": trainer.context.step,
        "total_steps": trainer.sampler.total_steps,
        "device": str(trainer.processes.device),
        "processes": trainer.processes.count,
        "dtype": "bf16" if policy.autocast else "fp32",
        "path": policy.path,
        "why": policy.why,
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _ended(trainer: Trainer, error: BaseException | None) -> dict[str, Any]:
    """How a start of the run ended."""
    if error is None:
        outcome, said = "finished", ""
    elif isinstance(error, StoppedError):
        outcome, said = "stopped", error.what
    elif isinstance(error, TunesmithError):
        outcome, said = "failed", "; ".join(part for part in (error.what, error.where, error.why, error.fix) if part)
    else:
        outcome, said = "failed", f"{type(error).__name__}: {error}"
    return {
        "time": time.time(),
        "step": trainer.context.step,
        "outcome": outcome,
        "said": said,
        "micro_tokens": trainer.stepper.micro_tokens,
        "peak_memory": _peak_memory(trainer),
    }


def _peak_memory(trainer: Trainer) -> dict[str, int]:
    """Bytes that this process held at most: of the machine, and of its accelerator where it has one."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if trainer.processes.device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated(trainer.processes.device)
    return found


def _memory(trainer: Trainer, end: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was predicted of this process's memory, beside what it took; see `tunesmith.runner.predicted`."""
    from tunesmith.runner.predicted import beside

    peaks, cuda = end["peak_memory"], trainer.processes.device.type == "cuda"
    seconds = end["time"] - trainer.begun
    measured = peaks["device" if cuda else "process"]
    return beside(trainer.run, cuda=cuda, processes=trainer.processes.count, seconds=seconds, measured=measured)


def _write_down(trainer: Trainer, error: BaseException | None) -> None:
    """Note the end of the run and its memory, and write report.html. A fault is a warning: the run is what counts."""
    from tunesmith.report.run import write_report

    end = _ended(trainer, error)
    with _harmless("the end of the run could not be noted"):
        records.note_end(trainer.output, end)
    with _harmless("the memory of the run could not be noted"):
        if (memory := _memory(trainer, end)) is not None:
            records.note_end(trainer.output, end, memory)
    with _harmless("the report could not be written"):
        log.info("report   %s", write_report(trainer.output, trainer.registry))


@contextlib.contextmanager
def _harmless(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as fault:  # like a listener, a record must not end a run nor hide why it failed
        log.warning("%s: %s: %s", what, type(fault).__name__, fault)
