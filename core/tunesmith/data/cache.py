"""Where tokenised rows are kept, and under which name: a hash of everything that they depend on, never a path."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tunesmith.data
from tunesmith.components import Component, DataFormat, Method
from tunesmith.config import plain
from tunesmith.data.tokenization import tokenizer_fingerprint

if TYPE_CHECKING:
    from tunesmith.config import Run
    from tunesmith.data.corpus import DataSource
    from tunesmith.data.encoding import Encoder
    from tunesmith.plugins import Registry

VARIABLE = "TUNESMITH_CACHE"


def cache_folder() -> Path:
    """The folder of tokenised rows: ``$TUNESMITH_CACHE/tokens``, by default under ``~/.cache/tunesmith``."""
    root = os.environ.get(VARIABLE)
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "tunesmith") / "tokens"


def cache_key(
    source: DataSource, format: DataFormat, run: Run, registry: Registry, encoder: Encoder, overlong: str
) -> str | None:
    """The name under which the tokens of a source are kept, or ``None`` when its content cannot be known.

    It covers the rows, their format, the tokenizer with its chat template, the settings that decide what becomes of a
    row, and the code that makes trees of them.
    """
    spec = source.spec
    content = spec.source.fingerprint()
    tokenizer = tokenizer_fingerprint(encoder.tokenizer)
    if content is None or tokenizer is None:
        return None
    method = run.method
    consumes = method.takes(source.group)
    parts = {
        "rows": content,
        "limit": spec.limit,
        "map": spec.map,
        "format": [plain(format), _identity(format, registry)],
        "tokenizer": tokenizer,
        "encoder": plain(method.encoder_options()),
        "consumes": f"{consumes.__module__}.{consumes.__qualname__}",
        "check": _check(method, registry),
        "max_length": run.settings.max_length,
        "overlong": overlong,
        "code": _own_code(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _check(method: Method, registry: Registry) -> Any:
    """The settings that a method's own judgement of rows may depend on."""
    if type(method).check is Method.check:
        return None
    settings = {name: plain(getattr(method, name)) for name in type(method).model_fields if name != "objective"}
    return [method.name, settings, _identity(method, registry)]


def _identity(component: Component, registry: Registry) -> list[str]:
    """Package, version and code of a component: its file, with those beside it where they are a package."""
    cls = type(component)
    plugin, file = registry.owner(cls), Path(inspect.getfile(cls))
    beside = sorted(file.parent.glob("*.py")) if (file.parent / "__init__.py").exists() else [file]
    return [plugin.distribution if plugin.version else "", plugin.version, _hash(beside)]


@cache
def _own_code() -> str:
    """The code between rows and trees."""
    folder = Path(tunesmith.data.__path__[0])
    return _hash([*sorted(folder.glob("*.py")), folder.parent / "examples.py"])


def _hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
