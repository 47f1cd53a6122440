"""A key-value cache of our own, one slot a sequence, for every model whose attention can be replaced.

The policy's modules stay as they are: they call `slot_attention` through transformers' attention interface, which
reads and writes the cache. Prompts run as one stream without padding. In a step all sequences add one token, each at
its own position, so they may be of any length and may come and go.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.scoring import attention
from tunesmith.scoring.layout import Layout, Segment
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators.model import Ids, head_logits

NAME = "tunesmith_slots"
ARGUMENT = "slots"
"""Keyword under which the cache travels through a model's layers to the attention function."""


@dataclass(slots=True)
class Prefix:
    """A prompt that has been run: the logits ``[V]`` after it, and where its keys and values are."""

    logits: Tensor
    stream: dict[int, tuple[Tensor, Tensor]]
    start: int
    length: int


class Slots:
    """Sequences that grow together.

    Args:
        policy: whose modules run.
        width: sequences at most.
        longest: tokens of a sequence at most, prompt included.
    """

    joins = True
    """New sequences may join those that have begun."""
    one_length = False
    """Prompts that run together must be of one length."""

    def __init__(self, policy: Scorer, width: int, longest: int) -> None:
        self.policy, self.width, self.longest = policy, width, longest
        self._caches: dict[int, tuple[Tensor, Tensor]] = {}
        self._lengths: list[int] = []
        self._stream: dict[int, tuple[Tensor, Tensor]] = {}
        self._layout: Layout | None = None
        self._places = torch.zeros(0, dtype=torch.int64)
        self._rows = torch.arange(width, device=policy.device)
        self._steps = torch.arange(longest, device=policy.device)
        self._masks: dict[tuple[int | None, torch.dtype], Tensor | None] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Put our attention into the model for a while."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(NAME, slot_attention)
        model = self.policy.language_model
        before = model.config._attn_implementation
        model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            model.set_attn_implementation(before)
            self.policy.head.release()

    # ------------------------------------------------------------------------------------------ prompts
    def prefill(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """Run prompts, one behind the other."""
        sizes = [len(prompt) for prompt in prompts]
        device = self.policy.device
        ids = torch.from_numpy(np.concatenate(prompts).astype(np.int64)).to(device)[None]
        positions = torch.from_numpy(np.concatenate([np.arange(n) for n in sizes])).to(device)[None]
        none = torch.zeros(0, dtype=torch.int64, device=device)
        self._layout = Layout(ids, positions, [Segment(n) for n in sizes], none, none, none, [0], 0)
        self._stream = {}
        hidden = self._body(ids, positions)[0]
        self._layout = None
        ends = np.cumsum(sizes)
        logits = head_logits(self.policy, hidden[torch.from_numpy(ends - 1).to(device)])
        starts = (ends - sizes).tolist()
        return [Prefix(logits[i], self._stream, starts[i], n) for i, n in enumerate(sizes)]

    def admit(self, prefixes: Sequence[Prefix], counts: Sequence[int]) -> Tensor:
        """Begin ``counts[i]`` sequences with ``prefixes[i]``, after those that are there; their ``[n, V]`` logits."""
        row = len(self._lengths)
        for prefix, count in zip(prefixes, counts, strict=True):
            prompt = slice(prefix.start, prefix.start + prefix.length)
            for layer, streams in prefix.stream.items():
                for cache, stream in zip(self._cache(layer, streams), streams, strict=True):
                    cache[row : row + count, :, : prefix.length] = stream[:, :, prompt]
            self._lengths += [prefix.length] * count
            row += count
        self._places = torch.tensor(self._lengths, device=self.policy.device)
        repeats = torch.tensor(counts, device=self.policy.device)
        return torch.stack([prefix.logits for prefix in prefixes]).repeat_interleave(repeats, 0)

    def _cache(self, layer: int, streams: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if layer not in self._caches:
            keys, values = (
                _zeros((self.width, s.shape[1], self.longest, s.shape[3]), s.dtype, s.device) for s in streams
            )
            self._caches[layer] = (keys, values)
        return self._caches[layer]

    # ------------------------------------------------------------------------------------------ steps
    def step(self, ids: Tensor) -> Tensor:
        """Add ``ids [n]`` to the sequences; the ``[n, V]`` logits after them."""
        self._masks = {}
        hidden = self._body(ids[:, None], self._places[:, None])[:, 0]
        # a sequence that has ended within a stride of steps stays at its last place
        self._places = (self._places + 1).clamp_(max=self.longest - 1)
        self._lengths = [min(n + 1, self.longest - 1) for n in self._lengths]
        return head_logits(self.policy, hidden)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with these sequences only: the new first one is the old ``order[0]``, and so on."""
        moves = [(new, old) for new, old in enumerate(order) if new != old]
        if moves:
            to, come_from = (torch.tensor(side, device=self.policy.device) for side in zip(*moves, strict=True))
            used = max(self._lengths)
            for pair in self._caches.values():
                for cache in pair:
                    cache[to, :, :used] = cache[come_from, :, :used]
        self._lengths = [self._lengths[i] for i in order]
        self._places = torch.tensor(self._lengths, device=self.policy.device)

    def _body(self, ids: Tensor, positions: Tensor) -> Tensor:
        model = self.policy.language_model
        body = getattr(model, model.base_model_prefix)
        output = body(input_ids=ids, position_ids=positions, use_cache=False, **{ARGUMENT: self})
        hidden: Tensor = output.last_hidden_state
        return hidden

    # ------------------------------------------------------------------------------------------ attention
    def attend(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Attention of one layer; shapes as in `tunesmith.scoring.attention.tree_attention`."""
        layer = module.layer_idx
        if self._layout is not None:
            self._stream[layer] = (key, value)
            return attention.tree_attention(
                module, query, key, value, None, scale, window, softcap, **{attention.ARGUMENT: self._layout}
            )[0]
        rows, used = len(query), max(self._lengths) + 1
        keys, values = self._caches[layer]
        keys[self._rows[:rows], :, self._places] = key[:, :, 0]
        values[self._rows[:rows], :, self._places] = value[:, :, 0]
        keys, values = keys[:rows, :, :used], values[:rows, :, :used]
        # heads that share keys are so many queries of one head: there is only one token
        heads = query.reshape(rows, key.shape[1], -1, query.shape[3])
        mask = self._mask(used, window, query.dtype)
        if softcap is None:
            out = F.scaled_dot_product_attention(heads, keys, values, attn_mask=mask, scale=scale)
        else:
            scores = softcap * torch.tanh(heads @ keys.transpose(2, 3) * (scale / softcap))
            scores = scores if mask is None else scores + mask
            out = scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values
        return out.reshape(rows, 1, query.shape[1], values.shape[3])

    def _mask(self, used: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """``[n, 1, 1, used]`` to add to the scores; `None` where every sequence sees all of them."""
        if window is not None and used <= window:
            window = None
        known = (window, dtype)
        if known not in self._masks:
            last, steps = self._places[:, None], self._steps[:used]
            hidden = steps > last
            if window is not None:
                hidden |= steps <= last - window
            even = window is None and min(self._lengths) == used - 1
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
            self._masks[known] = None if even else mask[:, None, None]
        return self._masks[known]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because what is masked is still multiplied, and fresh memory may hold NaN.

    On a CPU of numpy's, which asks the system for zeroed pages: those that no sequence reaches are never touched.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over the cache that the model passed through.

    Raises:
        LookupError: the model did not pass it on; the trial when an engine is opened finds such models.
    """
    slots: Slots | None = kwargs.get(ARGUMENT)
    if slots is None:
        raise LookupError(f"{type(module).__name__} got no {ARGUMENT}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return slots.attend(module, query, key, value, scale, sliding_window, softcap), None
