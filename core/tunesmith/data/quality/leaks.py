"""Evaluation rows that stand in training data: the same text, a prompt inside of a text, or shared n-grams.

Common words in a row say little, so n-grams that many evaluation rows share, such as an instruction before every
question, are left out. Every training row is compared by itself: grams that are scattered over many are no leak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.components import Row
from tunesmith.data.quality.findings import GRAMS, LEAKED, Finding, percent
from tunesmith.data.quality.wording import normal, pieces, prompt_of
from tunesmith.data.report import SHOWN
from tunesmith.errors import DataError
from tunesmith.examples import Example

GRAM = 8
"""Words of the n-grams whose share counts, as for PaLM (arXiv:2204.02311)."""
LONG_GRAM = 13
"""Words of the n-grams of which one is worth a look, as for GPT-3 (arXiv:2005.14165, appendix C)."""
EVERYWHERE = 0.05
"""Share of the evaluation rows from which on an n-gram is an instruction rather than a question. Ours, not verified."""
Hashes = npt.NDArray[np.uint64]
_FACTORS = np.random.default_rng(8).integers(1, 2**63, LONG_GRAM, dtype=np.uint64) | np.uint64(1)


def grams(ids: Sequence[int], size: int) -> Hashes:
    """A hash of every ``size`` words in a row; those with a word of the id 0 are left out."""
    words = np.array(ids, dtype=np.uint64)
    count = len(words) - size + 1
    if count <= 0:
        return words[:0]
    found = np.zeros(count, dtype=np.uint64)
    known = np.ones(count, dtype=np.bool_)
    for i in range(size):
        part = words[i : i + count]
        found += part * _FACTORS[i]
        known &= part != 0
    mixed = found[known]
    mixed ^= mixed >> np.uint64(31)
    kept: Hashes = mixed * np.uint64(0x9E3779B97F4A7C15)
    return kept


@dataclass(slots=True)
class Asked:
    """An evaluation row.

    Attributes:
        row: where it stands.
        text: what it asks, as `tunesmith.data.quality.wording.normal` writes it.
        grams: how many n-grams of it count.
        exact: True when a training text is the same, ``inside`` when one holds it.
        share: of its n-grams, the most that one training row has.
        touched: True when a long n-gram of it stands in a training row.
        place: label, file and row of the training row that is likest.
    """

    row: Row
    text: str
    grams: int = 0
    exact: bool = False
    inside: bool = False
    share: float = 0.0
    touched: bool = False
    place: tuple[str, str, int] | None = None

    @property
    def leaked(self) -> bool:
        """True when what is measured on it would be memory."""
        return self.exact or self.inside or self.share >= GRAMS.value

    @property
    def how(self) -> str:
        """In what way it is known."""
        if self.exact:
            return "the same text"
        return "inside of a text" if self.inside else f"{self.share:.0%} of its {GRAM}-grams"

    @property
    def where(self) -> str:
        """The training row that is likest."""
        label, file, line = self.place or ("", "", 0)
        return f"{file or label}, row {line:,}"


@dataclass(slots=True)
class Leaks:
    """Evaluation rows, and what training rows have of them.

    Attributes:
        label: name of the evaluation data.
        asked: its rows.
    """

    label: str
    asked: list[Asked]
    _vocabulary: dict[str, int] = field(default_factory=dict)
    _exact: dict[str, list[int]] = field(default_factory=dict)
    _owners: dict[int, list[int]] = field(default_factory=dict)
    _table: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    _long: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    _long_owners: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, one in enumerate(self.asked):
            self._exact.setdefault(one.text, []).append(i)
        words = [
            [self._vocabulary.setdefault(w, len(self._vocabulary) + 1) for w in a.text.split()] for a in self.asked
        ]
        self._owners = self._table_of(words, GRAM)
        self._long_owners = self._table_of(words, LONG_GRAM)
        for owners in self._owners.values():
            for i in owners:
                self.asked[i].grams += 1
        self._table = np.array(sorted(self._owners), dtype=np.uint64)
        self._long = np.array(sorted(self._long_owners), dtype=np.uint64)

    def _table_of(self, words: Iterable[Sequence[int]], size: int) -> dict[int, list[int]]:
        owners: dict[int, list[int]] = {}
        for i, ids in enumerate(words):
            for gram in np.unique(grams(ids, size)).tolist():
                owners.setdefault(gram, []).append(i)
        most = max(3, EVERYWHERE * len(self.asked))
        return {gram: some for gram, some in owners.items() if len(some) <= most}

    def add(self, label: str, row: Row, example: Example) -> None:
        """Compare a training row."""
        texts = [normal(text) for text in pieces(example)]
        place = (label, row.file, row.line)
        for text in texts:
            for i in self._exact.get(text, ()):
                self._note(self.asked[i], 1.0, place, exact=True)
        known = self._vocabulary.get
        ids = [known(word, 0) for text in texts for word in (*text.split(), "")]
        hits = self._hits(grams(ids, GRAM), self._table, self._owners)
        for i, count in hits.items():
            one = self.asked[i]
            share = count / one.grams
            inside = share == 1.0 and any(f" {one.text} " in f" {text} " for text in texts)
            self._note(one, share, place, inside=inside)
        if hits:  # a longer n-gram holds shorter ones
            for i in self._hits(grams(ids, LONG_GRAM), self._long, self._long_owners):
                self.asked[i].touched = True

    @staticmethod
    def _hits(own: Hashes, table: Hashes, owners: dict[int, list[int]]) -> Counter[int]:
        if not len(own) or not len(table):
            return Counter()
        at = np.minimum(np.searchsorted(table, own), len(table) - 1)
        return Counter(i for gram in set(own[table[at] == own].tolist()) for i in owners[gram])

    @staticmethod
    def _note(
        one: Asked, share: float, place: tuple[str, str, int], *, exact: bool = False, inside: bool = False
    ) -> None:
        if (exact, inside, share) > (one.exact, one.inside, one.share):
            one.place = place
        one.exact, one.inside, one.share = one.exact or exact, one.inside or inside, max(one.share, share)

    # ------------------------------------------------------------------------------------------ what was found
    def leaked(self) -> list[Asked]:
        """Evaluation rows that are known, those that are the same first."""
        return sorted((a for a in self.asked if a.leaked), key=lambda a: (not a.exact, not a.inside, -a.share))

    def findings(self) -> Iterator[Finding]:
        """Whether the evaluation still measures something."""
        found, total = self.leaked(), len(self.asked)
        if not found:
            yield Finding(
                "contamination", "fine", f"rows of {self.label} in the training data: none of {total:,}", of=total
            )
        else:
            exact, inside = sum(a.exact for a in found), sum(a.inside and not a.exact for a in found)
            parts = [f"{exact:,} the same", f"{inside:,} inside of a text"]
            rest = sum(not (a.exact or a.inside) for a in found)
            parts = [part for part in (*parts, f"{rest:,} by {GRAM}-grams") if not part.startswith("0 ")]
            text = (
                f"rows of {self.label} in the training data: {len(found):,} of {total:,} ({percent(len(found), total)})"
            )
            yield Finding(
                "contamination",
                "stop" if len(found) / total > LEAKED.value else "warn",
                f"{text}; {', '.join(parts)}; first in {found[0].where}",
                "take them out of the training data: what is measured on them is memory",
                len(found),
                total,
                tuple((a.row.file, a.row.line) for a in found[:SHOWN]),
                LEAKED,
            )
        touched = sum(a.touched and not a.leaked for a in self.asked)
        if touched:
            text = f"more rows of {self.label} with {LONG_GRAM} words in a row from a training row: {touched:,}"
            yield Finding("contamination-ngrams", "fine", text, count=touched, of=total)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        found = self.leaked()
        return {
            "label": self.label,
            "rows": len(self.asked),
            "leaked": len(found),
            "exact": sum(a.exact for a in found),
            "inside": sum(a.inside for a in found),
            "touched": sum(a.touched for a in self.asked),
            "gram": GRAM,
            "long_gram": LONG_GRAM,
            "share_of_grams": GRAMS.value,
            "first": [
                {"file": a.row.file, "row": a.row.line, "how": a.how, "in": a.where, "share": a.share}
                for a in found[:20]
            ],
        }


def asked_of(row: Row, example: Example | None) -> Asked | None:
    """An evaluation row as it is compared; the longest text of one that fits no format; ``None`` for a blank one."""
    if example is not None:
        text = prompt_of(example)
        said = "\n".join(pieces(example)) if text is None else text
    else:
        said = max((value for value in row.data.values() if isinstance(value, str)), key=len, default="")
    text = normal(said)
    return Asked(row, text) if text else None


def nothing_to_compare(label: str) -> DataError:
    """The error for evaluation data without a text."""
    return DataError(f"no row of {label} has a text to compare", fix="check what --against names")
