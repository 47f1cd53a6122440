"""Completions that exist already: from rows of any kind to what rewards judge."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tunesmith.components import Rollout, Row
from tunesmith.data.detect import SAMPLE, Taker, check_map, choose_format, renamed
from tunesmith.errors import DataError
from tunesmith.examples import Completion, Conversation, Example, Judged

if TYPE_CHECKING:
    from tunesmith.components import DataSpec
    from tunesmith.plugins import Registry

SAMPLES = "samples.jsonl"
"""The file of a run that holds what it sampled."""
CUT = "length"
"""How that file says that a completion was cut off at the longest length allowed."""
_ALL_ROWS = "`tunesmith data check` lists all rows that are wrong"
_ANSWERS = "give a completion (or completions, not an empty list), messages that end with an answer, or a pair"


@dataclass(slots=True)
class Candidate:
    """A completion to judge.

    Attributes:
        rollout: what rewards see.
        where: file and row.
        group: candidates of the same group answer the same prompt, and can be compared.
        value: what the data itself says of the answer, higher is better; ``None`` where it says nothing.
        recorded: scores that a run noted, by the label of the reward.
    """

    rollout: Rollout
    where: str
    group: str
    value: float | None = None
    recorded: Mapping[str, float | None] = field(default_factory=dict)


def samples_file(path: str) -> str:
    """The file with the samples of a run where the path is a run's folder; else the path as it is.

    Raises:
        DataError: the folder of a run that sampled nothing.
    """
    inside = os.path.join(path, SAMPLES)
    if os.path.isfile(inside):
        return inside
    if os.path.isfile(os.path.join(path, "run.yaml")):
        raise DataError(
            f"the run in {path} has no {SAMPLES}",
            why="only methods that sample from the model write one",
            fix="give rows with a prompt and a completion, or the folder of such a run",
        )
    return path


def candidates(spec: DataSpec, registry: Registry, limit: int | None = None) -> list[Candidate]:
    """Everything there is to judge in the rows of a source, at most ``limit`` rows.

    Rows with a ``prompt`` and a ``completion`` (or ``completions``) are taken as they are, empty answers too. Others
    are read in the format that they look like.

    Raises:
        DataError: there are no rows, or one of them holds no answer.
    """
    rows = islice(spec.source.rows(), limit)
    sample = list(islice(rows, SAMPLE))
    readable = [row for row in sample if not row.problem]
    check_map(spec, [replace(row, data=_flat(row.data)) for row in readable])
    everything = chain(sample, rows)
    plain = [row for row in readable if holds_answers(renamed(_flat(row.data), spec.map))]
    if spec.format is None and len(plain) * 2 > len(sample):
        found = list(_direct(everything, spec.map))
    else:
        found = list(_typed(everything, sample, spec, registry))
    if not found:
        raise DataError(f"{spec.source.label()} holds no completions")
    return found


def _flat(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of a run's samples as the row that it was made from, with its completion; any other row as it is."""
    nested = data.get("columns")
    if not isinstance(nested, Mapping):
        return data
    return {**nested, "prompt": data.get("prompt"), "completion": data.get("completion")}


def holds_answers(row: Mapping[str, Any]) -> bool:
    """True for a row with a prompt and one or several completions, each text or messages."""
    if not _is_passage(row.get("prompt")):
        return False
    several = row.get("completions")
    if _is_passage(row.get("completion")):
        return True
    return isinstance(several, list) and bool(several) and all(map(_is_passage, several))


def _is_passage(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _direct(rows: Iterable[Row], columns: Mapping[str, str]) -> Iterator[Candidate]:
    for row in rows:
        if row.problem:
            raise DataError("a row cannot be judged", where=row.where, why=row.problem, fix=_ALL_ROWS)
        data = renamed(_flat(row.data), columns)
        if not holds_answers(data):
            raise DataError(
                "a row cannot be judged",
                where=row.where,
                why=f"it has no prompt with a completion, as the rows before it; its columns: {', '.join(data)}",
            )
        yield from _answers(data, row)


def _answers(data: Mapping[str, Any], row: Row) -> Iterator[Candidate]:
    sampled = isinstance(row.data.get("columns"), Mapping)
    recorded = row.data.get("rewards") if sampled else None
    noted = {str(k): v for k, v in recorded.items()} if isinstance(recorded, Mapping) else {}
    several = "completion" not in data
    passages = data["completions"] if several else [data["completion"]]
    values = _values(data, len(passages) if several else 1)
    group, cut = _key(data["prompt"]), sampled and row.data.get("stop") == CUT
    for passage, value in zip(passages, values, strict=True):
        yield Candidate(Rollout(data["prompt"], passage, data, truncated=cut), row.where, group, value, noted)


def _values(data: Mapping[str, Any], count: int) -> Sequence[float | None]:
    """What a row says of its answers: a score for each of several, a label for a single one."""
    scores, label = data.get("scores"), data.get("label")
    if "completion" not in data and isinstance(scores, list) and len(scores) == count:
        return [float(score) if isinstance(score, (int, float)) else None for score in scores]
    return [float(label) if isinstance(label, bool) else None] * count


def rollouts_of(example: Example, row: Mapping[str, Any]) -> list[Rollout]:
    """The prompt with each of its answers. Raises `ValueError` for an example that holds no answer."""
    if isinstance(example, Judged):
        return [Rollout(example.prompt, answer.passage, row) for answer in example.answers()]
    if isinstance(example, Completion):
        return [Rollout(example.prompt, example.completion, row)]
    if isinstance(example, Conversation):
        *before, last = example.messages
        if last.get("role") == "assistant":
            return [Rollout(before, [last], row)]
        raise ValueError("the last message is not the assistant's")
    raise ValueError("it holds no answer to judge")


def _typed(rows: Iterable[Row], sample: Sequence[Row], spec: DataSpec, registry: Registry) -> Iterator[Candidate]:
    from tunesmith.data.rows import Intake

    found = choose_format(spec, sample, registry, Taker()).format
    intake = Intake(found, columns=spec.map, taker=Taker())
    for outcome in intake.outcomes(rows):
        if outcome.status == "bad":
            raise DataError("a row cannot be judged", where=outcome.row.where, why=outcome.reason, fix=_ALL_ROWS)
        example = outcome.example
        if example is None:
            continue
        data = renamed(outcome.row.data, spec.map)
        try:
            rollouts = rollouts_of(example, data)
        except ValueError as error:
            raise DataError("a row cannot be judged", where=outcome.row.where, why=str(error), fix=_ANSWERS) from None
        known = [answer.value for answer in example.answers()] if isinstance(example, Judged) else [None]
        for rollout, value in zip(rollouts, known, strict=True):
            yield Candidate(rollout, outcome.row.where, _key(rollout.prompt), value)


def _key(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=repr)
