"""What a plugin module and its components must look like. A broken rule becomes the cause in `tunesmith plugins`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith import hookspecs
from tunesmith.components import KINDS, Card, Component, Preset
from tunesmith.errors import did_you_mean, nearest
from tunesmith.examples import Example
from tunesmith.settings import RESERVED_FIELDS, RunSettings

GROUP = hookspecs.PROJECT
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
KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""The names of components."""


class PluginFault(Exception):
    """A plugin breaks a rule; the message is a whole sentence."""


def check_hook_names(module: Any) -> None:
    """Refuse a function that looks like a hook but would never be called, and a module without any hook."""
    prefix = f"{GROUP}_"
    endings = {name.removeprefix(prefix): name for name in HOOKS}
    hooks = 0
    for name, value in vars(module).items():
        marked = hasattr(value, f"{GROUP}_impl")
        ending = name.removeprefix(prefix)
        if marked and name not in HOOKS:
            raise PluginFault(f"there is no hook {name!r}{did_you_mean(name, HOOKS)}")
        if callable(value) and name.startswith(prefix) and not marked:
            if name in HOOKS:
                raise PluginFault(f"{name} lacks the @tunesmith.hookimpl decorator")
            close = nearest(ending, endings)
            if close:
                raise PluginFault(f"there is no hook {name!r}; did you mean {endings[close]!r}?")
        hooks += marked
    if not hooks:
        raise PluginFault(f"{getattr(module, '__name__', module)} has no function with @tunesmith.hookimpl")


def read_components(module: Any) -> list[type[Component]]:
    """Call the registration hooks of a module and check what they return."""
    components: list[type[Component]] = []
    for hook, kind in REGISTER.items():
        register = getattr(module, hook, None)
        if register is None:
            continue
        registered = register()
        if registered is None:
            raise PluginFault(f"{hook} returned nothing; it must return a list of classes")
        for cls in registered:
            check_component(cls, hook, kind)
            if any(cls.name == other.name for other in components if other.kind == kind):
                raise PluginFault(f"{hook} returned two components called {cls.name!r}")
            components.append(cls)
    return components


def check_component(cls: Any, hook: str, kind: str) -> None:
    """Raises `PluginFault` for what is no component of a kind; ``hook``: who returned it."""
    base = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginFault(f"{hook} returned {cls!r}, which is not a subclass of tunesmith.{base.__name__}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not KEBAB.fullmatch(name):
        raise PluginFault(f"{cls.__name__}.name must be kebab-case such as 'my-{kind}', not {name!r}")
    missing = [a for a in _DECLARED.get(kind, {}) if not hasattr(cls, a)]
    if missing:
        raise PluginFault(f"{cls.__name__} does not declare {', '.join(missing)}")
    if not (cls.__doc__ or "").strip() or cls.__doc__ == base.__doc__:
        raise PluginFault(f"{cls.__name__} has no docstring; its first line is what `tunesmith list` shows")
    _check_replaces(cls)
    if cls.__abstractmethods__:
        raise PluginFault(f"{cls.__name__} does not define {', '.join(sorted(cls.__abstractmethods__))}")
    for attribute, (fits, rule) in _DECLARED.get(kind, {}).items():
        if not fits(getattr(cls, attribute)):
            raise PluginFault(f"{cls.__name__}.{attribute} must be {rule}, not {getattr(cls, attribute)!r}")
    if kind == "method":
        _check_settings(cls)


def _check_replaces(cls: Any) -> None:
    if not isinstance(cls.replaces, str) or (cls.replaces and not re.fullmatch(rf"[^/]+/{cls.name}", cls.replaces)):
        raise PluginFault(f"{cls.__name__}.replaces must be 'PLUGIN/{cls.name}', not {cls.replaces!r}")


def _check_settings(cls: Any) -> None:
    """A method's fields stand beside the run's own in one run file, and its recommendations name either."""
    taken = sorted({*RunSettings.model_fields, *RESERVED_FIELDS} & set(cls.model_fields))
    if taken:
        raise PluginFault(f"{cls.__name__}.{taken[0]} has the name of a setting of every run; call it otherwise")
    known = {*RunSettings.model_fields, *cls.model_fields}
    recipes = {"defaults": cls.defaults, "adapter_defaults": cls.adapter_defaults}
    recipes |= {f"presets[{name!r}]": preset.settings for name, preset in cls.presets.items()}
    for where, settings in recipes.items():
        for key in sorted(set(settings) - known):
            raise PluginFault(f"{cls.__name__}.{where}: there is no setting {key!r}{did_you_mean(key, known)}")


def _class_of(base: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, type) and issubclass(value, base)


_Rule = tuple[Callable[[Any], bool], str]
_DECLARED: Mapping[str, Mapping[str, _Rule]] = {
    "method": {
        "consumes": (_class_of(Example), "a subclass of tunesmith.Example"),
        "supplies": (_class_of(object), "a class"),
        "card": (lambda value: isinstance(value, Card), "a tunesmith.Card"),
        "presets": (
            lambda value: isinstance(value, Mapping) and all(isinstance(p, Preset) for p in value.values()),
            "a mapping of names to tunesmith.Preset",
        ),
    },
    "objective": {
        "inputs": (_class_of(object), "a class"),
        "unit": (
            lambda value: isinstance(value, property) or value in ("token", "sequence", "pair", "prompt"),
            "'token', 'sequence', 'pair' or 'prompt', or a property",
        ),
    },
    "format": {
        "produces": (_class_of(Example), "a subclass of tunesmith.Example"),
        "columns": (lambda value: isinstance(value, tuple), "a tuple of column names"),
    },
}
