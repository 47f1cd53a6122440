"""Attention over a packed stream of trees, as one function in transformers' attention interface.

Models stay as they are: they call it with their own queries, keys and values and pass the layout through. A token
attends to its own trunk and to earlier tokens of its own branch, and to nothing else. The CPU runs one fused
attention per root and leaf, CUDA runs flex attention with a block mask of the whole stream.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.scoring.layout import Layout

NAME = "tunesmith_trees"
ARGUMENT = "tree_layout"
"""Keyword under which the layout travels through a model's layers to the attention function."""


def register() -> None:
    """Make the function known to transformers under `NAME`; asking for it twice changes nothing."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, tree_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The layout says what may be attended to; a mask of transformers' would be made for nothing."""


def tree_attention(
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
    """Attend within trees.

    Args:
        module: the attention module; not used.
        query: ``[1, heads, T, d]``.
        key, value: ``[1, kv_heads, T, d]``.
        attention_mask: always ``None`` here.
        scaling: factor on the scores; ``1/sqrt(d)`` when not given.
        sliding_window: a token sees this many tokens at most, itself included.
        softcap: scores are ``softcap * tanh(scores / softcap)``.

    Returns:
        ``[1, T, heads, d]``, and ``None`` for the weights.

    Raises:
        LookupError: the model did not pass the layout on; the probe at load time finds such models.
    """
    layout: Layout | None = kwargs.get(ARGUMENT)
    if layout is None:
        raise LookupError(f"{type(module).__name__} got no {ARGUMENT}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if query.is_cuda:
        return flex(query, key, value, layout, scale, sliding_window, softcap), None
    return segmented(query, key, value, layout, scale, sliding_window, softcap), None


# ---------------------------------------------------------------------------------------------- CPU
def segmented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """One fused attention per root and leaf; shapes as in `tree_attention`."""
    groups = query.shape[1] // key.shape[1]
    if softcap is not None and groups > 1:  # fused attention shares heads by itself
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    # split, not slices: the backward of a slice allocates the whole stream again
    sizes = layout.sizes
    q, k, v = (torch.split(stream, sizes, 2) for stream in (query, key, value))
    outputs: list[Tensor] = []
    i = 0
    for segment in layout.segments:
        root, length = i, segment.length
        if length:
            outputs.append(_attend(q[i], k[i], v[i], layout, 0, length, scale, window, softcap))
        i += 1
        for size in segment.leaves:
            keys, values = torch.cat((k[root], k[i]), 2), torch.cat((v[root], v[i]), 2)
            outputs.append(_attend(q[i], keys, values, layout, length, size, scale, window, softcap))
            i += 1
    return torch.cat(outputs, 2).transpose(1, 2)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    before: int,
    size: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """``size`` queries over ``before`` earlier tokens and themselves."""
    windowed = window is not None and before + size > window
    shared = q.shape[1] != k.shape[1]
    if softcap is None and not before and not windowed:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=shared)
    mask = _mask(layout, before, size, window if windowed else None, q.device)
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=shared)
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scale / softcap))
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32)
    return weights.to(q.dtype) @ v


def _mask(layout: Layout, before: int, size: int, window: int | None, device: torch.device) -> Tensor:
    """``[size, before + size]`` bool, True where a query may look; kept with the layout."""
    known = (before, size, window)
    if known not in layout.masks:
        mask = torch.ones(size, before + size, dtype=torch.bool, device=device).tril_(before)
        layout.masks[known] = mask if window is None else mask.triu_(before - window + 1)
    return cast(Tensor, layout.masks[known])


# ---------------------------------------------------------------------------------------------- CUDA
def flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Flex attention with a block mask of the whole stream; shapes as in `tree_attention`."""
    from torch.nn.attention.flex_attention import flex_attention

    def cap(score: Tensor, *_: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    attend = _compiled() if query.is_cuda else flex_attention
    output = attend(
        query,
        key,
        value,
        score_mod=None if softcap is None else cap,
        block_mask=_block_mask(layout, window, query.device),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return cast(Tensor, output).transpose(1, 2)


_COMPILED: list[Any] = []


def _compiled() -> Any:
    """Flex attention is only fast, and only has a backward, when compiled; once for all lengths."""
    if not _COMPILED:
        from torch.nn.attention.flex_attention import flex_attention

        _COMPILED.append(torch.compile(flex_attention, dynamic=True))
    return _COMPILED[0]


def _block_mask(layout: Layout, window: int | None, device: torch.device) -> object:
    known = ("flex", window)
    if known not in layout.masks:
        from torch.nn.attention.flex_attention import create_block_mask

        tree, leaf = _membership(layout, device)
        position = layout.position_ids[0]

        def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            near = (tree[q] == tree[k]) & (q >= k) & ((leaf[k] == 0) | (leaf[k] == leaf[q]))
            return near if window is None else near & (position[q] - position[k] < window)

        total = layout.input_ids.shape[1]
        layout.masks[known] = create_block_mask(visible, None, None, total, total, device=str(device))
    return layout.masks[known]


def _membership(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """``[T]`` each: the tree of a token, and its leaf within the tree (0 for the root)."""
    sizes = torch.tensor(layout.sizes)
    parts = [(tree, leaf) for tree, s in enumerate(layout.segments) for leaf in range(1 + len(s.leaves))]
    trees, leaves = torch.tensor(parts).T
    return trees.repeat_interleave(sizes).to(device), leaves.repeat_interleave(sizes).to(device)
