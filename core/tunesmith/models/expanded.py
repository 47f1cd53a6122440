"""What the config of a model says about pieces that were added to its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ConfigError
from tunesmith.settings import RunSettings

ATTRIBUTE = "vocab_expansion"
"""Name in ``config.json``; other loaders carry it along."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """The latest new pieces.

    Attributes:
        first: id of the first one.
        count: how many there are; their ids follow one another.
        trained: True when their rows were trained since.
    """

    first: int
    count: int
    trained: bool


def expansion_of(config: Any) -> Expansion | None:
    """What the config says, or ``None`` for a model whose vocabulary is as it was."""
    said = getattr(config, ATTRIBUTE, None)
    return Expansion(int(said["first"]), int(said["count"]), bool(said["trained"])) if said else None


def mark_expanded(config: Any, first: int, count: int) -> None:
    """Write into the config which pieces are new. Rows of an earlier expansion that nobody trained count as new too."""
    before = expansion_of(config)
    start = before.first if before is not None and not before.trained else first
    setattr(config, ATTRIBUTE, {"first": start, "count": first + count - start, "trained": False})


def mark_trained(model: Any) -> None:
    """Write into the config that the new rows are trained, where all rows of the input embeddings are."""
    said = getattr(model.config, ATTRIBUTE, None)
    if said and not said["trained"] and model.get_input_embeddings().weight.requires_grad:
        setattr(model.config, ATTRIBUTE, {**said, "trained": True})


def refuse_adapter(settings: RunSettings) -> None:
    """Raises `ConfigError` for an adapter on a base whose new pieces nobody trained: their rows would stay frozen."""
    if settings.adapter == "none":
        return
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError):
        return  # what is wrong with it is said where the model is loaded
    found = expansion_of(config)
    if found is not None and not found.trained:
        raise ConfigError(
            f"the vocabulary of {settings.model} was expanded by {found.count:,} pieces whose rows are not trained yet",
            where=f"adapter: {settings.adapter}",
            why="an adapter leaves embeddings and head frozen, so the new pieces would mean nothing for good",
            fix="train all weights first, or the embeddings alone (a method with --warm-embeddings); then put the "
            "adapter on the result",
        )


def embedding_parameters(model: Any) -> list[nn.Parameter]:
    """The input embeddings and the output head, each matrix once."""
    head = model.get_output_embeddings()
    parts = [*model.get_input_embeddings().parameters(), *(head.parameters() if head is not None else ())]
    return list({id(parameter): parameter for parameter in parts}.values())


def keep_old_rows(parameters: list[nn.Parameter], new: Expansion) -> None:
    """Drop the gradient of every row but those of the new pieces."""
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad[: new.first].zero_()
                parameter.grad[new.first + new.count :].zero_()


def untrained(model: Any) -> Expansion | None:
    """New pieces whose rows neither were trained nor are about to be; ``None`` where there are none."""
    found = expansion_of(model.config)
    embeddings: nn.Module = model.get_input_embeddings()
    trains = any(parameter.requires_grad for parameter in embeddings.parameters())
    return None if found is None or found.trained or trains else found
