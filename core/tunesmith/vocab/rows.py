"""Give a model rows for new tokens: input embeddings, and the output head where it has a matrix of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.errors import ConfigError
from tunesmith.models.expanded import mark_expanded
from tunesmith.scoring.scorer import softcap_of
from tunesmith.vocab import initialise

Initialiser = Literal["subtoken-mean", "global-mean", "frequency-weighted", "random"]
Norm = Literal["auto", "keep", "median"]
DEFAULT_STD = 0.02


@dataclass(frozen=True, slots=True)
class Start:
    """How new rows start.

    Attributes:
        initialiser: see `tunesmith.vocab.initialise`.
        norm: ``median`` raises rows that averaging has shrunk to the median norm of the old ones, ``keep`` does not;
            ``auto`` raises the input rows of a model whose head is a matrix of its own.
        noise: share of the covariance that is added to global means.
        pad_to: the number of rows is made a multiple of this.
        seed: of random rows and noise.
    """

    initialiser: Initialiser = "subtoken-mean"
    norm: Norm = "auto"
    noise: float = 0.0
    pad_to: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Grown:
    """What became of a model.

    Attributes:
        first: id of the first new piece.
        pieces: new pieces.
        rows_before, rows: of the embeddings, padding included.
        tied: True where the head is the input matrix.
        bound: nats by which the log of the sum of exponentials can grow at most; ``None`` where nothing is known.
        why_no_bound: why nothing is known.
    """

    first: int
    pieces: int
    rows_before: int
    rows: int
    tied: bool
    bound: float | None
    why_no_bound: str = ""


@torch.no_grad()
def grow(
    model: Any, first: int, made_of: Sequence[Sequence[int]], start: Start, counts: Mapping[int, int] | None = None
) -> Grown:
    """Give every new piece a row; change the model in place. Old rows stay as they are, to the bit.

    Args:
        model: a causal language model of transformers.
        first: number of tokens before; the new pieces are ``first``, ``first + 1``, ...
        made_of: for each new piece, the old ids that its text is cut into.
        start: how the rows start.
        counts: how often each old token occurs in the text that the pieces come from.

    Raises:
        ConfigError: the model has no embeddings that can be resized.
    """
    before, tied = _matrices(model)
    needed = first + len(made_of)
    rows = max(before, -(-needed // start.pad_to) * start.pad_to)
    if rows != before:
        model.resize_token_embeddings(rows, mean_resizing=False)
    if _matrices(model) != (rows, tied):
        raise ConfigError(
            f"the {type(model).__name__} cannot be given more rows",
            why="its head and embeddings would not stay as they are to each other, tied or not",
            fix="see tie_word_embeddings in its config.json: it must say what the weights are",
        )
    weights = _weights(start, made_of, counts or {}, first)
    generator = torch.Generator().manual_seed(start.seed)
    several = torch.tensor([len(ids) > 1 for ids in made_of])
    std = getattr(model.config.get_text_config(), "initializer_range", DEFAULT_STD) or DEFAULT_STD
    head = model.get_output_embeddings()
    parts = [(model.get_input_embeddings().weight, start.norm == "median" or (start.norm == "auto" and not tied))]
    parts += [] if tied else [(head.weight, start.norm == "median")]
    for matrix, raised in parts:
        _fill(
            matrix,
            first,
            len(made_of),
            max(before, needed),
            start,
            weights,
            several if raised else None,
            std,
            generator,
        )
    if getattr(head, "bias", None) is not None:
        _fill(head.bias[:, None], first, len(made_of), max(before, needed), start, weights, None, 0.0, generator)
    mark_expanded(model.config, first, len(made_of))
    bound, why = _bound(model, start, weights, rows - max(before, needed), first, len(made_of))
    return Grown(first, len(made_of), before, rows, tied, bound, why)


def _matrices(model: Any) -> tuple[int, bool]:
    """Rows of the embeddings, and whether the head is the same matrix."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embeddings, nn.Embedding) or not isinstance(head, nn.Linear):
        raise ConfigError(f"a {type(model).__name__} has no plain embeddings and head, so its vocabulary cannot grow")
    rows = embeddings.weight.shape[0]
    return (rows if head.weight.shape[0] == rows else -1), head.weight is embeddings.weight


def _weights(start: Start, made_of: Sequence[Sequence[int]], counts: Mapping[int, int], num_old: int) -> Tensor | None:
    if start.initialiser == "subtoken-mean":
        return initialise.subtoken_mean(made_of, num_old)
    if start.initialiser == "frequency-weighted":
        return initialise.frequency_weighted(made_of, counts, num_old)
    return None


def _fill(
    matrix: Tensor,
    first: int,
    pieces: int,
    padding: int,
    start: Start,
    weights: Tensor | None,
    raised: Tensor | None,
    std: float,
    generator: torch.Generator,
) -> None:
    """Write the rows of the new pieces, and the mean of the old ones into rows from ``padding`` on."""
    old = matrix[:first].detach().cpu()
    if weights is not None:
        new = initialise.mixed(weights, old)
    elif start.initialiser == "global-mean":
        new = initialise.global_mean(old, pieces, noise=start.noise, generator=generator)
    else:
        new = initialise.random_rows(pieces, old.shape[1], std=std, generator=generator)
    if raised is not None and start.initialiser != "random":
        new = initialise.raised_to_median(new, old, raised)
    matrix[first : first + pieces] = new.to(matrix)
    matrix[padding:] = initialise.global_mean(old, 1).to(matrix)


def _bound(
    model: Any, start: Start, weights: Tensor | None, padding: int, first: int, pieces: int
) -> tuple[float | None, str]:
    """The bound on the growth of log Z, or why there is none."""
    if start.initialiser == "random":
        return None, "random rows are no means of old ones"
    if start.noise and start.initialiser == "global-mean":
        return None, "noise was added to the means"
    if start.norm == "median":
        return None, "rows of the head were scaled"
    if softcap_of(model):
        return None, "the model caps its logits, so a mean row has no mean logit"
    mean_rows = padding + (pieces if weights is None else 0)
    return initialise.log_z_bound(weights, mean_rows, first), ""
