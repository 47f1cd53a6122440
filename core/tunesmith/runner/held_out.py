"""How well models know held-out text: loss per token, with an interval over documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from tunesmith.components import DataSpec
from tunesmith.data.detect import SAMPLE, Taker, choose_format
from tunesmith.data.encoding import Encoder, load_tokenizer
from tunesmith.data.report import Problems
from tunesmith.data.rows import Intake
from tunesmith.data.trees import Batch, Tree
from tunesmith.errors import DataError
from tunesmith.examples import Text
from tunesmith.models.loading import check_exists, quiet_transformers
from tunesmith.plugins import Registry
from tunesmith.runner.measure import RESAMPLES, Estimate, Scores, frozen_policy
from tunesmith.settings import RunSettings


@dataclass(frozen=True, slots=True)
class TextLoss:
    """What was found of one model.

    Attributes:
        model: its folder or name.
        losses: ``[D]`` summed negative log-likelihood of each document, nats.
        tokens: ``[D]`` tokens that were scored.
    """

    model: str
    losses: Scores
    tokens: Scores

    @property
    def loss(self) -> Estimate:
        """Nats per token, with a 95% bootstrap interval over documents."""
        return _ratio(self.losses, self.tokens)


def text_losses(
    models: Sequence[str],
    spec: DataSpec,
    registry: Registry,
    settings: Mapping[str, Any],
    *,
    limit: int | None = None,
    max_length: int = 2048,
) -> list[TextLoss]:
    """Score the same documents with every model, one after the other; a longer one is split into pieces.

    Losses of models with different tokenizers cannot be compared.

    Args:
        models: folders or hub names.
        spec: the documents.
        registry: where formats are known.
        settings: of the models: device, dtype, tokenizer, trust_remote_code.
        limit: documents at most.
        max_length: tokens of a piece at most.

    Raises:
        DataError: no documents, or rows that are none.
        ResourceError: a model is not there.
    """
    quiet_transformers()
    for model in models:
        check_exists(model, "model")
    return [_score(model, spec, registry, settings, limit, max_length) for model in models]


def growth(before: TextLoss, after: TextLoss) -> Estimate | None:
    """By how much the loss grew, on the same documents; ``None`` where they were cut into other tokens."""
    if not np.array_equal(before.tokens, after.tokens):
        return None
    return _ratio(after.losses - before.losses, after.tokens)


def _score(
    model: str, spec: DataSpec, registry: Registry, settings: Mapping[str, Any], limit: int | None, max_length: int
) -> TextLoss:
    run = RunSettings.model_validate({"model": model, "data": (spec,), **settings})
    tokenizer = load_tokenizer(run)
    encoder = Encoder(tokenizer)
    documents = read_documents(spec, registry, encoder, limit=limit, max_length=max_length)
    policy = frozen_policy(run, tokenizer, encoder)
    pieces = [tree for document in documents for tree in document]
    owner = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    sums = policy.branch_sums(Batch(pieces)).double().cpu().numpy()[:, 0]
    counts = np.array([tree.num_scored for tree in pieces], dtype=np.float64)
    losses, tokens = (np.bincount(owner, values).astype(np.float64) for values in (-sums, counts))
    return TextLoss(model, losses, tokens)


def read_documents(
    spec: DataSpec, registry: Registry, encoder: Encoder, *, limit: int | None = None, max_length: int | None = None
) -> list[tuple[Tree, ...]]:
    """The pieces of every document of a source.

    Raises:
        DataError: there are none, or rows that are none.
    """
    rows = islice(iter(spec.source.rows()), limit if limit is not None else spec.limit)
    sample = list(islice(rows, SAMPLE))
    taker = Taker(Text, "eval")
    verdict = choose_format(spec, sample, registry, taker)
    intake = Intake(
        verdict.format, columns=spec.map, taker=taker, encoder=encoder, max_length=max_length, overlong="split"
    )
    documents, problems, count = [], Problems(), 0
    for outcome in intake.outcomes(chain(sample, rows)):
        count += 1
        if outcome.status == "bad":
            problems.add(outcome.reason, outcome.row)
        elif outcome.trees:
            documents.append(tuple(outcome.trees))
    if problems.kinds:
        raise problems.error(spec.label or spec.source.label(), count, "be scored")
    if not documents:
        raise DataError(f"{spec.source.label()} has no documents")
    return documents


def _ratio(sums: Scores, counts: Scores, seed: int = 0) -> Estimate:
    """Sum over sum, with an interval from resampled documents."""
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high))
