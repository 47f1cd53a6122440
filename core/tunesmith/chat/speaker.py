"""A model that answers, one token at a time."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.components import Sampling
from tunesmith.data.encoding import Encoder, load_tokenizer
from tunesmith.errors import ConfigError, DataError
from tunesmith.examples import Prompt
from tunesmith.models.folders import Found, find_model, refuse_scores
from tunesmith.models.loading import load_policy, pick_device, pick_dtype, quiet_transformers
from tunesmith.runner.card import lineage_of
from tunesmith.settings import RunSettings

BASE = "base"
"""In place of a model: what the model beside it was trained from."""
CACHES = ("past_key_values", "cache_params")
"""What models call their cache, as argument and in their output."""
PARTIAL = "\ufffd"
"""What tokenizers put for the bytes of a character that is not whole yet."""


@dataclass(slots=True)
class Speaker:
    """A loaded model.

    Attributes:
        name: folder or hub name, and what it is called on the terminal.
        module: of transformers.
        encoder: with its tokenizer.
        autocast: compute in bf16.
        adapter_off: compute with the base alone.
    """

    name: str
    module: Any
    encoder: Encoder
    autocast: bool = False
    adapter_off: bool = False

    @property
    def chats(self) -> bool:
        """True where a chat template says how conversations are written."""
        return bool(self.encoder.tokenizer.chat_template)

    def prompt(self, prompt: str | Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a text or of a conversation that the model is to answer.

        Raises:
            DataError: nothing to go on from, a template that refuses the messages, or no position left for an answer.
        """
        try:
            ids = [int(i) for i in self.encoder.prompt(Prompt(prompt, {})).trunk]
        except ValueError as error:
            raise DataError(f"{self.name} cannot be asked this", why=str(error)) from None
        if not ids:
            raise DataError("the prompt is empty, and this tokenizer puts nothing in front of a text")
        most = self.positions
        if most is not None and len(ids) >= most:
            raise DataError(
                f"{len(ids):,} tokens so far are too many for {self.name}, which has {most:,} positions",
                fix="begin anew (/reset), or ask something shorter",
            )
        return ids

    @property
    def positions(self) -> int | None:
        """Tokens of a text at most, where the config says it."""
        most = getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
        return None if most is None else int(most)

    def tokens(self, ids: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
        """Tokens after ``ids``, each as soon as it is drawn; the one that ends the answer is the last.

        The same ids, sampling and seed give the same tokens.
        """
        room = (self.positions or len(ids) + sampling.max_new_tokens) - len(ids)
        chance = torch.Generator().manual_seed(seed)
        device = next(self.module.parameters()).device
        new, cache = torch.tensor([list(ids)], device=device), None
        for _ in range(min(sampling.max_new_tokens, room)):
            logits, cache = self._forward(new, cache)
            token = draw(logits.float().cpu(), sampling, chance)
            yield token
            if token in self.encoder.stop_ids:
                return
            new = torch.tensor([[token]], device=device)

    def _forward(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """``[V]`` logits after ``ids [1, n]``, and the cache of all so far."""
        accepted = inspect.signature(self.module.forward).parameters
        name = next((name for name in CACHES if name in accepted), CACHES[0])
        given: dict[str, Any] = {} if cache is None else {name: cache}
        if "logits_to_keep" in accepted:
            given["logits_to_keep"] = 1
        with self._state():
            output = self.module(input_ids=ids, use_cache=True, **given)
        return output.logits[0, -1], getattr(output, name)

    @contextlib.contextmanager
    def _state(self) -> Iterator[None]:
        """Two speakers may share a module: the adapter is off for one forward pass of the one and no longer."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.autocast:
                device = next(self.module.parameters()).device.type
                stack.enter_context(torch.autocast(device, dtype=torch.bfloat16))
            if self.adapter_off:
                self.module.disable_adapters()
                stack.callback(self.module.enable_adapters)
            yield


def draw(logits: Tensor, sampling: Sampling, chance: torch.Generator) -> int:
    """One token of ``logits [V]``; at temperature 0 the most probable one."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    p = (logits.double() / sampling.temperature).softmax(0)
    ranked, order = p.sort(descending=True)
    reached = ranked.cumsum(0)
    kept = ranked.masked_fill(reached - ranked >= sampling.top_p, 0.0)
    upto = kept.cumsum(0)
    aim = torch.rand((), generator=chance, dtype=torch.float64) * upto[-1]
    place = torch.searchsorted(upto, aim, right=True).clamp(max=int(kept.count_nonzero()) - 1)
    return int(order[place])


class Spoken:
    """Tokens as text while they come: a character is given when all of its bytes are there."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.ids: list[int] = []
        self._start = self._done = 0

    def add(self, token: int) -> str:
        """What the token adds to the text."""
        self.ids.append(token)
        new = self._new()
        if not new or new.endswith(PARTIAL):
            return ""
        self._start, self._done = self._done, len(self.ids)
        return new

    def rest(self) -> str:
        """What the tokens at the end add that make no whole character."""
        new = self._new()
        self._start = self._done = len(self.ids)
        return new

    def _new(self) -> str:
        """Decoded behind the tokens before, as some tokenizers drop the space of a first token."""
        before = self._text(self.ids[self._start : self._done])
        return self._text(self.ids[self._start :])[len(before) :]

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


# ---------------------------------------------------------------------------------------------- loading
def load_speakers(model: str, before: str | None, settings: Mapping[str, Any]) -> list[Speaker]:
    """The model, or what it is compared with and then the model.

    Args:
        model: folder of a model, an adapter or a run, or a hub name.
        before: another one; `BASE` for what the model was trained from. An adapter shares its base with that.
        settings: of both: device, dtype, chat_template, tokenizer, trust_remote_code.

    Raises:
        ConfigError: a model that writes no text, or one whose base nobody knows.
        ResourceError: there is no such model.
    """
    quiet_transformers()
    trust = bool(settings.get("trust_remote_code", False))
    found = find_model(model, trust_remote_code=trust)
    refuse_scores(found)
    if before is None:
        return [_load(found, settings)]
    if before == BASE and found.base is not None:
        own = _load(found, settings)
        off = Speaker(f"{found.base} (adapter off)", own.module, own.encoder, own.autocast, adapter_off=True)
        return [off, own]
    other = find_model(_made_from(found) if before == BASE else before, trust_remote_code=trust)
    refuse_scores(other)
    return [_load(other, settings), _load(found, settings)]


def _made_from(found: Found) -> str:
    lineage = lineage_of(found.name)
    base = str(lineage[-1]["model"]) if lineage else ""
    if not base or base.endswith(".json"):
        raise ConfigError(
            f"what {found.name} was trained from is not known"
            if not base
            else f"{found.name} was trained from nothing",
            why=None if base else "it is no adapter, and no tunesmith.json lies beside it",
            fix="name the other model: --before MODEL",
        )
    return base


def _load(found: Found, settings: Mapping[str, Any]) -> Speaker:
    run = RunSettings.model_construct(model=found.name, data=(), **settings)  # no rows are read here
    tokenizer = load_tokenizer(run)
    device = pick_device(run)
    dtype = pick_dtype(run, device)
    module = load_policy(run, tokenizer, device, dtype).eval().requires_grad_(False)
    return Speaker(found.name, module, Encoder(tokenizer), dtype == torch.bfloat16)
