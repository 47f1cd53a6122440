"""How a run of ours and a trainer of TRL's are started and watched, whatever the method."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import measure
import workload

Count = Callable[[Mapping[str, Any]], tuple[int, int]]
"""From the inputs of a forward pass of TRL's to its real tokens and those that the loss is over."""


def run_tunesmith(
    method: str,
    data: workload.Workload,
    meter: measure.Meter,
    output: Path,
    real_tokens: Callable[[int, int], int],
    **settings: Any,
) -> None:
    """A run as the command line starts it, metrics.jsonl and the terminal's lines included.

    Args:
        real_tokens: from the computed and the trained tokens of a step to what a padded trainer would compute for it.
        settings: of the run.
    """
    os.environ["TUNESMITH_CACHE"] = str(output.parent / "cache")
    import tunesmith
    from tunesmith import config, plugins
    from tunesmith.runner import launch

    class Listener:
        """Hears of every step after it was logged."""

        computed = trained = 0

        @tunesmith.hookimpl
        def tunesmith_run_started(self, run: Any) -> None:
            self.total = run.total_steps
            meter.begin()

        @tunesmith.hookimpl
        def tunesmith_step_ended(self, step: int, metrics: dict[str, float]) -> None:
            computed, trained = int(metrics["num_tokens"]), int(metrics["num_trained_tokens"])
            new = trained - self.trained
            meter.step(real_tokens(computed - self.computed, new), new, metrics["loss"], metrics["grad_norm"])
            self.computed, self.trained = computed, trained
            if step == self.total:
                meter.end()

    registry = plugins.load()
    registry.manager.register(Listener())
    flags = {"model": str(data.model), "data": str(data.rows), "output": str(output), **settings}
    launch.start(config.resolve(registry, method, config.Layers(flags=flags)), registry)
    check_metrics_file(output, meter)


def check_metrics_file(output: Path, meter: measure.Meter) -> None:
    """Raises `RuntimeError` unless metrics.jsonl has every step: a run that does not log is not what users run."""
    logged = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if [step.loss for step in meter.result.steps] != [line["loss"] for line in logged]:
        raise RuntimeError("metrics.jsonl does not hold the steps that were measured")


def run_trl(kind: Any, meter: measure.Meter, count: Count, **arguments: Any) -> None:
    """Train with a trainer class of TRL's.

    Args:
        kind: the class.
        arguments: of its constructor.
    """
    from transformers import TrainerCallback

    counts = [0, 0]

    class Counted(kind):
        """Counts the tokens of every training pass."""

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            for i, number in enumerate(count(inputs)):
                counts[i] += number
            return super().training_step(model, inputs, *args, **kwargs)

    class Listener(TrainerCallback):
        """Hears of every step after it was logged."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            for model in (trainer.model, getattr(trainer, "ref_model", None)):
                if model is not None:
                    touch_weights(model)
            meter.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                meter.step(counts[0], counts[1], logs["loss"], logs["grad_norm"])
                counts[:] = 0, 0

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            meter.end()

    trainer = Counted(callbacks=[Listener()], **arguments)
    trainer.train()


def touch_weights(model: Any) -> None:
    """Read every weight once: what is mapped from the file becomes resident before memory is measured."""
    for parameter in model.parameters():
        parameter.detach().sum()
