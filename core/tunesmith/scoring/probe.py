"""Which path is exact for a model: found by comparing each with the stock forward, never by the model's name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.scoring import attention
from tunesmith.scoring.scorer import Path, Scorer, base_of, without_dropout
from tunesmith.scoring.scores import ScoreScorer

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}
"""Largest difference of log-probabilities that rounding explains; crossing a document border moves them by more."""
FALLBACK_ORDER: tuple[Path, ...] = ("packed", "padded")
LONGEST_PROBE = 512
_allowed: ContextVar[tuple[Path, ...]] = ContextVar("allowed", default=FALLBACK_ORDER)


def choose(scorer: Scorer) -> None:
    """Set the scorer's path to the fastest exact one; `Scorer.why` says what the faster ones failed on."""
    model = scorer.language_model
    stock_attention = model.config._attn_implementation
    batch = probe_batch(model)
    autocast, scorer.autocast = scorer.autocast, False
    tolerance = TOLERANCE.get(next(scorer.module.parameters()).dtype, 1e-3)
    reasons = []
    with torch.no_grad(), without_dropout(scorer.module):
        scorer.path = "stock"
        wanted = _stock(scorer, batch)
        for path in _allowed.get():
            problem = _try(scorer, path, batch, wanted, tolerance)
            if problem is None:
                break
            reasons.append(f"{path}: {problem}")
            scorer.path = "stock"
            model.set_attn_implementation(stock_attention)
    scorer.autocast, scorer.why = autocast, "; ".join(reasons)


@contextlib.contextmanager
def only(*paths: Path) -> Iterator[None]:
    """For a while no other faster paths are chosen; without any, the model's own forward is used."""
    token = _allowed.set(paths)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextlib.contextmanager
def scoring(scorer: Scorer) -> Iterator[None]:
    """Score by the fastest exact path for a while; afterwards the model may be changed, and `choose` is asked again."""
    model, path, why = scorer.language_model, scorer.path, scorer.why
    stock_attention = model.config._attn_implementation
    choose(scorer)
    try:
        yield
    finally:
        scorer.path, scorer.why = path, why
        model.set_attn_implementation(stock_attention)


def probe_batch(model: nn.Module) -> Batch:
    """Trees of random tokens: one branch, several branches, and one longer than a sliding window."""
    config = base_of(model).config.get_text_config()
    random = np.random.default_rng(0)
    window = getattr(config, "sliding_window", None) or 0
    limit = getattr(config, "max_position_embeddings", LONGEST_PROBE) or LONGEST_PROBE
    long = min(max(24, window + 8 if window + 8 <= LONGEST_PROBE else 24), limit)

    pad = getattr(config, "pad_token_id", None)

    def trunk(size: int) -> Any:
        ids = random.integers(0, config.vocab_size, size, dtype=np.int32)
        if pad is not None:  # transformers reads a score at the last token that is not this one
            ids[ids == pad] = (pad + 1) % config.vocab_size
        return ids

    def branch(size: int) -> Branch:
        return Branch(trunk(size), np.ones(size, dtype=np.bool_))

    return Batch(
        [
            Tree(trunk(0), (branch(long),)),
            Tree(trunk(min(5, long - 6)), (branch(4), branch(6), branch(1))),
            Tree(trunk(3), (branch(7),)),
        ]
    )


def _stock(scorer: Scorer, batch: Batch) -> Tensor:
    """The stock forward on every branch alone: no padding, no neighbours."""
    if isinstance(scorer, ScoreScorer):
        return scorer.stock_scores(batch)
    parts = [Batch([Tree(tree.trunk, (branch,))]) for tree in batch.trees for branch in tree.branches]
    return torch.cat([scorer.token_logps(part).logps for part in parts])


def _try(scorer: Scorer, path: Path, batch: Batch, wanted: Tensor, tolerance: float) -> str | None:
    """Why a path is not exact for this model, or ``None``."""
    model = scorer.language_model
    if not isinstance(scorer, ScoreScorer) and type(model.get_output_embeddings()) is not nn.Linear:
        return f"its head is a {type(model.get_output_embeddings()).__name__}, not a plain linear map"
    if path == "packed":
        attention.register()
        model.set_attn_implementation(attention.NAME)
        if model.config._attn_implementation != attention.NAME:
            return "its attention cannot be replaced"
    scorer.path = path
    try:
        found = scorer.scores(batch) if isinstance(scorer, ScoreScorer) else scorer.token_logps(batch).logps
    except LookupError as error:
        return str(error)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    difference = (found - wanted).abs().max().item()
    if not difference <= tolerance:
        return f"log-probabilities differ by {difference:.1e} from the stock forward (at most {tolerance:.0e})"
    return None
