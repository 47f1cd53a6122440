"""transformers' own cache, for models whose attention cannot be replaced, or that have none.

`LeftPadded` runs prompts of different length together, for models that leave padding on the left out of account.
`Cached` is exact for all others too, recurrent ones for instance: what grows together has prompts of one length.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.scoring.sampling import stock_attention
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators.model import Ids

WORTH_COPYING = 7 / 8
"""Rows are dropped from the cache, which copies it, when at most this share of them still grows."""
CACHE_NAMES = ("past_key_values", "cache_params")
"""What models call their cache, as argument and in their output."""


@dataclass(slots=True)
class Prefix:
    """A prompt that has been run: the logits ``[V]`` after it, and its row in a cache."""

    logits: Tensor
    cache: Any
    row: int
    length: int
    mask: Tensor
    """``[longest prompt]`` int64, 0 where there is padding."""


class Cached:
    """Sequences that grow together; the same methods as `Slots`."""

    joins = False
    one_length = True
    """Prompts that run together must be of one length."""

    def __init__(self, policy: Scorer, width: int, longest: int) -> None:
        self.policy, self.width, self.longest = policy, width, longest
        self._cache: Any = None
        self._mask: Tensor | None = None
        self._live: list[int] = []
        self._rows = 0
        accepted = inspect.signature(policy.language_model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._takes_positions = "position_ids" in accepted
        self._name = next((name for name in CACHE_NAMES if name in accepted), CACHE_NAMES[0])

    def running(self) -> contextlib.AbstractContextManager[None]:
        """The model runs as it is, but for an attention that needs a layout."""
        return stock_attention(self.policy)

    def prefill(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """Run prompts of one length."""
        ids = torch.from_numpy(np.stack(prompts).astype(np.int64)).to(self.policy.device)
        return self._prefixes(prompts, *self._run(ids, None), torch.ones_like(ids))

    def _prefixes(self, prompts: Sequence[Ids], logits: Tensor, cache: Any, mask: Tensor) -> list[Prefix]:
        return [Prefix(logits[i], cache, i, len(prompt), mask[i]) for i, prompt in enumerate(prompts)]

    def admit(self, prefixes: Sequence[Prefix], counts: Sequence[int]) -> Tensor:
        """Begin ``counts[i]`` sequences with ``prefixes[i]``, all from one `prefill`; their ``[n, V]`` logits."""
        repeats = torch.tensor(counts, device=self.policy.device)
        rows = torch.tensor([prefix.row for prefix in prefixes], device=self.policy.device).repeat_interleave(repeats)
        self._cache = copy.deepcopy(prefixes[0].cache)
        self._cache.reorder_cache(rows)
        self._rows, self._live = len(rows), list(range(len(rows)))
        return torch.stack([prefix.logits for prefix in prefixes]).repeat_interleave(repeats, 0)

    def step(self, ids: Tensor) -> Tensor:
        """Add ``ids [n]`` to the sequences; the ``[n, V]`` logits after them."""
        if self._mask is not None:
            self._mask = F.pad(self._mask, (0, 1), value=1)
        if len(self._live) == self._rows:
            logits, self._cache = self._run(ids[:, None], self._cache, self._mask)
            return logits
        live = torch.tensor(self._live, device=ids.device)
        every = ids.new_zeros(self._rows).index_copy_(0, live, ids)
        logits, self._cache = self._run(every[:, None], self._cache, self._mask)
        return logits[live]

    def keep(self, order: Sequence[int]) -> None:
        """Go on with these sequences only: the new first one is the old ``order[0]``, and so on."""
        self._live = [self._live[i] for i in order]
        if not self._live:
            self._cache = None
        elif len(self._live) <= WORTH_COPYING * self._rows:
            live = torch.tensor(self._live, device=self.policy.device)
            self._cache.reorder_cache(live)
            self._mask = None if self._mask is None else self._mask[live]
            self._rows, self._live = len(order), list(range(len(order)))

    def _run(self, ids: Tensor, cache: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """``[rows, V]`` logits after ``ids [rows, n]``, and the cache.

        ``mask [rows, all so far]`` is given where there is padding.
        """
        given = {} if cache is None else {self._name: cache}
        if mask is not None:
            given["attention_mask"] = mask
            if self._takes_positions:
                given["position_ids"] = (mask.cumsum(1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
        output = self.policy.module(input_ids=ids, use_cache=True, **given, **self._last_only)
        return output.logits[:, -1].float(), getattr(output, self._name)


class LeftPadded(Cached):
    """Prompts of different length in one batch, padded on the left."""

    one_length = False

    def prefill(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """Run prompts."""
        longest = max(map(len, prompts))
        rows = [np.pad(prompt, (longest - len(prompt), 0), constant_values=self.policy.pad_id) for prompt in prompts]
        masks = [np.arange(longest) >= longest - len(prompt) for prompt in prompts]
        ids, mask = (torch.from_numpy(np.stack(x).astype(np.int64)).to(self.policy.device) for x in (rows, masks))
        return self._prefixes(prompts, *self._run(ids, None, mask), mask)

    def admit(self, prefixes: Sequence[Prefix], counts: Sequence[int]) -> Tensor:
        """See `Cached.admit`."""
        repeats = torch.tensor(counts, device=self.policy.device)
        self._mask = torch.stack([prefix.mask for prefix in prefixes]).repeat_interleave(repeats, 0)
        return super().admit(prefixes, counts)
