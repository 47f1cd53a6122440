"""What the loss head holds: logits of a few rows at a time, as `tunesmith.scoring.head` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.components import Texts
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup
from tunesmith.scoring.head import CHUNK_BYTES, CHUNK_BYTES_GPU

FP32 = 4


@dataclass(frozen=True, slots=True)
class HeadMemory:
    """Bytes.

    Attributes:
        kept: the buffer of logits, which stays when the head is done.
        working: beside it, while the head computes: copies in another precision, sums over the vocabulary.
        chunk: the trees whose objective is evaluated together.
    """

    kept: int
    working: int
    chunk: tuple[Texts, ...]


def rows_of(vocabulary: int, *, cpu: bool) -> int:
    """Rows of logits in a chunk; see `tunesmith.scoring.head.Head.rows`."""
    return max(16, (CHUNK_BYTES if cpu else CHUNK_BYTES_GPU) // (FP32 * vocabulary))


def head_memory(
    blueprint: Blueprint, setup: Setup, part: Sequence[Texts], *, cpu: bool, gradient: bool, detailed: bool = True
) -> HeadMemory:
    """Of the chunks of a part.

    Args:
        gradient: it is trained through.
        detailed: entropies are noted; see ``log_every``.
    """
    if setup.score:
        return HeadMemory(0, 0, tuple(part))
    vocabulary, width = blueprint.vocabulary, blueprint.hidden
    limit = rows_of(vocabulary, cpu=cpu)
    chunk = _largest_chunk(part, limit)
    most = sum(texts.scored for texts in (chunk if gradient else part))
    rows = min(limit, most)
    kept = FP32 * vocabulary * max(rows, min(limit, 2 * rows))
    working = FP32 * vocabulary * rows if gradient and detailed else 0
    if setup.autocast:
        products = 2 * vocabulary * rows + (2 * vocabulary * width if gradient and not setup.adapter else 0)
        copy = 2 * vocabulary * width if setup.weight_dtype.itemsize == FP32 or setup.quantize != "none" else 0
        working = max(working, products) + copy
    return HeadMemory(kept, working, tuple(chunk))


def _largest_chunk(part: Sequence[Texts], limit: int) -> list[Texts]:
    """Consecutive trees of at most ``limit`` scored tokens together; a larger one is alone."""
    chunks: list[list[Texts]] = []
    for texts in part:
        if chunks and sum(t.scored for t in chunks[-1]) + texts.scored <= limit:
            chunks[-1].append(texts)
        else:
            chunks.append([texts])
    return max(chunks, key=lambda chunk: sum(texts.scored for texts in chunk))
