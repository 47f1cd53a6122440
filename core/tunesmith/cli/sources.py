"""What the command line says of data: words, mappings and renamed columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.components import DataSpec
    from tunesmith.plugins import Registry


def renaming(texts: Sequence[str]) -> dict[str, str]:
    """What ``--map NAME=YOURS`` says. Raises `ConfigError` for anything else."""
    columns = {}
    for text in texts:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours.strip() or not theirs.strip():
            raise ConfigError(f"--map {text!r}: write NAME=YOURS, the name that the format expects first")
        columns[ours.strip()] = theirs.strip()
    return columns


def said_of(word: str, columns: Sequence[str] = (), format: str | None = None, limit: int | None = None) -> Any:
    """A source as a run file would hold it: a path or a name, or ``{name: ..., settings}`` written out.

    Raises `ConfigError` for a mapping that is not valid YAML.
    """
    given = {"format": format, "map": renaming(columns), "limit": limit}
    given = {key: value for key, value in given.items() if value}
    if not word.lstrip().startswith("{"):
        return {"source": word, **given}
    from tunesmith.runfile import parse_value  # YAML takes a while to import

    written = parse_value(word)
    if not isinstance(written, Mapping):
        raise ConfigError(f"{word!r} is not valid YAML", fix="write {name: SOURCE, setting: value}, in quotes")
    return {**written, **given}


def data_spec(
    registry: Registry, word: str, columns: Sequence[str] = (), format: str | None = None, limit: int | None = None
) -> DataSpec:
    """What ``--data``, ``--map``, ``--format`` and ``--limit`` say. Raises `ConfigError` where it makes no sense."""
    from pydantic import ValidationError

    from tunesmith.components import DataSpec
    from tunesmith.config import build
    from tunesmith.explain import explain

    said = said_of(word, columns, format, limit)
    try:
        return DataSpec.model_validate(said, context={"build": partial(build, registry)})
    except ValidationError as error:
        raise explain(error, DataSpec, "data") from None
