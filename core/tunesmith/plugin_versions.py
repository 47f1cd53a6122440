"""Which versions of plugins fit: what tunesmith a package is made for, and the same packages everywhere in a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, version
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.hookspecs import PROJECT

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def made_for_another(distribution: Distribution) -> str | None:
    """Why a package cannot be used with this tunesmith, by the requirement in its own metadata, or ``None``.

    pip looks at that requirement when the package is installed; tunesmith may have been upgraded since.
    """
    named = [text for text in distribution.requires or () if text.lower().startswith(PROJECT)]
    if not named:
        return None
    from packaging.requirements import Requirement

    here = version(PROJECT)
    for wanted in map(Requirement, named):
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if wanted.name == PROJECT and applies and not wanted.specifier.contains(here, prereleases=True):
            return (
                f"{distribution.name} {distribution.version} is made for tunesmith {wanted.specifier} and this is "
                f"{here}: pip install --upgrade {distribution.name}"
            )
    return None


def versions(registry: Registry) -> list[dict[str, str]]:
    """Every plugin with its package's version; of a file, the start of the hash of its content."""
    return [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version or _hash(Path(plugin.distribution)),
            "status": plugin.status,
        }
        for plugin in registry.plugins
    ]


def changed(before: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> list[str]:
    """What differs between two lists of `versions`, in words: one sentence part per plugin."""

    def by_name(listed: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Mapping[str, str]]:
        return {(one["distribution"], one["name"]): one for one in listed}

    old, new = by_name(before), by_name(now)
    return [
        f"{name} ({distribution}): {_said(old.get((distribution, name)))} -> {_said(new.get((distribution, name)))}"
        for distribution, name in sorted({*old, *new})
        if old.get((distribution, name)) != new.get((distribution, name))
    ]


def _said(plugin: Mapping[str, str] | None) -> str:
    if plugin is None:
        return "not there"
    return plugin["version"] if plugin["status"] == "ok" else f"{plugin['version']}, {plugin['status']}"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""
