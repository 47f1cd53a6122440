"""What was said so far to one model, and its next answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.chat.speaker import Speaker, Spoken
from tunesmith.components import Sampling
from tunesmith.errors import ConfigError
from tunesmith.rollout.collect import seed_of


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has ended.

    Attributes:
        text: as the model wrote it, without the token that ends it.
        tokens: drawn, with that token.
        stop: ``eos``; ``length``: cut off; ``interrupted``: somebody stopped it.
        seconds: that it took.
    """

    text: str
    tokens: int
    stop: Literal["eos", "length", "interrupted"]
    seconds: float


class Conversation:
    """Turns with one model. Without a chat template every prompt stands alone, and the model goes on from its text.

    Args:
        speaker: the model.
        sampling: how it draws.
        seed: of the draws; the same words in the same turn get the same answer.
        system: what the conversation begins with.

    Raises:
        ConfigError: a system message for a model without a chat template.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, seed: int, system: str | None = None) -> None:
        if system is not None and not speaker.chats:
            raise ConfigError(
                f"{speaker.name} has no chat template, so nothing says where a system message goes",
                fix="leave --system out, or add --chat-template tulu",
            )
        self.speaker, self.sampling, self.seed, self.system = speaker, sampling, seed, system
        self.turns: list[dict[str, Any]] = []
        self.answer: Answer | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all turns."""
        self.turns = [] if self.system is None else [{"role": "system", "content": self.system}]
        self.answer = None

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces, as they come; afterwards ``answer`` has the whole of it.

        One that is closed early counts as far as it got. Raises `DataError` before the first piece, see
        `Speaker.prompt`; then nothing was said.
        """
        said = [*self.turns, {"role": "user", "content": text}]
        ids = self.speaker.prompt(said if self.speaker.chats else text)
        return self._pieces(said, ids)

    def _pieces(self, said: Sequence[dict[str, Any]], ids: Sequence[int]) -> Iterator[str]:
        started, pieces, spoken = time.monotonic(), list[str](), Spoken(self.speaker.encoder.tokenizer)
        stop: Literal["eos", "length", "interrupted"] = "interrupted"
        tokens = self.speaker.tokens(ids, self.sampling, seed_of(self.seed, "chat", len(said)))
        try:
            with contextlib.closing(tokens):  # type: ignore[type-var]  # what is closed is a generator
                for token in tokens:
                    ends = token in self.speaker.encoder.stop_ids
                    piece = spoken.add(token)
                    if piece:
                        pieces.append(piece)
                        yield piece
                    if ends:
                        stop = "eos"
            if stop != "eos":
                stop = "length"
        finally:
            rest = spoken.rest()
            whole = "".join(pieces) + rest
            self.answer = Answer(whole, len(spoken.ids), stop, time.monotonic() - started)
            if self.speaker.chats:
                self.turns = [*said, {"role": "assistant", "content": whole}]
        if rest:
            yield rest
