"""What an engine needs to sample with the policy's own modules; nothing stays changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from tunesmith.scoring import attention
from tunesmith.scoring.scorer import Scorer


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No dropout and no activation checkpointing for a while.

    Not by ``eval()``: layers of bitsandbytes that leave the training mode repack 4-bit weights on a CPU, for good.
    """
    active = [m for m in module.modules() if m.training and not type(m).__module__.startswith("bitsandbytes")]
    for part in active:
        part.training = False
    try:
        yield
    finally:
        for part in active:
            part.training = True


@contextlib.contextmanager
def ready(policy: Scorer) -> Iterator[None]:
    """Everything under which the policy samples: no gradient, no dropout, its precision."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(policy.module))
        if policy.autocast:
            # one context for all steps: it keeps the weights in bf16 until it ends
            stack.enter_context(torch.autocast(policy.device.type, dtype=torch.bfloat16))
        yield


@contextlib.contextmanager
def stock_attention(policy: Scorer) -> Iterator[None]:
    """Run the model for a while with an attention of transformers' own, which needs no layout of ours."""
    model = policy.language_model
    before = model.config._attn_implementation
    if before != attention.NAME:
        yield
        return
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextlib.contextmanager
def plain_forward(policy: Scorer) -> Iterator[nn.Module]:
    """The policy's module, to be called like any model of transformers; both of the above for a while."""
    with ready(policy), stock_attention(policy):
        yield policy.module
