"""Texts that end a completion, found while it grows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

Stop = Literal["eos", "stop", "length"]

BROKEN = "\ufffd"
"""What a tokenizer puts for bytes that are no whole character."""
SPARE = 4
"""Tokens decoded before the longest possible match, so that what the first ones decode to does not matter."""


class StopStrings:
    """Decides after each token whether one of the texts is complete.

    Args:
        tokenizer: of the policy.
        stops: the texts; none of them empty.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self.tokenizer, self.stops = tokenizer, tuple(stops)
        self._window = SPARE + max((len(stop.encode()) for stop in self.stops), default=0)
        self._ends = frozenset(stop[-1] for stop in self.stops)
        self._may_end: dict[int, bool] = {}

    def ended(self, ids: Sequence[int]) -> bool:
        """True where the last of a completion's tokens completes one of the texts."""
        if not self.stops or not self._candidate(ids[-1]):
            return False
        tail = self._text(ids[-self._window :])
        return any(stop in tail for stop in self.stops)

    def _candidate(self, token: int) -> bool:
        """Whether the token may hold the last character of a text; decoding every tail would take as long as a step."""
        known = self._may_end.get(token)
        if known is None:
            # twice, because some tokenizers drop the space before the first token
            text = self._text([token, token])
            known = self._may_end[token] = BROKEN in text or not self._ends.isdisjoint(text)
        return known

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def cut(ids: Sequence[int], stop_ids: Collection[int], stops: StopStrings) -> tuple[int, Stop]:
    """How many tokens of a completion count, and why it ended, for engines that do not say or go on for too long."""
    for count in range(1, len(ids) + 1):
        if ids[count - 1] in stop_ids:
            return count, "eos"
        if stops.ended(ids[:count]):
            return count, "stop"
    return len(ids), "length"
