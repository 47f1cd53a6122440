"""Whether tokens are those that the model will see when it is used: template, ends of turns, text that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.data.chat import MARKS, checked_messages
from tunesmith.data.quality.findings import UNENDED, UNKNOWN, Finding, Place, judged_share, percent, shared
from tunesmith.data.quality.wording import texts_in
from tunesmith.data.report import SHOWN, printable
from tunesmith.examples import Completion, Conversation, Text

if TYPE_CHECKING:
    from tunesmith.components import Row
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.rows import Outcome
    from tunesmith.data.trees import Tree

LOOKED_AT = 100
"""Rows that are decoded and rendered again: a template that does not fit shows in the first few."""


@dataclass(slots=True)
class Count:
    """Rows with a fault, and the first of them."""

    rows: int = 0
    places: list[Place] = field(default_factory=list)
    example: str = ""

    def add(self, row: Row, example: str = "") -> None:
        """Count a row; ``example``: what is seen in the first one."""
        self.rows += 1
        self.example = self.example or example
        if len(self.places) < SHOWN:
            self.places.append((row.file, row.line))


class Templates:
    """What is known about the tokens of a source."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        tokenizer = encoder.tokenizer
        bos = encoder.bos_id if encoder.bos_id is not None else tokenizer.bos_token_id
        self._bos = None if bos == encoder.eos_id else bos
        unknown = tokenizer.unk_token_id
        self._unknown = None if unknown in (bos, encoder.eos_id, tokenizer.pad_token_id) else unknown
        self.rows = self.ended = self.chats = self.looked_at = self.tokens = self.unknown = 0
        self.doubled, self.unended, self.lost, self.opened = Count(), Count(), Count(), Count()

    def add(self, outcome: Outcome) -> None:
        """Look at a usable row."""
        tree = outcome.trees[0]
        self.rows += 1
        head = (tree.trunk if len(tree.trunk) > 1 else tree.branches[0].ids if tree.branches else tree.trunk)[:2]
        if self._bos is not None and len(head) == 2 and head[0] == head[1] == self._bos:
            self.doubled.add(outcome.row)
        self.tokens += tree.num_tokens
        if self._unknown is not None:
            parts = [tree.trunk, *(branch.ids for branch in tree.branches)]
            self.unknown += sum(int((part == self._unknown).sum()) for part in parts)
        whole = len(outcome.trees) == 1 and not outcome.lost
        if whole and tree.branches:
            self._ends(outcome.row, tree)
        if whole and self.looked_at < LOOKED_AT:
            self._looks(outcome, tree)

    def _ends(self, row: Row, tree: Tree) -> None:
        self.ended += 1
        for branch in tree.branches:
            trained = branch.ids[branch.mask]
            if len(trained) and int(trained[-1]) not in self.encoder.stop_ids:
                self.unended.add(row)
                return

    def _looks(self, outcome: Outcome, tree: Tree) -> None:
        example = outcome.example
        if isinstance(example, Conversation):
            self.chats += 1
            self._opens(outcome.row, example)
            text, _ = self.encoder.chat.render(checked_messages(example.messages), _tools(example))
        elif type(example) in (Text, Completion):
            text = "".join(texts_in(example))
        else:
            return
        self.looked_at += 1
        skipped = len(self.encoder.prefix) if not text.startswith(self._decoded(list(self.encoder.prefix))) else 0
        ids = [*tree.trunk.tolist(), *tree.branches[0].ids.tolist()][skipped if self.encoder.prefix else 0 :]
        if ids and not isinstance(example, Conversation) and ids[-1] == self.encoder.eos_id:
            ids = ids[:-1]
        back, said = ("".join(part.split()) for part in (self._decoded(ids), text))
        if not said.startswith(back):
            self.lost.add(outcome.row, _apart(said, back))

    def _decoded(self, ids: list[int]) -> str:
        found: str = self.encoder.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return found

    def _opens(self, row: Row, example: Conversation) -> None:
        """Whether the model is asked with what stands before the last turn that it is trained on."""
        messages, tools = checked_messages(example.messages), _tools(example)
        text, turns = self.encoder.chat.turns(messages, tools, "last")
        before = messages[: turns[-1].number - 1]
        if not before:
            return
        asked, _ = self.encoder.chat.render(before, tools, open_turn=True)
        trained = text[: turns[-1].start]
        if asked != trained:
            self.opened.add(row, f"asked with ...{_end(asked)}, trained after ...{_end(trained)}")

    # ------------------------------------------------------------------------------------------ what was found
    def findings(self) -> Iterator[Finding]:
        """What the model would not see, or see otherwise."""
        text = f"rows that begin with two BOS tokens: {shared(self.doubled.rows, self.rows)}"
        if self.doubled.rows:
            fix = "take the BOS out of the text or out of the chat template: the tokenizer writes one"
            yield Finding("bos", "warn", text, fix, self.doubled.rows, self.rows, tuple(self.doubled.places))
        yield from judged_share(
            "end",
            self.unended.rows,
            self.ended,
            UNENDED,
            f"no token that stops generation is trained on: {shared(self.unended.rows, self.ended)}",
            fix="let the chat template end the assistant's turn with a special token",
            places=tuple(self.unended.places),
            above="stop",
            below="warn",
        )
        if self.opened.rows:
            chats = f"{shared(self.opened.rows, self.chats)} of the first chats"
            text = f"the answer is not opened as the model is asked: {chats}"
            fix = "the template opens the assistant's turn in another way than it writes one: choose one that agrees"
            text = f"{text}: {self.opened.example}"
            yield Finding("opening", "warn", text, fix, self.opened.rows, self.chats, tuple(self.opened.places))
        if self.lost.rows:
            rows = f"{shared(self.lost.rows, self.looked_at)} of the first rows"
            text = f"another text once tokenised: {rows}; {self.lost.example}"
            fix = "the tokenizer changes or drops characters: is it the one of the model?"
            yield Finding("round-trip", "warn", text, fix, self.lost.rows, self.looked_at, tuple(self.lost.places))
        if self.tokens and self.unknown / self.tokens > UNKNOWN.value:
            text = f"{percent(self.unknown, self.tokens)} of the tokens stand for anything unknown"
            yield Finding("unknown-tokens", "warn", text, "extend the vocabulary, or take another model",
                          threshold=UNKNOWN)  # fmt: skip
        if self.chats:
            marks = MARKS.search(self.encoder.chat.source()) is not None
            how = (
                "marks what the assistant writes" if marks else "has no generation marks; turns were found by rendering"
            )
            yield Finding("marks", "fine", f"the chat template {how}")

    def as_dict(self) -> Mapping[str, Any]:
        """For programs."""
        return {
            "rows": self.rows,
            "doubled_bos": self.doubled.rows,
            "without_end": self.unended.rows,
            "looked_at": self.looked_at,
            "changed": self.lost.rows,
            "opened_otherwise": self.opened.rows,
            "unknown_tokens": self.unknown,
        }


def _tools(example: Conversation) -> list[dict[str, Any]] | None:
    return [dict(tool) for tool in example.tools] if example.tools else None


def _end(text: str) -> str:
    return repr(printable(text[-24:]))


def _apart(said: str, back: str) -> str:
    """Where two texts part, with what stands there."""
    at = next((i for i, (a, b) in enumerate(zip(said, back, strict=False)) if a != b), min(len(said), len(back)))
    first, second = (repr(printable(text[max(0, at - 5) : at + 10])) for text in (said, back))
    return f"{first} became {second}"
