"""One step of a run for real, on its longest rows: what it takes in memory and time."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunesmith.config import Run
from tunesmith.data.trees import Tree
from tunesmith.models.loading import pick_device, quiet_transformers
from tunesmith.plugins import Registry
from tunesmith.runner.launch import make_trainer, training_trees
from tunesmith.runner.processes import Processes
from tunesmith.runner.signals import StopRequest


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held so far: on a GPU what torch allocated there, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def measure(run: Run, registry: Registry) -> Mapping[str, Any]:
    """Two steps on the longest rows: the second one has all optimizer states.

    Nothing is kept: weights and files go to a folder that is deleted.

    Returns:
        ``bytes`` at the peak, ``seconds`` of the second step, and ``what`` it was, in words.
    """
    quiet_transformers()
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        settings = run.settings.model_copy(update={"output": output, "max_steps": 2, "eval_data": (), "holdout": 0.0})
        run = Run(settings, run.method, run.origins)
        processes = Processes(pick_device(settings))
        trainer, data = make_trainer(run, registry, processes, output, None)
        longest = sorted(training_trees(data), key=lambda tree: -tree.num_tokens)[: settings.batch_size]
        trainer.sampler = _Same(longest, trainer.sampler)  # type: ignore[assignment]  # it draws what a sampler draws
        with StopRequest() as stop, trainer.context.closing:
            run.method.opened(trainer.context)
            run.method.started(trainer.context, training_trees(data))
            trainer._step(stop)
            begun = time.perf_counter()
            trainer._step(stop)
        seconds = time.perf_counter() - begun
        tokens = sum(tree.num_tokens for tree in longest)
    what = f"the {len(longest)} longest rows, {tokens:,} tokens, on {processes.device} (process {os.getpid()})"
    return {"bytes": peak_bytes(processes.device), "seconds": seconds, "what": what}


class _Same:
    """A sampler that draws the same trees in every step."""

    def __init__(self, trees: list[Tree], sampler: Any) -> None:
        self.trees, self._sampler = trees, sampler

    def batch(self, step: int) -> list[Tree]:
        """The trees."""
        return self.trees

    extra = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)
