"""Learn new pieces by going on with byte-pair encoding where a tokenizer's own merges stopped.

Byte-pair encoding (Sennrich et al., arXiv:1508.07909) joins the most frequent pair of neighbours again and again. Here
the words are already cut into the old pieces, so every new merge joins pieces that exist and comes after all old
merges. No pair is joined whose result exists already, so a new piece is made by one merge, only later merges use it,
and encoding a text with all merges is the same as encoding it with the old ones and then applying the new ones in
their order. A text in which no new piece stands is encoded as before.

A tokenizer that falls back to bytes also lacks whole characters. Such a character is a piece without a merge. Pairs
and characters compete by the tokens that they save.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

Word = tuple[str, ...]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A new piece.

    Attributes:
        text: as it stands in the vocabulary.
        parts: the two pieces that its merge joins; ``None`` for a character, which needs no merge.
        saved: tokens that it saved in the words it was learned from, when it was learned.
    """

    text: str
    parts: Pair | None
    saved: int


def pairs_of(words: Mapping[Word, int]) -> Counter[Pair]:
    """How often two pieces stand side by side."""
    counts: Counter[Pair] = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return counts


class Learner:
    """Joins pieces of words.

    Args:
        words: old pieces of every word, and how often it occurs.
        taken: every token that exists; none of them becomes a piece again.
        missing: characters in ``words`` that are no pieces yet, and the tokens that each takes now.
        allowed: says whether a text may become a piece.
        kept: pairs that are never joined: neighbours in a text whose tokens must stay as they are.
        least: how often a pair must occur.
    """

    def __init__(
        self,
        words: Mapping[Word, int],
        *,
        taken: Collection[str],
        missing: Mapping[str, int] | None = None,
        allowed: Callable[[str], bool] = lambda text: True,
        kept: Collection[Pair] = (),
        least: int = 2,
    ) -> None:
        self.words = [list(word) for word in words]
        self.times = list(words.values())
        self.taken, self.allowed, self.kept, self.least = set(taken), allowed, kept, least
        self.missing = dict(missing or {})
        self.counts: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        self.waiting: defaultdict[str, list[Pair]] = defaultdict(list)
        self.refused: set[Pair] = set()
        for index in range(len(self.words)):
            self._count(index, 1)
        self.heap: list[tuple[int, int, Word]] = [(-count, 1, pair) for pair, count in self.counts.items()]
        self.heap += [(-gain, 0, (char,)) for char, gain in self._characters()]
        heapq.heapify(self.heap)

    def learn(self, number: int) -> list[Piece]:
        """At most ``number`` pieces, in the order in which they must be merged; fewer when nothing frequent is left."""
        found: list[Piece] = []
        while len(found) < number and (piece := self._next()) is not None:
            found.append(piece)
        return found

    def _characters(self) -> Iterator[tuple[str, int]]:
        """Missing characters that save tokens, and how many."""
        seen: Counter[str] = Counter()
        for word, times in zip(self.words, self.times, strict=True):
            for symbol in word:
                if symbol in self.missing:
                    seen[symbol] += times
        for char, count in sorted(seen.items()):
            gain = count * (self.missing[char] - 1)
            if count >= self.least and gain and char not in self.taken and self.allowed(char):
                yield char, gain

    def _next(self) -> Piece | None:
        while self.heap:
            gain, _, symbols = heapq.heappop(self.heap)
            if len(symbols) == 1:
                return self._unlock(symbols[0], -gain)
            pair = (symbols[0], symbols[1])
            count = self.counts[pair]
            if count < self.least or not self._may_join(pair):
                continue
            if count == -gain:
                self._join(pair)
                return Piece("".join(pair), pair, count)
            heapq.heappush(self.heap, (-count, 1, pair))  # it was counted higher before another pair took some of it
        return None

    def _may_join(self, pair: Pair) -> bool:
        locked = next((part for part in pair if part in self.missing), None)
        if locked is not None:
            self.waiting[locked].append(pair)
            return False
        if pair in self.refused:
            return False
        text = "".join(pair)
        if pair in self.kept or text in self.taken or not self.allowed(text):
            self.refused.add(pair)
            return False
        return True

    def _unlock(self, char: str, gain: int) -> Piece:
        """Make a missing character a piece; pairs that waited for it may now be joined."""
        del self.missing[char]
        self.taken.add(char)
        for pair in self.waiting.pop(char, ()):
            heapq.heappush(self.heap, (-self.counts[pair], 1, pair))
        return Piece(char, None, gain)

    def _join(self, pair: Pair) -> None:
        text = "".join(pair)
        self.taken.add(text)
        grown: set[Pair] = set()
        for index in sorted(self.places[pair]):
            self._count(index, -1)
            self.words[index] = joined(self.words[index], pair)
            self._count(index, 1)
            word = self.words[index]
            grown.update(near for near in pairwise(word) if text in near)
        for near in grown:
            heapq.heappush(self.heap, (-self.counts[near], 1, near))

    def _count(self, index: int, sign: int) -> None:
        word, times = self.words[index], self.times[index]
        for pair in pairwise(word):
            self.counts[pair] += sign * times
            if sign > 0:
                self.places[pair].add(index)
            else:
                self.places[pair].discard(index)


def joined(word: list[str], pair: Pair) -> list[str]:
    """The word with every occurrence of the pair joined, from left to right."""
    out: list[str] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out
