"""Prompts outside of a run: from the rows of a source to trees."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

from tunesmith.components import DataSpec, Reward
from tunesmith.data.detect import SAMPLE, Taker, choose_format
from tunesmith.data.encoding import Encoder
from tunesmith.data.report import Problems
from tunesmith.data.rows import Intake
from tunesmith.data.trees import Tree
from tunesmith.errors import DataError
from tunesmith.examples import Prompt

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def lacking_column(rewards: Sequence[Reward], example: Prompt) -> str | None:
    """Which column a reward reads that the prompt's row does not have, or ``None``."""
    for reward in rewards:
        lacks = next((column for column in reward.columns() if column not in example.columns), None)
        if lacks is not None:
            have = ", ".join(map(str, example.columns)) or "none beside the prompt"
            return f"the reward {reward.selector} reads the column {lacks!r}; the row's columns: {have}"
    return None


def read_prompts(
    spec: DataSpec,
    registry: Registry,
    encoder: Encoder,
    rewards: Sequence[Reward] = (),
    *,
    limit: int | None = None,
    max_length: int | None = None,
) -> list[Tree]:
    """The prompts of a source, each with what rewards read.

    Raises:
        DataError: rows that are no prompts, too long, or without a column that a reward reads.
    """
    rows = iter(spec.source.rows())
    rows = islice(rows, limit if limit is not None else spec.limit)
    sample = list(islice(rows, SAMPLE))
    taker = Taker(Prompt, "eval")
    verdict = choose_format(spec, sample, registry, taker)
    intake = Intake(verdict.format, columns=spec.map, taker=taker, encoder=encoder, max_length=max_length)
    trees: list[Tree] = []
    problems, count = Problems(), 0
    for outcome in intake.outcomes(chain(sample, rows)):
        count += 1
        if outcome.status == "used" and isinstance(outcome.example, Prompt):
            lacks = lacking_column(rewards, outcome.example)
            if lacks:
                outcome.refuse(lacks)
        if outcome.status == "bad":
            problems.add(outcome.reason, outcome.row)
        trees += outcome.trees
    if problems.kinds:
        raise problems.error(spec.label or spec.source.label(), count, "be answered")
    if not trees:
        raise DataError(f"{spec.source.label()} has no prompts")
    return trees
