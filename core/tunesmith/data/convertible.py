"""Which formats can become which. Help pages ask this, so nothing heavy is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tunesmith.components import DataFormat
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.plugins import Registry


def convertible(registry: Registry, target: type[DataFormat]) -> list[type[DataFormat]]:
    """The formats whose rows can become rows of ``target``."""
    takes = (target.produces, *(converter.takes for converter in target.converters))
    formats = [cast(type[DataFormat], cls) for _, cls in registry.current(DataFormat.kind)]
    return [cls for cls in formats if issubclass(cls.produces, takes)]


def written_by(registry: Registry, name: str) -> type[DataFormat]:
    """The format of this name. Raises `ConfigError` when there is none, or when it is only read."""
    target = cast(type[DataFormat], registry.get(DataFormat.kind, name))
    if target.to_row is not DataFormat.to_row:
        return target
    formats = [cast(type[DataFormat], cls) for _, cls in registry.current(DataFormat.kind)]
    names = sorted({cls.name for cls in formats if cls.to_row is not DataFormat.to_row})
    raise ConfigError(
        f"the format {name!r} is only read, not written", fix=f"formats that can be written: {', '.join(names)}"
    )


def settings_of(registry: Registry, target: type[DataFormat]) -> dict[str, type[Any]]:
    """The settings that a conversion to ``target`` may have: name to the class that has it."""
    classes = [*target.converters, target, *convertible(registry, target)]
    return {name: cls for cls in reversed(classes) for name in cls.model_fields}
