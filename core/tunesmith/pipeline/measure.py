"""What gates measure of models: answers judged by rewards, and text that got harder to predict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from tunesmith.components import DataSpec, Generator, Reward, Sampling
from tunesmith.config import build
from tunesmith.errors import ConfigError
from tunesmith.online import OnlineMethod
from tunesmith.pipeline.gates import MEASURES
from tunesmith.plugins import Registry
from tunesmith.runner.measure import Plan, figures, measure

LENGTH = 1024
"""Tokens of a piece of text, where forgetting is measured."""


@dataclass(slots=True)
class Options:
    """How models are measured.

    Attributes:
        registry: where components are known.
        settings: of the models: device, dtype, chat_template, trust_remote_code.
        losses: bits per byte that are known already, by model and data.
    """

    registry: Registry
    settings: Mapping[str, Any] = field(default_factory=dict)
    losses: dict[tuple[str, str], float] = field(default_factory=dict)


def data_of(said: Any, registry: Registry) -> DataSpec:
    """The source that a gate names. Raises `ConfigError`."""
    from pydantic import ValidationError

    from tunesmith.explain import explain

    try:
        return DataSpec.model_validate(said, context={"build": partial(build, registry)})
    except ValidationError as error:
        raise explain(error, DataSpec, "data") from None


def plan_of(said: Mapping[str, Any], registry: Registry) -> Plan:
    """What a gate on answers measures. Raises `ConfigError` for a reward or a source that is not there."""
    rewards = said["reward"] if isinstance(said["reward"], list) else [said["reward"]]
    greedy = said.get("measure") == MEASURES[1]
    return Plan(
        data_of(said["data"], registry),
        [cast(Reward, build(registry, Reward.kind, one)) for one in rewards],
        cast(Generator, build(registry, Generator.kind, OnlineMethod.model_fields["generator"].default)),
        Sampling(max_new_tokens=said.get("max_new_tokens", 256), temperature=said.get("temperature", 1.0)),
        samples=0 if greedy else said.get("samples", 4),
        greedy=greedy,
        right=said.get("right", 1.0),
        limit=said.get("limit"),
        seed=said.get("seed", 0),
    )


def answered(model: Path, said: Mapping[str, Any], options: Options) -> tuple[float, str]:
    """The measure of a model's answers, and its interval in words. Raises what `tunesmith.runner.measure` raises."""
    plan = plan_of(said, options.registry)
    [found] = measure([str(model)], plan, options.registry, options.settings)
    name = said.get("measure", MEASURES[0])
    estimate = figures(found, plan).get(name)
    if estimate is None:
        raise ConfigError(f"the gate found no {name} for {model}", why="no answer got a score")
    return estimate.value, f"95% from {estimate.low:.3f} to {estimate.high:.3f}"


def forgotten(before: str, after: Path, said: Mapping[str, Any], options: Options) -> tuple[float, str]:
    """By how many bits per byte text got harder to predict, and the two numbers in words.

    Bits per byte do not depend on the tokenizer, so that a stage may change it.
    """
    one, other = (bits_per_byte(model, said, options) for model in (before, str(after)))
    return other - one, f"{one:.3f} before, {other:.3f} after"


def bits_per_byte(model: str, said: Mapping[str, Any], options: Options) -> float:
    """Bits that a model needs for a byte of the texts of a source. Raises `DataError` for rows without text."""
    key = (model, repr(said["data"]))
    if key not in options.losses:
        options.losses[key] = _measured(model, said, options)
    return options.losses[key]


def _measured(model: str, said: Mapping[str, Any], options: Options) -> float:
    from tunesmith.runner.held_out import text_losses
    from tunesmith.vocab.texts import read_texts

    spec = data_of(said["data"], options.registry)
    length = said.get("max_length", LENGTH)
    [found] = text_losses([model], spec, options.registry, options.settings, max_length=length)
    size = sum(len(text.encode()) for text in read_texts(spec, options.registry))
    return float(found.losses.sum()) / math.log(2) / size
