"""From names and numbers to components: run files, flags, presets and their precedence."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tunesmith import unsandboxed
from tunesmith.components import Component, Method, Reward, Source
from tunesmith.errors import ConfigError, ResourceError, TunesmithError, did_you_mean, nearest
from tunesmith.explain import Location, Nested, UnknownSetting, explain
from tunesmith.fieldtypes import field_type, from_text, plain
from tunesmith.plugins import BLOCK_VARIABLE, Registry, article
from tunesmith.reward_files import load_reward, points_to_code, which_function
from tunesmith.runfile import key_line, parse_value, read_run_file
from tunesmith.settings import RunSettings

__all__ = [
    "Layers",
    "Run",
    "build",
    "check_needs",
    "check_objective",
    "check_required",
    "nested_context",
    "plain",
    "read_run_file",
    "resolve",
]

ENVIRONMENT = "TUNESMITH_"
RESERVED = {BLOCK_VARIABLE, "TUNESMITH_CACHE", "TUNESMITH_DEBUG", unsandboxed.VARIABLE}
ORIGINS = ("default", "method", "adapter", "preset", "run file", "environment", "--set", "flag")


@dataclass(slots=True)
class Run:
    """A run whose settings are complete and valid.

    Attributes:
        settings: what does not depend on the method.
        method: the method with its own settings and objective.
        origins: setting name to where its value came from (one of `ORIGINS`).
    """

    settings: RunSettings
    method: Method
    origins: dict[str, str]

    def dump(self) -> dict[str, Any]:
        """The whole run file, every default written out."""
        return {"method": self.method.selector, **plain(self.settings), **plain(self.method, named=False)}


@dataclass(slots=True)
class Layers:
    """Settings by origin, the weakest first.

    Attributes:
        preset: name of a preset; wins over the run file's ``preset``.
        file: content of the run file.
        path: where the run file is, for messages.
        overrides: texts such as ``objective.beta=0.2`` (``--set``).
        flags: values of flags by the name of the setting.
    """

    preset: str | None = None
    file: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    overrides: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------- components
def build(registry: Registry, kind: str, spec: Any) -> Component:
    """Build a component from its name, or from a mapping of its name and settings.

    Raises:
        ConfigError: unknown name or setting, or a value out of range.
        ResourceError: a package that the component needs is not installed.
    """
    if kind == Source.kind:
        spec = _claimed(registry, spec)
    if kind == Reward.kind and isinstance(spec, str) and os.path.exists(spec):
        spec = _claimed_by_reward(registry, spec)
    name, settings = _split(kind, spec)
    in_file = kind == Reward.kind and points_to_code(name)
    cls = load_reward(name) if in_file else registry.get(kind, name)
    check_needs(cls)
    try:
        component = cls.model_validate(settings, context=nested_context(registry))
        return component.selected_by(name if in_file else _written(registry, cls, name))
    except ValidationError as error:
        raise explain(error, cls, f"{kind} {name}") from None


def _written(registry: Registry, cls: type[Component], name: str) -> str:
    """What run.yaml says of a component: as it was asked for, and with its plugin where it stands in for another."""
    return name if "/" in name or not cls.replaces else registry.exact(registry.owner(cls), cls)


def nested_context(registry: Registry) -> dict[str, Any]:
    """What pydantic is given as context when it validates settings: how components inside of them are built."""

    def nested(kind: str, spec: Any) -> Component:
        try:
            return build(registry, kind, spec)
        except TunesmithError as error:
            raise Nested(error) from None

    return {"build": nested}


def _split(kind: str, spec: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
        return spec["name"], {str(key): value for key, value in spec.items() if key != "name"}
    raise ConfigError(
        f"{article(kind)} is written as its name or as {{name: ..., settings}}, not as {spec!r}",
        fix=f"see `tunesmith list {kind}`",
    )


def _claimed(registry: Registry, spec: Any) -> Any:
    """Turn a plain word into the settings of the first source that claims it.

    A path that exists wins over a source's name, and that over whatever a source may claim.
    """
    if isinstance(spec, Mapping) and "path" in spec and "name" not in spec:
        word, extra = str(spec["path"]), {key: value for key, value in spec.items() if key != "path"}
    elif isinstance(spec, str):
        word, extra = spec, {}
    else:
        return spec
    if word in registry.names(Source.kind) and not os.path.exists(word):
        return {"name": word, **extra}
    sources = [cast(type[Source], cls) for _, cls in registry.current(Source.kind)]
    for source in sorted(sources, key=lambda cls: (-cls.priority, cls.name)):
        claimed = source.claims(word)
        if claimed is not None:
            return {"name": source.name, **claimed, **extra}
    similar = _similar_path(word)
    raise ConfigError(
        f"no source knows what {word!r} is{f'; did you mean {similar!r}?' if similar else ''}",
        why="it is not an existing file, folder or glob, nor a source's name, nor written like a data set name",
        fix="check the path, or name a source: {name: SOURCE, ...} (see `tunesmith list source`)",
    )


def _claimed_by_reward(registry: Registry, path: str) -> Mapping[str, Any]:
    """The settings of the reward that knows what to do with an existing path."""
    for _, cls in registry.current(Reward.kind):
        claimed = cast(type[Reward], cls).claims(path)
        if claimed is not None:
            return {"name": cls.name, **claimed}
    if path.endswith(".py"):
        raise which_function(path)
    raise ConfigError(f"no reward knows what to do with {path!r}", fix="name one: see `tunesmith list reward`")


def _similar_path(word: str) -> str | None:
    """An existing path that differs from ``word`` in the spelling of one part."""
    path = Path(os.path.expanduser(word))
    wrong = next((part for part in (*reversed(path.parents), path) if not os.path.exists(part)), None)
    if wrong is None or set("*?[") & set(wrong.name):
        return None
    readable = wrong.parent.is_dir() and os.access(wrong.parent, os.R_OK | os.X_OK)
    match = nearest(wrong.name, sorted(os.listdir(wrong.parent)) if readable else [])
    if match is None:
        return None
    whole = wrong.parent / match / path.relative_to(wrong)
    return str(whole if os.path.exists(whole) else wrong.parent / match)


def check_needs(cls: type[Component]) -> None:
    """Raises `ResourceError` when a package that the component needs is missing."""
    missing = [name for name in cls.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise ResourceError(
            f"the {cls.kind} {cls.name!r} needs a package that is not installed: {', '.join(missing)}",
            fix=f"pip install {' '.join(missing)}",
        )


def check_required(requirements: Sequence[str]) -> None:
    """Raises `ConfigError` when a required plugin package is missing or of another version."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            raise ConfigError(f"plugins.require: {text!r} is not a requirement", fix="write NAME>=VERSION") from None
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = None
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            raise ConfigError(
                f"this run requires {text}, but {f'{wanted.name} {found}' if found else 'it'} is "
                f"{'installed' if found else 'not installed'}",
                fix=f"pip install {text!r}",
            )


# ---------------------------------------------------------------------------------------------- precedence
def resolve(registry: Registry, method_name: str, layers: Layers) -> Run:
    """Merge all layers (flag, ``--set``, environment, run file, preset, method default, default) and validate.

    Raises:
        ConfigError: an unknown setting or method, a value out of range, an objective that does not fit.
    """
    cls = cast(type[Method], registry.get(Method.kind, method_name))
    check_needs(cls)
    known = {**RunSettings.model_fields, **cls.model_fields}
    file = {key: value for key, value in layers.file.items() if key not in ("method", "preset")}
    preset = layers.preset or layers.file.get("preset")
    overrides = [_override(known, text) for text in layers.overrides]
    # a flag that names a component would replace what --set says about its settings, so those come after it
    refining = [override for override in overrides if _refines(override, layers.flags)]
    stack = [
        ("method", cls.defaults),
        ("preset", _preset(cls, preset, layers)),
        ("run file", file),
        ("environment", _environment(known)),
        *(("--set", override) for override in overrides if override not in refining),
        ("flag", layers.flags),
        *(("--set", override) for override in refining),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = dict.fromkeys(known, "default")
    for origin, layer in stack:
        for key, value in layer.items():
            values[key], origins[key] = _over(known.get(key), values.get(key), value), origin
    if values.get("adapter", "none") != "none":
        for key, value in cls.adapter_defaults.items():
            if ORIGINS.index(origins[key]) <= ORIGINS.index("method"):
                values[key], origins[key] = _over(known[key], values.get(key), value), "adapter"
    locate = partial(_locate, cls, layers, origins)
    for key in sorted(set(values) - set(known)):
        see = f"see `tunesmith run {cls.name} --help-all` for all settings"
        raise UnknownSetting(key, known, where=locate([key]), fix=see)
    return _validate(registry, method_name, values, origins, locate)


def _validate(
    registry: Registry, method_name: str, values: Mapping[str, Any], origins: dict[str, str], locate: Any
) -> Run:
    cls = cast(type[Method], registry.get(Method.kind, method_name))
    context = nested_context(registry)
    known = {*RunSettings.model_fields, *cls.model_fields}
    own = {key: value for key, value in values.items() if key in cls.model_fields}
    rest = {key: value for key, value in values.items() if key not in own}
    try:
        settings = RunSettings.model_validate(rest, context=context)
    except ValidationError as error:
        raise explain(error, RunSettings, f"method {cls.name}", known=known, locate=locate) from None
    try:
        method = cls.model_validate(own, context=context).selected_by(_written(registry, cls, method_name))
    except ValidationError as error:
        raise explain(error, cls, f"method {cls.name}", known=known, locate=locate) from None
    check_objective(registry, method)
    if settings.adapter != "none" and not method.adaptable:
        raise ConfigError(
            f"adapter: the method {method.name!r} takes none",
            where=locate(["adapter"]),
            why="weights of the model itself are what it trains, few of them",
            fix="leave adapter out",
        )
    return Run(settings, method, origins)


def check_objective(registry: Registry, method: Method) -> None:
    """Raises `ConfigError` when the objective reads something else than the method supplies."""
    objective = method.objective
    if method.fits(type(objective)):
        return
    fits = [cls.name for _, cls in registry.current("objective") if method.fits(cast(Any, cls))]
    raise ConfigError(
        f"the objective {objective.name!r} does not fit the method {method.name!r}",
        why=f"it reads {objective.inputs.__name__}, and {method.name} supplies {method.supplies.__name__}",
        fix=f"objectives that fit: {', '.join(fits) or 'none is installed'}",
    )


def _locate(cls: type[Method], layers: Layers, origins: Mapping[str, str], location: Location) -> str:
    """Where a setting was written."""
    key = str(location[0])
    origin = origins.get(key, "default")
    if origin == "run file" and layers.path:
        line = key_line(layers.path, location)
        return f"{layers.path}, line {line}" if line else str(layers.path)
    written = {
        "environment": f"environment variable {ENVIRONMENT}{key.upper()}",
        "--set": f"--set {key}=...",
        "flag": f"--{key.replace('_', '-')}",
        "preset": f"preset {layers.preset or layers.file.get('preset')} of {cls.name}",
    }
    return written.get(origin, f"method {cls.name}")


def _preset(cls: type[Method], name: str | None, layers: Layers) -> Mapping[str, Any]:
    if name is None:
        return {}
    if name not in cls.presets:
        line = key_line(layers.path, ["preset"]) if layers.path and not layers.preset else None
        raise ConfigError(
            f"the method {cls.name!r} has no preset {name!r}{did_you_mean(str(name), cls.presets)}",
            where=f"{layers.path}, line {line}" if line else None,
            why=f"presets: {', '.join(cls.presets) or 'none'}",
        )
    return cls.presets[name].settings


def _environment(known: Mapping[str, FieldInfo]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(ENVIRONMENT) or variable in RESERVED:
            continue
        key = variable.removeprefix(ENVIRONMENT).lower()
        if key not in known:
            raise ConfigError(
                f"the environment variable {variable} is no setting of this run{did_you_mean(key, known)}",
                fix=f"unset {variable}",
            )
        found[key] = from_text(field_type(known[key].annotation), text)
    return found


def _override(known: Mapping[str, FieldInfo], text: str) -> dict[str, Any]:
    """Read one ``key=value`` or ``outer.inner=value``."""
    path, equals, raw = text.partition("=")
    key, *inner = path.strip().replace("-", "_").split(".")
    if not equals or not key or not all(inner):
        raise ConfigError(f"--set {text!r}: write key=value, or outer.inner=value")
    if not inner:
        return {key: from_text(field_type(known[key].annotation), raw) if key in known else parse_value(raw)}
    value = parse_value(raw)
    for part in reversed(inner):
        value = {part: value}
    return {key: value}


def _refines(override: Mapping[str, Any], flags: Mapping[str, Any]) -> bool:
    """True for settings of a component that a flag names."""
    ((key, value),) = override.items()
    return isinstance(value, Mapping) and "name" not in value and isinstance(flags.get(key), str)


def _over(info: FieldInfo | None, old: Any, new: Any) -> Any:
    """A value and what it overrides: a mapping without a name adds to the component that is already there."""
    kind = field_type(info.annotation) if info else None
    if kind is None or kind.many or not kind.is_model:
        return new
    default = info.default if info else None
    if old is None and isinstance(default, (BaseModel, str, Mapping)):
        old = plain(default)
    return refine(old, new)


def refine(old: Any, new: Any) -> Any:
    """Merge a mapping without a name into a component's name or mapping; anything else replaces it."""
    if not isinstance(new, Mapping) or "name" in new or not isinstance(old, (str, Mapping)):
        return new
    merged = {"name": old} if isinstance(old, str) else dict(old)
    for key, value in new.items():
        merged[key] = refine(merged.get(key), value)
    return merged
