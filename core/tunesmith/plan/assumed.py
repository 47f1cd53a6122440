"""Stand-ins for what a plan can do without: rows and rewards that are not named yet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

from tunesmith.components import Component, DataSpec, Method, Reward, Rollout, Row, Source
from tunesmith.config import Layers, Run, resolve
from tunesmith.errors import ConfigError
from tunesmith.plugins import Registry


class NoRows(Source):
    """Rows that a plan does not read."""

    name: ClassVar[str] = "rows-to-come"

    def rows(self) -> Iterator[Row]:
        """None."""
        return iter(())


class RewardToCome(Reward):
    """A reward that is not chosen yet."""

    name: ClassVar[str] = "reward-to-come"
    holds: str | None = None
    """A model that it keeps in memory."""

    def models_held(self) -> tuple[str, ...]:
        """The one, if any."""
        return () if self.holds is None else (self.holds,)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """None of them."""
        return [None for _ in rollouts]


def resolved(registry: Registry, method: str, layers: Layers, reward_model: str | None = None) -> tuple[Run, list[str]]:
    """The settings of a run to plan, and what was assumed because it was not said.

    ``reward_model``: what rewards that are not said hold in memory; ``same``: a model like the policy.

    Raises:
        ConfigError: as for a run, but for rows and rewards that are missing.
    """
    cls = cast(type[Method], registry.get(Method.kind, method))
    said = {*layers.file, *layers.flags, *(text.partition("=")[0].replace("-", "_") for text in layers.overrides)}
    flags, notes = dict(layers.flags), []
    if "data" not in said:
        flags["data"] = (DataSpec(source=NoRows()),)
    if "model" not in said:
        raise ConfigError("a plan needs a model", fix="--model FOLDER, config.json, or only its size: --model 7B")
    if reward_model is not None and "rewards" in said:
        raise ConfigError(
            "--reward-model stands in for rewards that are not named, and rewards are", fix="leave one out"
        )
    if "rewards" in cls.model_fields and cls.model_fields["rewards"].is_required() and "rewards" not in said:
        like = layers.flags.get("model", layers.file.get("model")) if reward_model == "same" else reward_model
        flags["rewards"] = (RewardToCome(holds=like),)
        if reward_model is None:
            notes.append("rewards hold no model on the device (a reward model: --reward-model 7B, or same)")
    try:
        return resolve(registry, method, replace(layers, flags=flags)), notes
    except ConfigError:
        rows = _rows_of(cls, said)
        if not rows:
            raise
        return resolve(registry, method, replace(layers, flags={**flags, **rows})), notes


def _rows_of(cls: type[Component], said: set[str]) -> Mapping[str, Any]:
    """Stand-ins for the other rows that a method cannot do without: those that its own checks make."""
    with tempfile.TemporaryDirectory() as folder:
        own = cls.settings_for_checks(Path(folder))
        files = [key for key, value in own.items() if isinstance(value, str) and value.startswith(folder)]
    return {key: (DataSpec(source=NoRows()),) for key in files if key not in said}
