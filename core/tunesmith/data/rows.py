"""From rows to trees, with a verdict on every row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.components import DataFormat, Method, Row
from tunesmith.data.chat import checked_messages, checked_text, trained_turns
from tunesmith.data.detect import Taker, renamed
from tunesmith.data.judged import SameAnswers, check_judged, indistinct
from tunesmith.data.trees import Tree
from tunesmith.examples import Completion, Conversation, Example, Judged, Prompt, Text

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder

Status = Literal["used", "skipped", "bad", "dropped"]
Overlong = Literal["error", "drop", "truncate", "split"]
CHUNK = 512
"""Rows that go through the tokenizer together."""
FORMAT_FAULTS = (ValueError, TypeError, LookupError, AttributeError)
"""What a format raises for a row that is not as it expects; only ValueErrors are promised to say why."""


@dataclass(slots=True)
class Outcome:
    """What became of a row.

    Attributes:
        row: as the source gave it.
        index: 0-based number of the row in its source.
        status: used, skipped by the format, bad (see ``reason``), or dropped for its length.
        example: the typed row, where there is one.
        trees: what is trained on, each of at most ``max_length`` tokens; several when it was split.
        tokens: tokens of the row before it was cut, split or dropped.
        length: tokens of the longest text in it (the prompt and one answer) before that.
        lost: tokens that truncation cut off.
        same_answers: True where answers that are judged differently are the same.
        blunted: True where truncation would remove the part in which answers differ.
    """

    row: Row
    index: int
    status: Status = "used"
    reason: str = ""
    example: Example | None = None
    trees: tuple[Tree, ...] = ()
    tokens: int = 0
    length: int = 0
    lost: int = 0
    same_answers: bool = False
    blunted: bool = False

    def refuse(self, reason: str | ValueError) -> None:
        """Turn into a bad row."""
        self.status, self.reason, self.trees, self.lost = "bad", str(reason), (), 0
        self.same_answers = isinstance(reason, SameAnswers)


class Intake:
    """Judges rows one by one. Without an encoder rows are only typed, not tokenised.

    Args:
        format: of the rows.
        columns: renaming, expected name to given name.
        taker: what the rows are for.
        encoder: makes trees of examples.
        method: asked whether it refuses an example.
        max_length: tokens of a tree at most; ``None``: no limit.
        overlong: what to do with a longer one.
    """

    def __init__(
        self,
        format: DataFormat,
        *,
        columns: Mapping[str, str],
        taker: Taker,
        encoder: Encoder | None = None,
        method: Method | None = None,
        max_length: int | None = None,
        overlong: Overlong = "error",
    ) -> None:
        self.format, self.columns, self.taker = format, columns, taker
        self.encoder, self.method = encoder, method
        self.max_length, self.overlong = max_length, overlong

    def outcomes(self, rows: Iterable[Row], first: int = 0, chunk: int = CHUNK) -> Iterator[Outcome]:
        """The outcome of every row, in order; ``first`` is the number of the first one."""
        numbered = enumerate(rows, start=first)
        while batch := [self._typed(row, index) for index, row in islice(numbered, chunk)]:
            if self.encoder is not None:
                self._encode(batch, self.encoder)
            else:
                self._check_text(batch)
            yield from batch

    def _typed(self, row: Row, index: int) -> Outcome:
        outcome = Outcome(row, index)
        if row.problem:
            outcome.refuse(row.problem)
            return outcome
        try:
            outcome.example = self.format(renamed(row.data, self.columns))
        except FORMAT_FAULTS as error:
            own = isinstance(error, ValueError)
            outcome.refuse(str(error) if own else f"the format {self.format.name} failed: {error!r}")
            return outcome
        if outcome.example is None:
            outcome.status = "skipped"
        elif not isinstance(outcome.example, self.taker.consumes):
            got, wanted = type(outcome.example).__name__, self.taker.consumes.__name__
            outcome.refuse(
                f"the format {self.format.name} made it a {got}, and {self.taker.method or 'a run'} takes {wanted}"
            )
        return outcome

    @staticmethod
    def _check_text(batch: list[Outcome]) -> None:
        """What can be said about an example without a tokenizer."""
        for outcome in batch:
            try:
                check_example(outcome.example)
            except ValueError as error:
                outcome.refuse(error)

    def _encode(self, batch: list[Outcome], encoder: Encoder) -> None:
        chosen = [outcome for outcome in batch if outcome.status == "used"]
        results = encoder.encode_all([outcome.example for outcome in chosen if outcome.example is not None])
        for outcome, result in zip(chosen, results, strict=True):
            if isinstance(result, ValueError):
                outcome.refuse(result)
            else:
                self._judge(outcome, result)

    def _judge(self, outcome: Outcome, tree: Tree) -> None:
        tree.row, outcome.tokens, outcome.length = outcome.index, tree.num_tokens, tree.longest
        assert outcome.example is not None
        if tree.branches and not tree.num_scored:
            outcome.refuse(f"none of its {tree.num_tokens:,} tokens is trained on")
            return
        reason = self.method.check(outcome.example, tree) if self.method else None
        if reason:
            outcome.refuse(reason)
        elif self.max_length is None or tree.longest <= self.max_length:
            outcome.trees = (tree,)
        else:
            self._shorten(outcome, tree, self.max_length)

    def _shorten(self, outcome: Outcome, tree: Tree, size: int) -> None:
        several = len(tree.branches) > 1
        if not tree.branches:
            self._too_long_to_ask(outcome, tree, size)
            return
        long = f"{tree.longest:,} tokens, more than max_length {size:,}"
        if several:
            long = f"prompt and longest answer have {long}"
        cut = truncate(tree, size)
        outcome.blunted = several and bool(indistinct(cut.branches))
        if self.overlong == "drop":
            outcome.status = "dropped"
        elif self.overlong == "split" and not len(tree.trunk) and not several:
            outcome.trees = tuple(split(tree, size))
        elif self.overlong == "split":
            outcome.refuse(f"{long}: it has a prompt, so it cannot be split (overlong: drop or truncate can)")
        elif self.overlong == "truncate":
            reason = uncuttable(tree, cut)
            if reason:
                outcome.refuse(f"{long}: {reason}")
            else:
                outcome.trees, outcome.lost = (cut,), tree.num_tokens - cut.num_tokens
        else:
            ways = "drop or truncate" if len(tree.trunk) or several else "drop, truncate or split"
            outcome.refuse(f"{long} (raise it, or say --overlong {ways})")

    def _too_long_to_ask(self, outcome: Outcome, tree: Tree, size: int) -> None:
        """A prompt is never cut: what is asked stands at its end."""
        if self.overlong == "drop":
            outcome.status = "dropped"
            return
        outcome.refuse(
            f"its prompt has {tree.longest:,} tokens, more than max_length {size:,} (raise it, or say --overlong drop: "
            "a prompt is never cut or split)"
        )


def uncuttable(tree: Tree, cut: Tree) -> str | None:
    """Why a truncated tree must not be trained on."""
    if not all(cut.scored(branch).any() for branch in cut.branches):
        answer = "nothing trained" if len(tree.branches) == 1 else "nothing of an answer"
        return f"its prompt has {len(tree.trunk):,}, so {answer} would be left"
    if indistinct(cut.branches):
        return "cutting the ends of its answers would remove the part in which they differ"
    return None


def check_example(example: Example | None) -> None:
    """Raises `ValueError` where an example cannot be encoded by any tokenizer, as far as its type is known here."""
    if type(example) is Text:
        checked_text(example.text, "text")
    elif type(example) is Completion:
        checked_text(example.prompt, "prompt", blank=True)
        checked_text(example.completion, "completion")
    elif type(example) is Conversation:
        trained_turns(checked_messages(example.messages), "all")
    elif type(example) is Prompt:
        if isinstance(example.prompt, str):
            checked_text(example.prompt, "prompt", blank=True)
        else:
            checked_messages(example.prompt, answered=False)
    elif isinstance(example, Judged) and type(example).encode is Judged.encode:
        check_judged(example)


def truncate(tree: Tree, size: int) -> Tree:
    """A tree whose branches end ``size`` tokens after the trunk's first; a trunk is cut only where none is left."""
    room = max(0, size - len(tree.trunk))
    branches = tuple(replace(branch, ids=branch.ids[:room], mask=branch.mask[:room]) for branch in tree.branches)
    return replace(tree, trunk=tree.trunk[:size], branches=branches)


def split(tree: Tree, size: int) -> Iterator[Tree]:
    """Pieces of at most ``size`` tokens (2 or more) of a tree that is one branch without a trunk.

    Every token is predicted exactly once: a later piece has the last token of the one before it as its trunk.
    """
    [branch] = tree.branches
    start = 0
    while start < len(branch):
        trunk = branch.ids[max(0, start - 1) : start]
        end = start + size - len(trunk)
        piece = replace(branch, ids=branch.ids[start:end], mask=branch.mask[start:end])
        yield replace(tree, trunk=trunk, branches=(piece,))
        start = end


def content_key(outcome: Outcome) -> int:
    """64 bits of a hash of what an example says, whatever other columns its row has."""
    example = outcome.example
    value: Any = dict(outcome.row.data)
    if is_dataclass(example):
        value = [type(example).__qualname__, *(getattr(example, item.name) for item in fields(example))]
    text = json.dumps(value, sort_keys=True, default=_plain)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else repr(value)
