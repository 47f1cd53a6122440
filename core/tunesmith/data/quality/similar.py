"""Near-duplicates by MinHash and banding, in bounded memory.

A text is the set of its windows of eight bytes; the share of equal minima under 64 hash functions estimates the
Jaccard index of two sets, to about 0.05. Texts are compared where four minima in a row are equal, which at an index of
0.8 happens in more than 999 of 1,000 cases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith.data.quality.findings import SIMILAR

WINDOW = 8
FUNCTIONS = 64
ROWS_OF_BAND = 4
SHORTEST = 40
"""Bytes below which a text is compared exactly only: a word more or less is another text."""
LONGEST = 100_000
"""Bytes of a text that are read."""
MOST_WINDOWS = 512
"""Of a longer text those windows count that hash lowest, the same ones in every copy."""
MOST_TEXTS = 200_000
"""Texts that are compared: 256 bytes each."""
CHUNK = 20_000
Indices = npt.NDArray[np.int64]
Minima = npt.NDArray[np.uint32]


class Sketches:
    """The minima of texts, added one by one."""

    def __init__(self) -> None:
        random = np.random.default_rng(20210)
        low, high = 0, 2**32
        self._factors = random.integers(low, high, (FUNCTIONS, 1), dtype=np.uint32) | np.uint32(1)
        self._offsets = random.integers(low, high, (FUNCTIONS, 1), dtype=np.uint32)
        self._minima: list[Minima | None] = []
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._minima)

    def add(self, text: str) -> int:
        """The number that a text gets, or -1 beyond `MOST_TEXTS`."""
        if len(self._minima) >= MOST_TEXTS:
            self.left_out += 1
            return -1
        self._minima.append(self.minima(text))
        return len(self._minima) - 1

    def minima(self, text: str) -> Minima | None:
        """The minima of a text; ``None`` where it is too short to be told from another."""
        raw = " ".join(text[:LONGEST].casefold().split()).encode(errors="surrogatepass")[:LONGEST]
        if len(raw) < SHORTEST:
            return None
        windows = np.ndarray((len(raw) - WINDOW + 1,), np.dtype("<u8"), raw, strides=(1,))
        mixed = windows * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        hashes = ((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)).astype(np.uint32)
        if len(hashes) > MOST_WINDOWS:
            hashes = np.partition(hashes, MOST_WINDOWS)[:MOST_WINDOWS]
            hashes *= np.uint32(0x85EBCA6B)  # what is left is small numbers, whose order every function would keep
            hashes ^= hashes >> np.uint32(13)
        found: Minima = (hashes * self._factors + self._offsets).min(axis=1)
        return found

    def near(self) -> tuple[Indices, Indices]:
        """Numbers of texts that are like an earlier one, ascending, and the numbers of these."""
        known = np.array([i for i, minima in enumerate(self._minima) if minima is not None], dtype=np.int64)
        if len(known) < 2:
            return known[:0], known[:0]
        table = np.stack([minima for minima in self._minima if minima is not None])
        like = np.full(len(known), -1, dtype=np.int64)
        for start in range(0, FUNCTIONS, ROWS_OF_BAND):
            halves = np.ascontiguousarray(table[:, start : start + ROWS_OF_BAND]).view(np.uint64)
            keys = halves[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ halves[:, 1]
            order = np.argsort(keys, kind="stable")
            same = keys[order][1:] == keys[order][:-1]
            begins = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(len(order)), 0))
            # with the first and with the one before: both are earlier, as the sort is stable
            for others in (order[begins[1:]], order[:-1]):
                _mark(table, like, order[1:][same], others[same])
        later = np.flatnonzero(like >= 0)
        return known[later], known[like[later]]


def _mark(table: Minima, like: Indices, ones: Indices, others: Indices) -> None:
    """Note who is like whom among candidates."""
    fresh = like[ones] < 0
    ones, others = ones[fresh], others[fresh]
    for start in range(0, len(ones), CHUNK):
        one, other = ones[start : start + CHUNK], others[start : start + CHUNK]
        close = (table[one] == table[other]).mean(axis=1) >= SIMILAR.value
        like[one[close]] = other[close]
