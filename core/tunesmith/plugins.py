"""Find, load and list plugins.

pluggy is the engine; its entry-point loader is not used, because there one broken plugin stops start-up, a second
plugin of the same name vanishes and a misspelt hook is accepted. Here every plugin becomes a row with a status, and
a fault matters only to a run that needs what the plugin would have provided.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from tunesmith import hookspecs
from tunesmith.components import KINDS, Component
from tunesmith.errors import ConfigError, did_you_mean, nearest

GROUP = hookspecs.PROJECT
BLOCK_VARIABLE = "TUNESMITH_NO_PLUGINS"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith(f"{GROUP}_"))
REGISTER = {
    "tunesmith_register_methods": "method",
    "tunesmith_register_objectives": "objective",
    "tunesmith_register_rewards": "reward",
    "tunesmith_register_data_formats": "format",
    "tunesmith_register_sources": "source",
    "tunesmith_register_schedulers": "scheduler",
    "tunesmith_register_generators": "generator",
    "tunesmith_register_trackers": "tracker",
}
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plugin:
    """One row of ``tunesmith plugins``.

    Attributes:
        name: the entry point's name, or a local file's stem.
        distribution: the package it came with, or the file's path.
        status: ``ok``, ``broken`` or ``blocked``.
        cause: why it is broken, in one sentence.
        ms: milliseconds to import and register it.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str = "ok"
    cause: str = ""
    ms: float = 0.0
    components: list[type[Component]] = field(default_factory=list)

    def label(self, component: str) -> str:
        return f"{self.name}/{component} ({self.distribution} {self.version})".replace(" )", ")")


class Registry:
    """All plugins of this process and the components they registered."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)

    def entries(self, kind: str) -> list[tuple[Plugin, type[Component]]]:
        """Every registered component of a kind with its plugin, sorted by name."""
        found = [(plugin, cls) for plugin in self.plugins for cls in plugin.components if cls.kind == kind]
        return sorted(found, key=lambda entry: entry[1].name)

    def names(self, kind: str) -> list[str]:
        """The known names of a kind, each once."""
        return sorted({cls.name for _, cls in self.entries(kind)})

    def get(self, kind: str, name: str) -> type[Component]:
        """The component called ``name``, or ``plugin/name`` (or ``distribution/name``) where two plugins share it.

        Raises:
            ConfigError: unknown, ambiguous, or provided only by a plugin that failed to load.
        """
        prefix, _, bare = name.rpartition("/")
        found = [(plugin, cls) for plugin, cls in self.entries(kind) if cls.name == bare]
        if prefix:
            found = [(plugin, cls) for plugin, cls in found if prefix in (plugin.name, plugin.distribution)]
        if len(found) == 1:
            return found[0][1]
        if found:
            raise ConfigError(
                f"{len(found)} plugins provide the {kind} {bare!r}",
                where=", ".join(plugin.label(bare) for plugin, _ in found),
                fix=f"write one of: {', '.join(sorted(self._selectors(found)))}; or block one with --no-plugin NAME",
            )
        raise self._unknown(kind, name, bare)

    @staticmethod
    def _selectors(found: Sequence[tuple[Plugin, type[Component]]]) -> list[str]:
        """``plugin/name``, or ``distribution/name`` where the plugins have the same name too."""
        names = [plugin.name for plugin, _ in found]
        return [
            f"{plugin.name if names.count(plugin.name) == 1 else plugin.distribution}/{cls.name}"
            for plugin, cls in found
        ]

    def _unknown(self, kind: str, name: str, bare: str) -> ConfigError:
        known = self.names(kind)
        other = [k for k in KINDS if k != kind and bare in self.names(k)]
        broken = [f"{p.name} ({p.distribution}): {p.cause}" for p in self.plugins if p.status == "broken"]
        blocked = [p.name for p in self.plugins if p.status == "blocked"]
        why = [f"known: {', '.join(known) or 'none'}"]
        if other:
            why.append(f"{bare!r} is a {other[0]}")
        if blocked:
            why.append(f"blocked plugins: {', '.join(blocked)}")
        if broken:
            why.append(f"plugins that failed to load: {'; '.join(broken)}")
        match = nearest(bare, known)
        return ConfigError(
            f"there is no {kind} {name!r}{did_you_mean(bare, known)}",
            why="; ".join(why),
            fix=f"write {match}" if match else f"see `tunesmith list {kind}`, or `tunesmith plugins` for faults",
        )

    def owner(self, cls: type[Component]) -> Plugin:
        """The plugin that registered a component."""
        return next(plugin for plugin in self.plugins if cls in plugin.components)

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a notification hook; a listener that raises is detached with one warning."""
        caller = getattr(self.manager.hook, hook)
        for implementation in list(caller.get_hookimpls()):
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                implementation.function(**wanted)
            except Exception as error:  # a listener must not end a run
                self.manager.unregister(implementation.plugin)
                log.warning("plugin %s raised in %s and is detached: %r", implementation.plugin_name, hook, error)


def load(*, files: Sequence[Path] = (), block: Iterable[str] = ()) -> Registry:
    """Load every installed plugin and the given local files; never raises for a plugin's fault.

    Args:
        files: Python files that are plugins themselves (``--plugin``).
        block: plugin or distribution names to leave out, beside those in ``TUNESMITH_NO_PLUGINS``.

    Raises:
        ConfigError: a file does not exist, or a blocked name is not installed.
    """
    registry = Registry()
    blocked = {*block, *(name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip())}
    points = sorted(entry_points(group=GROUP), key=_load_order)
    for point in points:
        plugin = Plugin(point.name, _distribution(point), _version(point), point.module)
        registry.plugins.append(plugin)
        if blocked & {plugin.name, plugin.distribution}:
            plugin.status = "blocked"
        else:
            _add(registry, plugin, point.load)
    for path in files:
        if not path.is_file():
            raise ConfigError(f"--plugin {path}: there is no such file", fix="give the path of a Python file")
        plugin = Plugin(path.stem, str(path), "", f"{GROUP}_local_{_digest(path)}")
        registry.plugins.append(plugin)
        _add(registry, plugin, lambda path=path, plugin=plugin: _import_file(path, plugin.module))
    _check_blocked(registry, blocked)
    return registry


def _load_order(point: EntryPoint) -> tuple[bool, str, str]:
    """Own distribution first, then by distribution and name: nothing may depend on the order of ``sys.path``."""
    return (_distribution(point) != GROUP, _distribution(point), point.name)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else ""


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _import_file(path: Path, module_name: str) -> ModuleType:
    """Import under a name of its own, so that two files called alike do not collide."""
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _add(registry: Registry, plugin: Plugin, load_module: Any) -> None:
    start = time.perf_counter()
    module = None
    try:
        module = load_module()
        _check_hook_names(module)
        registry.manager.register(module, name=f"{plugin.distribution}:{plugin.name}")
        plugin.components = _components(module)
    except Exception as error:  # a stranger's module may raise anything; it becomes a row with its cause
        plugin.status, plugin.cause = "broken", _one_line(error)
        if module is not None and registry.manager.is_registered(module):
            registry.manager.unregister(module)
    plugin.ms = (time.perf_counter() - start) * 1000


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginFault) else f"{type(error).__name__}: {text}"[:300]


class PluginFault(Exception):
    """A plugin breaks a rule of ours; the message is a whole sentence."""


def _check_hook_names(module: ModuleType) -> None:
    for name, value in vars(module).items():
        marked = hasattr(value, f"{GROUP}_impl")
        if marked and name not in HOOKS:
            raise PluginFault(f"there is no hook {name!r}{did_you_mean(name, HOOKS)}")
        if callable(value) and name.startswith(f"{GROUP}_") and not marked:
            if name in HOOKS:
                raise PluginFault(f"{name} lacks the @tunesmith.hookimpl decorator")
            if nearest(name, HOOKS):
                raise PluginFault(f"there is no hook {name!r}{did_you_mean(name, HOOKS)}")


def _components(module: ModuleType) -> list[type[Component]]:
    components: list[type[Component]] = []
    for hook, kind in REGISTER.items():
        register = getattr(module, hook, None)
        if register is None:
            continue
        for cls in register():
            _check_component(cls, hook, kind)
            components.append(cls)
    return components


def _check_component(cls: Any, hook: str, kind: str) -> None:
    base = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginFault(f"{hook} returned {cls!r}, which is not a subclass of tunesmith.{base.__name__}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise PluginFault(f"{cls.__name__}.name must be kebab-case such as 'my-{kind}', not {name!r}")
    missing = [a for a in _REQUIRED.get(kind, ()) if not hasattr(cls, a)]
    if missing:
        raise PluginFault(f"{cls.__name__} does not declare {', '.join(missing)}")
    if not (cls.__doc__ or "").strip() or cls.__doc__ == base.__doc__:
        raise PluginFault(f"{cls.__name__} has no docstring; its first line is what `tunesmith list` shows")
    abstract = sorted(name for name in _ABSTRACT.get(kind, ()) if getattr(cls, name) is getattr(base, name))
    if abstract:
        raise PluginFault(f"{cls.__name__} does not define {', '.join(abstract)}")


_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "method": ("consumes", "supplies", "card"),
    "objective": ("inputs",),
    "format": ("produces", "columns"),
}
_ABSTRACT: Mapping[str, tuple[str, ...]] = {
    "method": ("forward",),
    "objective": ("__call__",),
    "reward": ("__call__",),
    "format": ("__call__",),
    "source": ("rows",),
    "scheduler": ("shape",),
    "generator": ("open",),
    "tracker": ("open",),
}


def _check_blocked(registry: Registry, blocked: set[str]) -> None:
    known = {name for plugin in registry.plugins for name in (plugin.name, plugin.distribution)}
    for name in sorted(blocked - known):
        raise ConfigError(
            f"cannot block {name!r}: no such plugin or package is installed{did_you_mean(name, known)}",
            why=f"installed: {', '.join(sorted(known))}",
            fix=f"correct --no-plugin or {BLOCK_VARIABLE}",
        )
