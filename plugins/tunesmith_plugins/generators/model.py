"""The policy as an engine runs it: in evaluation mode, and the head on the last position only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tunesmith.scoring.scorer import Scorer, logit_scale_of


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


def head_logits(policy: Scorer, hidden: Tensor) -> Tensor:
    """``[n, V]`` fp32 logits of ``hidden [n, H]``, as the scorer's own head makes them."""
    head, scale = policy.head, logit_scale_of(policy.language_model)
    if scale != 1.0:
        hidden = hidden * scale
    with torch.autocast(hidden.device.type, enabled=False) if policy.autocast else contextlib.nullcontext():
        logits = (hidden @ head.weight_as(hidden.dtype).t()).float()
    if head.linear.bias is not None:
        logits.add_(head.linear.bias.detach())
    if head.softcap:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


def longest_allowed(policy: Scorer) -> int | None:
    """Tokens that the model has positions for, prompt and completion together; `None` where it has no such limit."""
    config = policy.language_model.config.get_text_config()
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit
