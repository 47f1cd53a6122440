"""What the result of a stage depends on, as hashes: equal ones mean that the stage need not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tunesmith.components import Component, DataSpec
from tunesmith.config import Run
from tunesmith.pipeline.spec import texts
from tunesmith.plugin_versions import versions
from tunesmith.plugins import Registry
from tunesmith.runner.launch import MAY_DIFFER

CLIP = 60
"""Characters of a value in a message."""
UNKNOWN = "unknown"
"""In place of a hash of rows that nothing tells apart, such as those of a stream."""


def of_run(run: Run, registry: Registry, made: Mapping[str, str]) -> dict[str, Any]:
    """Settings, data, starting model and versions of a run.

    Args:
        run: with all paths filled in.
        registry: that knows whose the components are.
        made: hash of what every path holds that another stage has made.
    """
    settings = {key: value for key, value in run.dump().items() if key not in {*MAY_DIFFER, "model"}}
    return {
        "settings": json.loads(json.dumps(settings, default=str)),
        "model": made.get(run.settings.model) or of_path(run.settings.model),
        "data": {spec.label or spec.source.label(): spec.source.fingerprint() or UNKNOWN for spec in _specs(run)},
        "versions": _versions(run, registry),
    }


def of_command(words: Sequence[Any], filled: Sequence[Any], writes: str, made: Mapping[str, str]) -> dict[str, Any]:
    """Words of a command, what the files and models among them hold, and the version of tunesmith.

    Args:
        words: as they are written, with references; also mappings.
        filled: the same with the paths that references stand for.
        writes: name of the file that it writes, or nothing.
        made: hash of what every path holds that another stage has made.
    """
    pairs = zip(texts(words), texts(filled), strict=True)
    files = {word: made.get(path) or of_path(path) for word, path in pairs if path in made or Path(path).exists()}
    settings = {"words": [*words, *([writes] if writes else [])]}
    return {"settings": settings, "files": files, "versions": {"tunesmith": version("tunesmith")}}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the inputs of two starts, in words."""
    found: list[str] = []
    if before.get("model") != now.get("model"):
        found.append("the model that it starts from is another one")
    for part, said in (("data", "the rows of {}"), ("files", "the content of {}")):
        old, new = before.get(part, {}), now.get(part, {})
        found += [f"{said.format(name)} changed" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    for part in ("settings", "versions"):
        found += _differences(before.get(part), now.get(part), "" if part == "settings" else "version of ")
    return found


def _differences(old: Any, new: Any, name: str) -> list[str]:
    """``key: before -> now`` at the deepest places that differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        prefix = f"{name}." if name and not name.endswith(" ") else name
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{prefix}{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in _differences(a, b, f"{name}.{i}" if len(old) > 1 else name)]
    return [] if old == new else [f"{name}: {str(old)[:CLIP]} -> {str(new)[:CLIP]}"]


def digest(parts: Mapping[str, Any]) -> str:
    """One hash of all parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def of_path(word: str) -> str:
    """A hash of the content of a file or folder; of a name, the name."""
    path = Path(word)
    if not path.exists():
        return word
    found = hashlib.sha256()
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for one in files:
        found.update(f"{one.relative_to(path)}\n".encode())
        with one.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _specs(run: Run) -> Iterator[DataSpec]:
    yield from run.settings.data
    yield from run.settings.eval_data
    for specs in [*run.method.data_groups().values(), *run.method.probes().values()]:
        yield from specs


def _versions(run: Run, registry: Registry) -> dict[str, str]:
    """Versions of tunesmith and of the packages of all components of a run; of a plugin file, a hash of its text."""
    found = {"tunesmith": version("tunesmith")}
    known = {one["distribution"]: one["version"] for one in versions(registry)}
    registered = {id(cls): plugin for plugin in registry.plugins for cls in plugin.components}
    for component in [run.method, *_components(run.method), *_components(run.settings)]:
        plugin = registered.get(id(type(component)))
        if plugin is not None:
            found[plugin.distribution] = known[plugin.distribution]
    return dict(sorted(found.items()))


def _components(settings: BaseModel) -> Iterator[Component]:
    """Every component in the fields of settings, at any depth."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    while values:
        value = values.pop()
        if isinstance(value, (list, tuple)):
            values += value
        elif isinstance(value, Mapping):
            values += value.values()
        elif isinstance(value, BaseModel):
            if isinstance(value, Component):
                yield value
            values += [getattr(value, name) for name in type(value).model_fields]
