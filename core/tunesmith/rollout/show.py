"""A few samples as a table, for people who watch a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)
ROWS = 4
WIDTH = 60


def show_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    """Say the best and the worst answers of a step with their rewards and lengths."""
    scored = sorted((s for s in samples if s["reward"] is not None), key=lambda s: -s["reward"])
    chosen = scored if len(scored) <= ROWS else [*scored[: ROWS // 2], *scored[-ROWS // 2 :]]
    for sample in chosen:
        log.info(
            "sample   reward %6.3f  %4d tokens, %s  %s => %s",
            sample["reward"],
            sample["length"],
            sample["stop"],
            _short(sample["prompt"]),
            _short(sample["completion"]),
        )


def _short(passage: Any) -> str:
    """The end of a text on one line, control characters written out."""
    text = passage if isinstance(passage, str) else str(passage[-1].get("content", "")) if passage else ""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line if len(line) <= WIDTH else f"...{line[3 - WIDTH :]}"
