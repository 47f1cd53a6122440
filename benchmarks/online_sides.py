"""How a run of ours and a trainer of TRL's that sample their own answers are started, and their steps taken apart."""

from __future__ import annotations

import importlib
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import sides
import workload

REWARD = Path(__file__).with_name("variety.py")


class Phases:
    """CPU time of the parts of a step, by the functions that do them, and the tokens that were sampled in it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.tokens = 0
        self._within = 0.0

    def time(self, owner: Any, name: str, phase: str, count: Callable[[Any], int] | None = None) -> None:
        """Replace a function of ``owner`` by one that takes the time; what it spends in others of them is theirs.

        Args:
            count: from what it returns to the sampled tokens.
        """
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before, start, self._within = self._within, measure.cpu_seconds(), 0.0
            result = original(*args, **kwargs)
            spent = measure.cpu_seconds() - start
            self.spent[phase] += spent - self._within
            self._within = before + spent
            if count is not None:
                self.tokens += count(result)
            return result

        setattr(owner, name, timed)

    def take(self) -> tuple[int, dict[str, float]]:
        """Tokens and phases since the last call."""
        taken = self.tokens, dict(self.spent)
        self.tokens = 0
        self.spent.clear()
        return taken


def load_everything(package: str) -> None:
    """Import what a side imports anyway, so that memory can be measured without it."""
    import torch.utils.tensorboard  # noqa: F401
    import transformers

    for module in (package, "datasets", "peft", "transformers.models.qwen2.modeling_qwen2"):
        importlib.import_module(module)
    if package == "tunesmith":
        importlib.import_module("tunesmith.runner.launch")
        importlib.import_module("tunesmith_plugins.generators.native")
    assert transformers.AutoModelForCausalLM


def run_tunesmith(method: str, data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """A run as the command line starts it; samples.jsonl, metrics.jsonl and the terminal's lines included."""
    os.environ["TUNESMITH_CACHE"] = str(output.parent / "cache")
    import tunesmith
    from tunesmith import config, plugins
    from tunesmith.rollout.panel import Panel
    from tunesmith.runner import launch
    from tunesmith.runner.step import Stepper
    from tunesmith_plugins.generators.native import NativeSession

    phases = Phases()
    phases.time(NativeSession, "generate", "sample", lambda groups: sum(len(s.ids) for group in groups for s in group))
    phases.time(Panel, "judge", "judge")
    phases.time(Stepper, "collect", "score")

    class Listener:
        """Hears of every step after it was logged."""

        @tunesmith.hookimpl
        def tunesmith_run_started(self, run: Any) -> None:
            self.total = run.total_steps
            meter.begin()

        @tunesmith.hookimpl
        def tunesmith_step_ended(self, step: int, metrics: dict[str, float]) -> None:
            tokens, spent = phases.take()
            meter.step(tokens, tokens, metrics["loss"], metrics["grad_norm"], spent)
            if step == self.total:
                meter.end()

    registry = plugins.load()
    registry.manager.register(Listener())
    flags = {"model": str(data.model), "data": str(data.rows), "output": str(output), **settings}
    launch.start(config.resolve(registry, method, config.Layers(flags=flags)), registry)
    sides.check_metrics_file(output, meter)


def run_trl(trainer: str, data: workload.Workload, meter: measure.Meter, output: Path, **settings: Any) -> None:
    """A trainer of TRL's with the settings that all of them have here, as fast as they go in fp32 on a CPU."""
    import torch
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = trl
    arguments: dict[str, Any] = {}
    phases = Phases()
    options: dict[str, Any] = {
        "temperature": 1.0,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        **settings,
    }
    if trainer == "OnlineDPO":
        from trl.experimental import online_dpo as module

        arguments["model"] = AutoModelForCausalLM.from_pretrained(data.model, dtype=torch.float32)
        arguments["ref_model"] = AutoModelForCausalLM.from_pretrained(data.model, dtype=torch.float32)
    else:
        arguments["model"] = str(data.model)
        options["model_init_kwargs"] = {"dtype": torch.float32}
    kind = getattr(module, f"{trainer}Trainer")
    (time_online_dpo if trainer == "OnlineDPO" else time_grouped)(kind, phases)
    arguments |= {
        "args": getattr(module, f"{trainer}Config")(output_dir=str(output), **options),
        "train_dataset": load_dataset("json", data_files=str(data.rows), split="train", cache_dir=str(output / "c")),
        "processing_class": AutoTokenizer.from_pretrained(data.model, padding_side="left"),
        "reward_funcs": [reward_function()],
    }
    watch(kind, meter, phases, arguments)


def reward_function() -> Callable[..., list[float]]:
    """The function in `REWARD`."""
    from variety import variety

    return variety


def time_grouped(kind: Any, phases: Phases) -> None:
    """Take the steps of GRPOTrainer and RLOOTrainer apart."""
    phases.time(kind, "_generate", "sample")
    phases.time(kind, "_calculate_rewards", "judge")
    phases.time(kind, "_generate_and_score_completions", "score", lambda found: int(found["completion_mask"].sum()))


def time_online_dpo(kind: Any, phases: Phases) -> None:
    """Take the steps of OnlineDPOTrainer apart; its scoring by the reference is within its update."""
    phases.time(kind, "_generate", "sample", lambda found: int(found[3].sum()))
    phases.time(kind, "_calculate_rewards_from_functions", "judge")


def watch(kind: Any, meter: measure.Meter, phases: Phases, arguments: dict[str, Any]) -> None:
    """Train, and measure every step."""
    from transformers import TrainerCallback

    class Listener(TrainerCallback):
        """Hears of every step after it was logged."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            for model in (trainer.model, getattr(trainer, "ref_model", None)):
                if model is not None:
                    sides.touch_weights(model)
            meter.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                tokens, spent = phases.take()
                meter.step(tokens, tokens, logs["loss"], logs["grad_norm"], spent)

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            meter.end()

    trainer = kind(callbacks=[Listener()], **arguments)
    trainer.train()
