"""Rows that say the same: copies and near-copies, within a source and from one to another; answers that differ."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tunesmith.components import Row
from tunesmith.data.quality.findings import ANSWERS, COPIES, SIMILAR, Finding, Place, judged_share, shared
from tunesmith.data.quality.similar import SHORTEST, Sketches
from tunesmith.data.quality.wording import key_of, pieces, prompt_of
from tunesmith.data.report import SHOWN
from tunesmith.examples import Demonstration, Example, Prompt

Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Ledger:
    """Where the usable rows of a source stand and what they say, in 30 bytes each.

    Attributes:
        label: name of the source.
        asks: True where rows are prompts or demonstrations, so that one prompt has one answer mostly.
    """

    label: str
    asks: bool = False
    _files: dict[str, int] = field(default_factory=dict)
    _file: array[int] = field(default_factory=lambda: array("i"))
    _line: array[int] = field(default_factory=lambda: array("q"))
    _keys: array[int] = field(default_factory=lambda: array("Q"))
    _prompts: array[int] = field(default_factory=lambda: array("Q"))
    _sketches: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, row: Row, example: Example, key: int, sketches: Sketches) -> None:
        """Note a row; ``key``: a hash of its content."""
        self.asks = self.asks or isinstance(example, Demonstration | Prompt)
        self._file.append(self._files.setdefault(row.file, len(self._files)))
        self._line.append(row.line)
        self._keys.append(key)
        prompt = prompt_of(example) if self.asks else None
        self._prompts.append(key_of(prompt) if prompt and prompt.strip() else 0)
        self._sketches.append(sketches.add("\n".join(pieces(example))))

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """``[N]`` hashes of the contents."""
        return np.array(self._keys, dtype=np.uint64)

    @property
    def sketches(self) -> npt.NDArray[np.int64]:
        """``[N]`` numbers of the texts among all sketches."""
        return np.array(self._sketches, dtype=np.int64)

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[Place, ...]:
        """Where the first few of some rows stand."""
        names = list(self._files)
        return tuple((names[self._file[i]], self._line[i]) for i in rows[:SHOWN].tolist())

    def copies(self) -> Flags:
        """``[N]``, True for a row whose content an earlier row has."""
        _, first = np.unique(self.keys, return_index=True)
        found = np.ones(len(self), dtype=np.bool_)
        found[first] = False
        return found

    def contradicted(self) -> Flags:
        """``[N]``, True for a row whose prompt has another answer elsewhere."""
        prompts = np.array(self._prompts, dtype=np.uint64)
        both = np.unique(np.stack([prompts, self.keys], axis=1), axis=0) if len(self) else np.empty((0, 2), np.uint64)
        asked, answers = np.unique(both[:, 0], return_counts=True)
        found: Flags = np.isin(prompts, asked[(answers > 1) & (asked > 0)])
        return found


class Copies:
    """Copies within and among all sources of a run."""

    def __init__(self) -> None:
        self.sketches = Sketches()
        self.ledgers: list[Ledger] = []
        self._near: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def ledger(self, label: str) -> Ledger:
        """Begin a source."""
        self.ledgers.append(Ledger(label))
        return self.ledgers[-1]

    def _like(self, ledger: Ledger) -> npt.NDArray[np.int64]:
        """``[N]`` for every row the number of an earlier text that it is like; -1 for none."""
        if self._near is None:
            self._near = self.sketches.near()
        later, earlier = self._near
        found = np.full(len(ledger), -1, dtype=np.int64)
        _, mine, theirs = np.intersect1d(ledger.sketches, later, return_indices=True)
        found[mine] = earlier[theirs]
        return found

    def near_of(self, ledger: Ledger) -> npt.NDArray[np.int64]:
        """Rows that are like an earlier row of the same source, copies left out."""
        like = self._like(ledger)
        texts = ledger.sketches[ledger.sketches >= 0]
        own = (like >= texts.min()) & (like <= texts.max()) if len(texts) else like >= 0
        return np.flatnonzero(own & ~ledger.copies())

    def findings(self, ledger: Ledger) -> Iterator[Finding]:
        """What is copied within a source."""
        rows = len(ledger)
        copies = np.flatnonzero(ledger.copies())
        drop = "drop the copies; they weigh more than the rest and end up on both sides of a split"
        text = f"copies of earlier rows: {shared(len(copies), rows)}"
        yield from judged_share("duplicates", len(copies), rows, COPIES, text, fix=drop, places=ledger.places(copies))
        near = self.near_of(ledger)
        text = f"nearly the same as an earlier row: {shared(len(near), rows)}, Jaccard index {SIMILAR.value:g} and more"
        many = "look at them: usual where rows are made from a template, else drop all but one"
        yield from judged_share("near-duplicates", len(near), rows, COPIES, text, fix=many, places=ledger.places(near))
        if not ledger.asks:
            return
        answers = np.flatnonzero(ledger.contradicted())
        text = f"rows whose prompt has another answer elsewhere: {shared(len(answers), rows)}"
        same = "fine where answers were sampled; else decide which is right"
        yield from judged_share("answers", len(answers), rows, ANSWERS, text, fix=same, places=ledger.places(answers))

    def across(self) -> Iterator[Finding]:
        """What later sources have from earlier ones, and what was not compared."""
        seen: list[Ledger] = []
        for ledger in self.ledgers:
            for earlier in seen:
                yield from self._shared(earlier, ledger)
            seen.append(ledger)
        if self.sketches.left_out:
            yield Finding(
                "near-duplicates",
                "fine",
                f"near-duplicates were looked for among the first {len(self.sketches):,} rows, "
                f"not among {self.sketches.left_out:,} more",
            )

    def _shared(self, earlier: Ledger, later: Ledger) -> Iterator[Finding]:
        same = np.isin(later.keys, earlier.keys)
        texts = earlier.sketches[earlier.sketches >= 0]
        like = self._like(later)
        near = (like >= texts.min()) & (like <= texts.max()) & ~same if len(texts) else np.zeros_like(same)
        for check, flags, how in (
            ("duplicates", same, "copies of rows of"),
            ("near-duplicates", near, "nearly the same as rows of"),
        ):
            rows = np.flatnonzero(flags)
            text = f"{how} {earlier.label}: {shared(len(rows), len(later))} of {later.label}"
            yield from judged_share(
                check, len(rows), len(later), COPIES, text, fix="drop them from one of the sources",
                places=later.places(rows),
            )  # fmt: skip

    def numbers(self, ledger: Ledger) -> dict[str, int | float]:
        """For programs."""
        return {
            "near_duplicates": len(self.near_of(ledger)),
            "jaccard": SIMILAR.value,
            "not_compared": int((ledger.sketches < 0).sum()),
            "shortest_bytes": SHORTEST,
            "answered_otherwise": int(ledger.contradicted().sum()) if ledger.asks else 0,
        }
