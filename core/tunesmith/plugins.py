"""Find, load and list plugins.

pluggy is the engine; its entry-point loader is not used, because there one broken plugin stops start-up, a second
plugin of the same name vanishes and a misspelt hook is accepted. Here every plugin becomes a row with a status, and
a fault matters only to a run that needs what the plugin would have provided.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from tunesmith import hookspecs
from tunesmith.components import KINDS, Component
from tunesmith.errors import ConfigError, did_you_mean, nearest
from tunesmith.plugin_rules import PluginFault, check_hook_names, read_components
from tunesmith.plugin_versions import made_for_another

if TYPE_CHECKING:
    import click

GROUP = hookspecs.PROJECT
BLOCK_VARIABLE = "TUNESMITH_NO_PLUGINS"
COMMANDS_HOOK = "tunesmith_register_commands"
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plugin:
    """One row of ``tunesmith plugins``.

    Attributes:
        name: the entry point's name, or a local file's stem.
        distribution: the package it came with, or the file's path.
        status: ``ok``, ``broken`` or ``blocked``.
        cause: why it is broken, or what else is wrong with it, in one sentence.
        ms: milliseconds to import and register it.
        components: what it registered; empty when it is broken or blocked.
        commands: the commands that it adds to the command line.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str = "ok"
    cause: str = ""
    ms: float = 0.0
    components: list[type[Component]] = field(default_factory=list)
    commands: dict[str, click.Command] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The package and its version, or the file."""
        return f"{self.distribution} {self.version}".rstrip()

    def label(self, component: str) -> str:
        """``plugin/component (package version)``, for messages."""
        return f"{self.name}/{component} ({self.origin})"

    def answers_to(self, name: str) -> bool:
        """True for the plugin's name and its package's, however the latter is spelt (``my_pkg``, ``My-Pkg``)."""
        return name == self.name or canonical(name) == canonical(self.distribution)


def canonical(distribution: str) -> str:
    """The name of a package as the packaging rules normalise it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def article(noun: str) -> str:
    """``an objective``, ``a method``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


Entry = tuple[Plugin, type[Component]]


class Registry:
    """All plugins of this process and the components they registered.

    Attributes:
        plugins: all of them, also those that are broken or blocked.
        notes: a sentence on every replacement that was used so far in place of what it replaces; see `untold`.
    """

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.notes: list[str] = []
        self._told = 0
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)

    def entries(self, kind: str) -> list[Entry]:
        """Every registered component of a kind with its plugin, sorted by name; also those that are replaced."""
        found = [(plugin, cls) for plugin in self.plugins for cls in plugin.components if cls.kind == kind]
        return sorted(found, key=lambda entry: entry[1].name)

    def current(self, kind: str) -> list[Entry]:
        """The same without those that another one replaces: what plain names mean."""
        return [entry for entry in self.entries(kind) if entry in self._standing(self._namesakes(entry[1]))]

    def _namesakes(self, cls: type[Component]) -> list[Entry]:
        """All components of this kind and name."""
        return [entry for entry in self.entries(cls.kind) if entry[1].name == cls.name]

    def replacement(self, plugin: Plugin, cls: type[Component]) -> Entry | None:
        """What stands in for a component, or ``None`` where nothing does, or it is not clear what."""
        standing = self._standing(self._namesakes(cls))
        return standing[0] if len(standing) == 1 and standing[0][0] is not plugin else None

    def _standing(self, found: list[Entry]) -> list[Entry]:
        """Components of one name without those that another one replaces; all where they replace each other."""

        def replaced(plugin: Plugin) -> bool:
            return any(
                cls.replaces and other is not plugin and plugin.answers_to(cls.replaces.rpartition("/")[0])
                for other, cls in found
            )

        return [entry for entry in found if not replaced(entry[0])] or found

    def names(self, kind: str) -> list[str]:
        """The known names of a kind, each once."""
        return sorted({cls.name for _, cls in self.entries(kind)})

    def get(self, kind: str, name: str) -> type[Component]:
        """The component called ``name``, or ``plugin/name`` (or ``distribution/name``) where two plugins share it.

        Where one declares that it replaces the other, the plain name means that one, and `notes` gets a sentence.

        Raises:
            ConfigError: unknown, ambiguous, or provided only by a plugin that failed to load.
        """
        prefix, _, bare = name.rpartition("/")
        bare = bare.replace("_", "-")
        found = [(plugin, cls) for plugin, cls in self.entries(kind) if cls.name == bare]
        if prefix:
            found = [(plugin, cls) for plugin, cls in found if plugin.answers_to(prefix)]
        standing = self._standing(found)
        if len(standing) == 1:
            self._note(standing[0], found)
            return standing[0][1]
        if found:
            selectors = ", ".join(sorted(self.selector(*entry) for entry in found))
            raise ConfigError(
                f"{len(standing)} plugins {'replace' if len(standing) < len(found) else 'provide'} the {kind} {bare!r}",
                where=", ".join(plugin.label(bare) for plugin, _ in standing),
                fix=f"write one of: {selectors}; or block one with --no-plugin NAME",
            )
        raise self._unknown(kind, name, bare)

    def _note(self, used: Entry, found: Sequence[Entry]) -> None:
        plugin, cls = used
        for original, other in (entry for entry in found if entry != used):
            note = (
                f"the {cls.kind} {cls.name} is {self.exact(*used)} ({plugin.origin}), which replaces that of "
                f"{original.origin}; for the latter write {self.exact(original, other)}"
            )
            self.notes += [note] if note not in self.notes else []

    def untold(self) -> list[str]:
        """The notes that this has not returned before: whoever asks tells the user."""
        notes, self._told = self.notes[self._told :], len(self.notes)
        return notes

    def selector(self, plugin: Plugin, cls: type[Component]) -> str:
        """What to write to mean this component and no other: ``name``, ``plugin/name`` or ``distribution/name``."""
        alone = self._standing(self._namesakes(cls)) == [(plugin, cls)]
        return cls.name if alone else self.exact(plugin, cls)

    def exact(self, plugin: Plugin, cls: type[Component]) -> str:
        """The same, and also where a plain name would do as long as all the plugins stay that are installed now."""
        others = [other for other, _ in self._namesakes(cls) if other is not plugin]
        if not others:
            return cls.name
        distinct = all(not other.answers_to(plugin.name) for other in others)
        # `show objectives/NAME` means the kind, whatever plugin is called so
        distinct = distinct and plugin.name.removesuffix("s") not in KINDS
        return f"{plugin.name if distinct else plugin.distribution}/{cls.name}"

    def _unknown(self, kind: str, name: str, bare: str) -> ConfigError:
        known = self.names(kind)
        other = [k for k in KINDS if k != kind and bare in self.names(k)]
        broken = [f"{p.name} ({p.distribution}): {p.cause}" for p in self.plugins if p.status == "broken"]
        blocked = [p.name for p in self.plugins if p.status == "blocked"]
        why = [f"known: {', '.join(known) or 'none'}"]
        if other:
            why.append(f"{bare!r} is {article(other[0])}")
        if blocked:
            why.append(f"blocked plugins: {', '.join(blocked)}")
        if broken:
            why.append(f"plugins that failed to load: {'; '.join(broken)}")
        match = nearest(bare, known)
        see = "see `tunesmith plugins` for faults"
        return ConfigError(
            f"there is no {kind} {name!r}{did_you_mean(bare, known)}",
            why="; ".join(why),
            fix=f"write {match}{f', or {see}' if broken else ''}" if match else f"`tunesmith list {kind}`; {see}",
        )

    def owner(self, cls: type[Component]) -> Plugin:
        """The plugin that registered a component."""
        return next(plugin for plugin in self.plugins if cls in plugin.components)

    def commands(self) -> dict[str, tuple[Plugin, click.Command]]:
        """The commands that plugins add to the command line, by name."""
        return {name: (plugin, command) for plugin in self.plugins for name, command in plugin.commands.items()}

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


def load(*, files: Sequence[Path] = (), block: Iterable[str] = (), reserved_commands: Collection[str] = ()) -> Registry:
    """Load every installed plugin and the given local files; never raises for a plugin's fault.

    Args:
        files: Python files that are plugins themselves (``--plugin``).
        block: plugin or distribution names to leave out, beside those in ``TUNESMITH_NO_PLUGINS``.
        reserved_commands: names of commands that no plugin may take.

    Raises:
        ConfigError: a file does not exist, or a blocked name is not installed.
    """
    registry = Registry()
    blocked = {*block, *(name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",") if name.strip())}
    for plugin, load_module in [*_installed(), *_local(files)]:
        registry.plugins.append(plugin)
        if any(plugin.answers_to(name) for name in blocked):
            plugin.status = "blocked"
        else:
            _add(registry, plugin, load_module, reserved_commands)
    _check_blocked(registry, blocked)
    return registry


def _installed() -> list[tuple[Plugin, Callable[[], Any]]]:
    """Own distribution first, then by distribution and name: nothing may depend on the order of ``sys.path``."""
    origins: dict[int, tuple[str, str]] = {}  # reading a distribution's metadata takes a millisecond each time
    found: list[tuple[Plugin, Callable[[], Any]]] = []
    for point in entry_points(group=GROUP):
        if id(point.dist) not in origins:
            origins[id(point.dist)] = (point.dist.name, point.dist.version) if point.dist else ("?", "")
        plugin = Plugin(point.name, *origins[id(point.dist)], point.module)
        found.append((plugin, point.load if plugin.distribution == GROUP else partial(_load_stranger, point)))
    return sorted(found, key=lambda item: (item[0].distribution != GROUP, item[0].distribution, item[0].name))


def _load_stranger(point: EntryPoint) -> Any:
    """Import the module of an entry point. Raises `PluginFault` where its package is made for another tunesmith."""
    refused = made_for_another(point.dist) if point.dist is not None else None
    if refused:
        raise PluginFault(refused)
    return point.load()


def _local(files: Sequence[Path]) -> list[tuple[Plugin, Callable[[], Any]]]:
    found: list[tuple[Plugin, Callable[[], Any]]] = []
    for path in dict.fromkeys(path.resolve() for path in files):
        if not path.is_file():
            raise ConfigError(f"--plugin {path}: there is no such file", fix="give the path of a Python file")
        plugin = Plugin(path.stem, str(path), "", local_module(path))
        found.append((plugin, partial(import_file, path)))
    return found


def local_module(path: Path) -> str:
    """A name of its own for the module of a file, so that two files called alike do not collide."""
    return f"{GROUP}_local_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def import_file(path: Path) -> ModuleType:
    """Import a Python file as `local_module`; raises whatever it raises."""
    module_name = local_module(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _add(
    registry: Registry, plugin: Plugin, load_module: Callable[[], Any], reserved_commands: Collection[str]
) -> None:
    start = time.perf_counter()
    module, had_torch = None, "torch" in sys.modules
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what an import prints must not end up in `list --json`
            module = load_module()
            check_hook_names(module)
            registry.manager.register(module, name=f"{plugin.distribution}:{plugin.name}")
            components, commands = read_components(module), _commands(module)
        plugin.components = components
        _add_commands(registry, plugin, commands, reserved_commands)
        if "torch" in sys.modules and not had_torch:
            slow = "it imports torch when it is loaded, which makes every command slow; import it inside functions"
            plugin.cause = "; ".join(filter(None, (plugin.cause, slow)))
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything; it becomes a row with its cause
        plugin.status, plugin.cause = "broken", _one_line(error)
        if module is not None and registry.manager.is_registered(module):
            registry.manager.unregister(module)
    plugin.ms = (time.perf_counter() - start) * 1000


def _commands(module: Any) -> Mapping[str, click.Command]:
    """The commands that a plugin adds, collected in a group of their own so that it cannot replace any of ours."""
    register = getattr(module, COMMANDS_HOOK, None)
    if register is None:
        return {}
    import click

    group = click.Group()
    register(group)
    return group.commands


def _add_commands(
    registry: Registry, plugin: Plugin, commands: Mapping[str, click.Command], reserved: Collection[str]
) -> None:
    taken = dict.fromkeys(reserved, GROUP)
    taken |= {name: f"the plugin {owner.name} ({owner.origin})" for name, (owner, _) in registry.commands().items()}
    refused = [f"the command {name!r} is refused: it belongs to {taken[name]}" for name in commands if name in taken]
    plugin.commands = {name: command for name, command in commands.items() if name not in taken}
    plugin.cause = "; ".join(refused)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginFault) else f"{type(error).__name__}: {text}"[:300]


def _check_blocked(registry: Registry, blocked: set[str]) -> None:
    known = {name for plugin in registry.plugins for name in (plugin.name, plugin.distribution)}
    for name in sorted(blocked):
        if any(plugin.answers_to(name) for plugin in registry.plugins):
            continue
        raise ConfigError(
            f"cannot block {name!r}: no such plugin or package is installed{did_you_mean(name, known)}",
            why=f"installed: {', '.join(sorted(known))}",
            fix=f"correct --no-plugin or {BLOCK_VARIABLE}",
        )
