"""The base of all components: settings that are fields, and fields that name other components."""

# annotations are evaluated here, once: as strings they would be anew for every component there is (PEP 563)

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

Build = Callable[[str, Any], "Component"]
COMPONENT_MARK = "x-component"
"""In the JSON schema of settings: the kind of the component that stands there."""


class Settings(BaseModel):
    """Frozen settings; the docstring under a field is its help (`tunesmith.fieldtypes.help_texts`); no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, defer_build=True)


class Component(Settings):
    """Base of everything that a plugin registers."""

    kind: ClassVar[str]
    """What it is (method, objective, ...); set by the base classes below."""
    name: ClassVar[str]
    """What a run file writes; kebab-case."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Import names of extra packages, checked when the component is built."""
    replaces: ClassVar[str] = ""
    """``plugin/name`` or ``package/name`` of a component of the same kind and name that this one stands in for: the
    plain name then means this one, and users are told. Without it two components of one name are an error on use."""
    _selector: str = ""

    @property
    def selector(self) -> str:
        """What to write in a run file to get this component again: its name, or ``plugin/name`` as it was asked for."""
        return self._selector or self.name

    def selected_by(self, selector: str) -> Self:
        """Remember how the component was asked for."""
        self._selector = selector
        return self

    def needed_from_outside(self) -> Iterable[tuple[Literal["dataset", "address"], str]]:
        """What it would ask a network for (`tunesmith doctor --offline`): data sets of the hub by name, addresses."""
        return ()

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Settings that `tunesmith check` makes the component with where none are given: small, quick, no network.

        Args:
            folder: an empty one, for files that the settings speak of.
        """
        return {}


def named(kind: str) -> Any:
    """Accept a component, its name, or a mapping of its name and settings."""

    def resolve(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Component) or value is None:
            return value
        build: Build | None = (info.context or {}).get("build")
        if build is None:
            raise ValueError(f"{value!r} names a {kind}, which only tunesmith.config.build can look up")
        return build(kind, value)

    return BeforeValidator(resolve)


def written_as(kind: str) -> WithJsonSchema:
    """A name or a mapping; which names there are is known only when the plugins are loaded."""
    return WithJsonSchema({"type": ["string", "object"], COMPONENT_MARK: kind})
