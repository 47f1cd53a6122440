"""The flags that other trainers have taught everybody, and what they mean here."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from tunesmith.components import Method
from tunesmith.errors import ConfigError
from tunesmith.inputs import PolicyLogps

SAME_AS = {
    "model_name_or_path": "model",
    "dataset_name": "data",
    "output_dir": "output",
    "out": "output",
    "num_train_epochs": "epochs",
    "steps": "max_steps",
    "max_seq_length": "max_length",
    "lr": "learning_rate",
    "gradient_checkpointing": "activation_checkpointing",
    "logging_steps": "log_every",
    "eval_steps": "eval_every",
    "save_steps": "save_every",
    "save_total_limit": "keep_checkpoints",
    "reward": "rewards",
    "reward_funcs": "rewards",
    "num_generations": "group_size",
    "max_completion_length": "max_new_tokens",
    "max_prompt_length": "max_length",
    "num_iterations": "update_epochs",
    "num_ppo_epochs": "update_epochs",
    "num_mini_batches": "minibatches",
    "mask_truncated_completions": "mask_truncated",
}
"""Names that only differ: alias to setting."""


@dataclass(slots=True)
class Translation:
    """What the aliases of a command line mean.

    Attributes:
        flags: settings by name.
        method: whose settings they are.
        resume: continue the run in the output folder.
        notes: what was computed, to be said to the user.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    method: type[Method] | None = None
    resume: bool = False
    notes: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, alias: str) -> None:
        """Set a setting. Raises `ConfigError` when something else on the command line sets it too."""
        if key in self.flags:
            raise ConfigError(f"--{alias} and another flag both set {key}", fix="give one of them")
        self.flags[key] = value


def translate(values: Mapping[str, Any], flags: Mapping[str, Any], method: type[Method] | None = None) -> Translation:
    """Merge the given aliases into the flags.

    Args:
        values: alias to the text that was given, of those that were given.
        flags: the settings that are given by their own names.
        method: whose settings they are.

    Raises:
        ConfigError: an alias that cannot be honoured, or contradicts another flag.
    """
    found = Translation(dict(flags), method)
    for alias, text in values.items():
        apply, _ = ALIASES[alias]
        if apply is not None:
            apply(found, alias, text)
    _batch_size(found, values)
    return found


def alias_options(taken: Collection[str]) -> list[click.Option]:
    """A hidden flag for every alias that is not the name of a setting of the method itself."""
    return [
        click.Option([f"--{name.replace('_', '-')}", f"alias_{name}"], hidden=True, **_without_value(name))
        for name in ALIASES
        if name not in taken
    ]


def given_aliases(params: Mapping[str, Any]) -> dict[str, str]:
    """Alias to text, of the parameters of a command."""
    return {name: params[f"alias_{name}"] for name in ALIASES if params.get(f"alias_{name}") is not None}


# ---------------------------------------------------------------------------------------------- one by one
def _trackers(found: Translation, alias: str, text: str) -> None:
    names = [name.strip() for name in text.split(",") if name.strip()]
    found.put("trackers", [name for name in names if name != "none"], alias)


def _warmup(found: Translation, alias: str, text: str) -> None:
    number = _number(alias, text)
    if alias == "warmup_ratio" and number >= 1:
        raise ConfigError(f"--warmup_ratio is a share of the run below 1, not {text}", fix=f"--warmup_steps {text}")
    schedule = found.flags.get("schedule", {})
    found.flags["schedule"] = {**({"name": schedule} if isinstance(schedule, str) else schedule), "warmup": number}


def _scheduler(found: Translation, alias: str, text: str) -> None:
    found.put("schedule", text.replace("_", "-"), alias)


def _bf16(found: Translation, alias: str, text: str) -> None:
    found.put("dtype", "bf16" if _boolean(alias, text) else "fp32", alias)


def _fp16(found: Translation, alias: str, text: str) -> None:
    if _boolean(alias, text):
        raise ConfigError(
            "there is no training in fp16: its range is too small, so that gradients vanish without loss scaling",
            where=f"--{alias}",
            fix="--dtype bf16, or --dtype fp32 where a GPU has no bf16",
        )


def _use_cpu(found: Translation, alias: str, text: str) -> None:
    if _boolean(alias, text):
        found.put("device", "cpu", alias)


def _beta(found: Translation, alias: str, text: str) -> None:
    """The price of leaving the reference: in the reward where the method takes it off there, else in the loss."""
    method, name = found.method, "beta"
    if method is not None and issubclass(method.supplies, PolicyLogps):
        name = "kl_coef"
        own = method.model_fields.get(name)
        if own is not None and own.default:
            found.put(name, _number(alias, text), alias)
            return
    said = found.flags.get("objective", {})
    settings = {"name": said} if isinstance(said, str) else dict(said)
    if name in settings:
        raise ConfigError(f"--{alias} and another flag both set objective.{name}", fix="give one of them")
    found.flags["objective"] = {**settings, name: _number(alias, text)}


def _resume(found: Translation, alias: str, text: str) -> None:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ConfigError(
            f"--{alias} {text}: a run is continued in its own folder, from its newest complete checkpoint",
            fix="tunesmith resume RUN_DIR",
        )
    found.resume = _boolean(alias, text)


def _batch_size(found: Translation, values: Mapping[str, str]) -> None:
    """Examples per device and pass, times passes, times processes, is what we call the batch size."""
    per_device, passes = "per_device_train_batch_size", "gradient_accumulation_steps"
    if per_device not in values:
        if passes in values:
            raise ConfigError(
                f"--{passes} says nothing without --{per_device}",
                why="batch_size counts the examples of an optimizer step, however many passes they take",
                fix="--batch-size N, and --micro-tokens for the memory of one pass",
            )
        return
    numbers = (_count(per_device, values[per_device]), _count(passes, values.get(passes, "1")))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    total = numbers[0] * numbers[1] * processes
    found.put("batch_size", total, per_device)
    passes_word = "1 pass" if numbers[1] == 1 else f"{numbers[1]} passes"
    processes_word = "1 process" if processes == 1 else f"{processes} processes"
    found.notes.append(f"batch_size = {numbers[0]} per device x {passes_word} x {processes_word} = {total}")


Apply = Callable[[Translation, str, str], None]
ALIASES: Mapping[str, tuple[Apply | None, str]] = {
    "per_device_train_batch_size": (None, "--batch-size, with the next and the number of processes multiplied in"),
    "gradient_accumulation_steps": (None, "see above; memory is --micro-tokens"),
    "lr_scheduler_type": (_scheduler, "--schedule NAME"),
    "warmup_ratio": (_warmup, "--set schedule.warmup=SHARE"),
    "warmup_steps": (_warmup, "--set schedule.warmup=STEPS"),
    "report_to": (_trackers, "--trackers; none is allowed"),
    "bf16": (_bf16, "--dtype bf16"),
    "fp16": (_fp16, "refused: bf16 or fp32"),
    "beta": (_beta, "--set objective.beta=BETA or objective.kl_coef, or --kl-coef where it is part of the reward"),
    "use_cpu": (_use_cpu, "--device cpu"),
    "resume_from_checkpoint": (_resume, "--resume"),
}
"""Names that mean something else: alias to its translation and its help."""


def _without_value(name: str) -> dict[str, Any]:
    """Those that are true or false may stand alone."""
    alone = name in ("bf16", "fp16", "use_cpu", "resume_from_checkpoint")
    return {"is_flag": False, "flag_value": "true"} if alone else {}


def _boolean(alias: str, text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ConfigError(f"--{alias} is true or false, not {text!r}")
    return words[text.lower()]


def _number(alias: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"--{alias} is a number, not {text!r}") from None
    return int(value) if value >= 1 and value.is_integer() else value


def _count(alias: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--{alias} is a whole number from 1, not {text!r}")
    return int(text)
