"""Tokenizers on texts, every one on every source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.components import DataSpec
from tunesmith.data.encoding import load_tokenizer
from tunesmith.errors import ConfigError
from tunesmith.models.loading import check_exists, quiet_transformers
from tunesmith.settings import RunSettings
from tunesmith.vocab.kinds import Kind, kind_of
from tunesmith.vocab.measure import fit
from tunesmith.vocab.texts import label_of, read_texts

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def survey(models: Sequence[str], specs: Sequence[DataSpec], registry: Registry) -> list[dict[str, Any]]:
    """One record for each model and source: totals, tokens per word, bytes per token, shares.

    Raises:
        ConfigError: a model without a tokenizer.
        ResourceError: no such model.
        DataError: rows without text.
    """
    quiet_transformers()
    for model in models:
        check_exists(model, "model")
    texts = {label_of(spec): read_texts(spec, registry) for spec in specs}
    found = []
    for model in models:
        settings = RunSettings.model_validate({"model": model, "data": tuple(specs)})
        tokenizer = load_tokenizer(settings)
        for label, own in texts.items():
            measured = fit(tokenizer, own, _kind(tokenizer))
            found.append({"model": model, "source": label, "kind": type(tokenizer).__name__, **measured.as_dict()})
    return found


def _kind(tokenizer: Any) -> Kind | None:
    """How the pieces are written, where that is known; a tokenizer that cannot be expanded can still be measured."""
    try:
        return kind_of(tokenizer)
    except ConfigError:
        return None
