"""How a run of `knowledge.py` is started in a process of its own, and what is measured of it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

PRELOADED = ["tunesmith.runner.launch", "transformers.models.llama.modeling_llama", "peft", "knowledge_runs"]
"""Modules that all processes have from the start: importing them would cost each of them seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run; losses in nats per token.

    Attributes:
        trained: parameters that were trained, of ``parameters``.
        tokens: tokens that were trained on.
        cpu_seconds: of the whole run, from reading the rows to writing the model.
        micros: CPU time of the median step per token, in microseconds.
        memory: peak of resident memory above its value before the model was loaded, in MB.
    """

    domain_before: float
    domain_after: float
    general_before: float
    general_after: float
    trained: int
    parameters: int
    tokens: int
    cpu_seconds: float
    micros: float
    memory: float

    @property
    def forgetting(self) -> float:
        return self.general_after - self.general_before

    @property
    def gain(self) -> float:
        return self.domain_before - self.domain_after


def run(method: str, settings: Mapping[str, Any], log: Path, result: Path) -> None:
    """Run a method with these settings (``preset`` among them), and write an `Outcome` as JSON.

    Everything that the run prints goes to ``log``.
    """
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        measure.write(_run(method, dict(settings)), result)


def _run(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    import torch

    import tunesmith
    from tunesmith import config, plugins
    from tunesmith.runner import launch

    torch.set_num_threads(1)
    logging.getLogger("tunesmith").setLevel(logging.INFO)
    meter = measure.Meter(method)

    class Listener:
        """Hears of every step; evaluations fall between the steps and do not count."""

        tokens, started = 0, 0.0

        @tunesmith.hookimpl
        def tunesmith_run_started(self, run: Any) -> None:
            self.total = run.total_steps
            meter.begin()

        @tunesmith.hookimpl
        def tunesmith_step_ended(self, step: int, metrics: Mapping[str, float]) -> None:
            tokens = int(metrics["num_tokens"])
            meter.step(tokens - self.tokens, tokens - self.tokens, metrics["loss"], metrics["grad_norm"])
            self.tokens = tokens
            if step == self.total:
                meter.end()

    started = time.process_time()
    registry = plugins.load()
    registry.manager.register(Listener())
    layers = config.Layers(preset=settings.pop("preset", None), flags={"device": "cpu", "dtype": "fp32", **settings})
    launch.start(config.resolve(registry, method, layers), registry)
    spent = time.process_time() - started
    return {**_read(Path(settings["output"])), "cpu_seconds": spent, **_measured(meter.result)}


def _measured(result: measure.Measurement) -> dict[str, float]:
    """Of the steps; the first one holds the evaluation before it."""
    steps = result.steps[1:] or result.steps
    micros = statistics.median(1e6 * step.cpu_seconds / step.tokens for step in steps)
    return {"tokens": result.total("tokens"), "micros": micros, "memory": result.whole_memory}


def _read(folder: Path) -> dict[str, Any]:
    """Losses before the first step and after the last one, and the number of parameters, as the run reports them."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    before, *_, after = (line for line in lines if "eval/general/loss" in line)
    found = {
        f"{name}_{when}": line.get(f"eval/{name}/loss", float("nan"))
        for name in ("domain", "general")
        for when, line in (("before", before), ("after", after))
    }
    said = re.search(r"([\d,]+) of ([\d,]+) parameters trained", (folder / "log.txt").read_text(encoding="utf-8"))
    if said is None:
        raise RuntimeError(f"{folder}/log.txt does not say how many parameters were trained")
    trained, whole = (int(number.replace(",", "")) for number in said.groups())
    return {**found, "trained": trained, "parameters": whole}
