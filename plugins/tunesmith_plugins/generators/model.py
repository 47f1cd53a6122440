"""The policy as an engine runs it: the head on the last position only, and what it has room for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunesmith import DataError, Sampling
from tunesmith.scoring.sampling import plain_forward
from tunesmith.scoring.scorer import Scorer, logit_scale_of

Ids = npt.NDArray[np.int32]


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


def longest_of(policy: Scorer, prompts: Sequence[Ids], sampling: Sampling) -> int:
    """Tokens of the longest sequence that can come of the prompts.

    Raises:
        DataError: a prompt without tokens, or one that leaves no room for the completion.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise DataError(
            "a prompt has no tokens", why="there is nothing to predict the first token from", fix="drop empty prompts"
        )
    longest = max(map(len, prompts), default=0) + sampling.max_new_tokens
    limit = longest_allowed(policy)
    if limit is not None and prompts and longest > limit:
        raise DataError(
            f"a prompt of {longest - sampling.max_new_tokens} tokens leaves no room for {sampling.max_new_tokens}",
            why=f"the model has {limit} positions (max_position_embeddings)",
            fix="set a smaller max_new_tokens, or leave out longer prompts",
        )
    return longest


def rescored(policy: Scorer, prompt: Ids, ids: Ids, temperature: float) -> npt.NDArray[np.float32]:
    """Log-probabilities of ``ids`` after ``prompt`` as `tunesmith.Sample` wants them, by a forward pass of the policy.

    For engines that report them for the truncated distribution only.
    """
    row = torch.from_numpy(np.concatenate((prompt, ids)).astype(np.int64)).to(policy.device)
    with plain_forward(policy) as module:
        logits = module(input_ids=row[None], use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    logps = (logits / (temperature or 1.0)).log_softmax(-1)
    return logps.gather(1, row[len(prompt) :, None]).squeeze(1).cpu().numpy()


def longest_allowed(policy: Scorer) -> int | None:
    """Tokens that the model has positions for, prompt and completion together; `None` where it has no such limit."""
    config = policy.language_model.config.get_text_config()
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit
