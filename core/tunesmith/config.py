"""From names and numbers to components: run files, flags, presets and their precedence."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from tunesmith.components import Component, Method, Source
from tunesmith.errors import ConfigError, ResourceError, did_you_mean, nearest
from tunesmith.plugins import BLOCK_VARIABLE, Registry
from tunesmith.settings import RunSettings

ENVIRONMENT = "TUNESMITH_"
RESERVED = {BLOCK_VARIABLE, "TUNESMITH_CACHE", "TUNESMITH_DEBUG"}
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
        return {"method": self.method.name, **plain(self.settings), **plain(self.method, named=False)}


@dataclass(slots=True)
class Layers:
    """Settings by origin, the weakest first."""

    preset: str | None = None
    file: Mapping[str, Any] = field(default_factory=dict)
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
    name, settings = _split(kind, spec)
    cls = registry.get(kind, name)
    check_needs(cls)
    try:
        return cls.model_validate(settings, context={"build": partial(build, registry)})
    except ValidationError as error:
        raise explain(error, cls, f"{kind} {name}") from None


def _split(kind: str, spec: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
        return spec["name"], {str(key): value for key, value in spec.items() if key != "name"}
    raise ConfigError(
        f"a {kind} is written as its name or as {{name: ..., settings}}, not as {spec!r}",
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
    sources = [cast(type[Source], cls) for _, cls in registry.entries(Source.kind)]
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


def _similar_path(word: str) -> str | None:
    """An existing path that differs from ``word`` in the spelling of one part."""
    path = Path(os.path.expanduser(word))
    wrong = next((part for part in (*reversed(path.parents), path) if not os.path.exists(part)), None)
    if wrong is None or not os.access(wrong.parent, os.R_OK | os.X_OK) or not wrong.parent.is_dir():
        return None
    match = nearest(wrong.name, sorted(os.listdir(wrong.parent)))
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


def explain(
    error: ValidationError, cls: type[BaseModel], where: str, known: Iterable[str] | None = None
) -> ConfigError:
    """Say what is wrong with the first setting, and how many more there are."""
    first, *more = error.errors()
    path = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    names = list(cls.model_fields if known is None else known)
    if first["type"] == "extra_forbidden":
        what, why = f"unknown setting {path!r}{did_you_mean(path, names)}", f"known: {', '.join(sorted(names))}"
    elif first["type"] == "missing":
        what, why = f"{path} is missing", None
    else:
        message = first["msg"].removeprefix("Value error, ")
        what = f"{path}: {message}" if path else message
        why = f"given: {_clip(first['input'])}" if path else None
    also = f" (and {len(more)} more)" if more else ""
    return ConfigError(what + also, where=where, why=why)


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------------------------------- run files
def read_run_file(path: Path) -> dict[str, Any]:
    """Read a YAML run file into a mapping. Raises `ConfigError` with the line of a syntax error or a doubled key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the run file {path}: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"not valid YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from None
    if not isinstance(node, yaml.MappingNode) or not isinstance(content, dict):
        raise ConfigError("a run file is a mapping of settings", where=str(path), fix="start with `method: NAME`")
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(f"{key.value} is written twice", where=f"{path}, lines {seen[key.value]} and {line}")
        seen[key.value] = line
    return {str(key): value for key, value in content.items()}


def key_line(path: Path, key: str) -> int | None:
    """The 1-based line of a top-level key of a run file."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    lines = {k.value: k.start_mark.line + 1 for k, _ in node.value} if isinstance(node, yaml.MappingNode) else {}
    return lines.get(key)


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
    stack = [
        ("method", cls.defaults),
        ("preset", _preset(cls, preset)),
        ("run file", file),
        ("environment", _environment(known)),
        ("--set", {}),
        ("flag", layers.flags),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = dict.fromkeys(known, "default")
    for origin, layer in stack:
        for key, value in layer.items():
            _put(values, key, value)
            origins[key] = origin
        if origin == "--set":
            for text in layers.overrides:
                origins[_set(values, text)] = origin
    if values.get("adapter", "none") != "none":
        for key, value in cls.adapter_defaults.items():
            if ORIGINS.index(origins[key]) <= ORIGINS.index("method"):
                values[key], origins[key] = value, "adapter"
    return _validate(registry, cls, values, origins)


def _validate(registry: Registry, cls: type[Method], values: Mapping[str, Any], origins: dict[str, str]) -> Run:
    known = {*RunSettings.model_fields, *cls.model_fields}
    unknown = sorted(set(values) - known)
    if unknown:
        key = unknown[0]
        raise ConfigError(
            f"unknown setting {key!r}{did_you_mean(key, known)}",
            where=f"method {cls.name}, {origins.get(key, '--set')}",
            fix=f"see `tunesmith run {cls.name} --help-all` for all settings",
        )
    context = {"build": partial(build, registry)}
    own = {key: value for key, value in values.items() if key in cls.model_fields}
    rest = {key: value for key, value in values.items() if key not in own}
    try:
        settings = RunSettings.model_validate(rest, context=context)
    except ValidationError as error:
        raise explain(error, RunSettings, f"settings of the {cls.name} run", known) from None
    try:
        method = cls.model_validate(own, context=context)
    except ValidationError as error:
        raise explain(error, cls, f"method {cls.name}", known) from None
    check_objective(registry, method)
    return Run(settings, method, origins)


def check_objective(registry: Registry, method: Method) -> None:
    """Raises `ConfigError` when the objective reads something else than the method supplies."""
    objective = method.objective
    if issubclass(method.supplies, objective.inputs):
        return
    fits = [cls.name for _, cls in registry.entries("objective") if issubclass(method.supplies, cast(Any, cls).inputs)]
    raise ConfigError(
        f"the objective {objective.name!r} does not fit the method {method.name!r}",
        why=f"it reads {objective.inputs.__name__}, and {method.name} supplies {method.supplies.__name__}",
        fix=f"objectives that fit: {', '.join(fits) or 'none is installed'}",
    )


def _preset(cls: type[Method], name: str | None) -> Mapping[str, Any]:
    if name is None:
        return {}
    if name not in cls.presets:
        raise ConfigError(
            f"the method {cls.name!r} has no preset {name!r}{did_you_mean(name, cls.presets)}",
            why=f"presets: {', '.join(cls.presets) or 'none'}",
        )
    return cls.presets[name].settings


def _environment(known: Mapping[str, Any]) -> dict[str, Any]:
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
        found[key] = yaml.safe_load(text)
    return found


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a key; a mapping without a name refines the component that is already there."""
    old = values.get(key)
    if isinstance(value, Mapping) and "name" not in value and isinstance(old, (str, Mapping)):
        values[key] = {**({"name": old} if isinstance(old, str) else old), **value}
    else:
        values[key] = value


def _set(values: dict[str, Any], text: str) -> str:
    """Apply one ``key=value`` or ``a.b=value``; return the top-level key."""
    path, equals, raw = text.partition("=")
    top, *inner = path.strip().replace("-", "_").split(".")
    if not equals or not top:
        raise ConfigError(f"--set {text!r}: write key=value, or outer.inner=value")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        value = raw
    for part in reversed(inner):
        value = {part: value}
    _put(values, top, value)
    return top


# ---------------------------------------------------------------------------------------------- writing out
def plain(value: Any, *, named: bool = True) -> Any:
    """Components and settings as plain YAML values; ``named``: write a component's name with its settings."""
    if isinstance(value, BaseModel):
        fields = {key: plain(getattr(value, key)) for key in type(value).model_fields}
        return {"name": value.name, **fields} if named and isinstance(value, Component) else fields
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return float(value)
    return str(value) if isinstance(value, Path) else value
