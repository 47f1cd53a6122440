"""What the annotation of a setting says: for help texts, flags and values that arrive as text."""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from tunesmith.components import Component, DataSpec

_WORDS = {
    bool: "true|false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    type(None): "null",
    DataSpec: "data",
}


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of a setting.

    Attributes:
        base: the class of one value, or ``None`` where several are possible.
        label: how the type is written for people, such as ``number`` or ``objective``.
        optional: True when ``null`` is a value too.
        many: True for a list; ``base`` is then the class of an item.
        choices: the values of a ``Literal``.
    """

    base: type | None
    label: str
    optional: bool = False
    many: bool = False
    choices: tuple[str, ...] = field(default=())

    @property
    def is_text(self) -> bool:
        """True when a value is text as it stands, also where it looks like a number."""
        return self.base in (str, Path) and not self.many

    @property
    def is_model(self) -> bool:
        """True for components and other groups of settings, which are names or mappings."""
        return self.base is not None and issubclass(self.base, BaseModel)

    @property
    def is_component(self) -> bool:
        """True for components."""
        return self.base is not None and issubclass(self.base, Component)


def field_type(annotation: Any) -> FieldType:
    """Read an annotation such as ``int | None`` or ``tuple[AnyTracker, ...]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return field_type(arguments[0])
    if origin in (Union, types.UnionType):
        return _union([argument for argument in arguments if argument is not type(None)], len(arguments))
    if origin is Literal:
        return FieldType(str, "|".join(str(choice) for choice in arguments), choices=tuple(map(str, arguments)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return FieldType(dict, "mapping")
    if isinstance(origin, type) and issubclass(origin, (Sequence, set, frozenset)):
        item = field_type(arguments[0]) if arguments else FieldType(None, "value")
        return FieldType(item.base, f"list of {item.label}", many=True)
    return FieldType(annotation, _word(annotation)) if isinstance(annotation, type) else FieldType(None, "value")


def _union(members: Sequence[Any], total: int) -> FieldType:
    optional = len(members) < total
    inner = [field_type(member) for member in members]
    if len(inner) == 1:
        only = inner[0]
        return FieldType(only.base, only.label, optional, only.many, only.choices)
    return FieldType(None, "|".join(member.label for member in inner), optional)


def _word(cls: type) -> str:
    if issubclass(cls, Component):
        return cls.kind
    return _WORDS.get(cls, cls.__name__.lower())


def from_text(kind: FieldType, text: str) -> Any:
    """The value that a word on the command line or in the environment stands for.

    Lists may be written with commas, but for lists of data, as a path may hold one. Components and data are their
    names, or YAML mappings.
    """
    from tunesmith.runfile import parse_value  # YAML takes a while to import, and help texts do not need it

    written_out = text.lstrip().startswith(("{", "["))
    if text.lower() in ("null", "none") and (kind.optional or kind.many):
        return () if kind.many else None
    if kind.many and not written_out and (kind.is_component or not kind.is_model):
        item = FieldType(kind.base, "", choices=kind.choices)
        return tuple(from_text(item, part.strip()) for part in text.split(",") if part.strip())
    if kind.choices:
        return next((choice for choice in kind.choices if choice == text.replace("_", "-")), text)
    if kind.is_text or (kind.is_model and not written_out):
        return text
    return parse_value(text)


def plain(value: Any, *, named: bool = True) -> Any:
    """Components and settings as plain YAML values; ``named``: write a component's name with its settings."""
    if isinstance(value, BaseModel):
        fields = {key: plain(getattr(value, key)) for key in type(value).model_fields}
        return {"name": value.selector, **fields} if named and isinstance(value, Component) else fields
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


# ---------------------------------------------------------------------------------------------- help texts
@lru_cache(maxsize=256)
def help_texts(cls: type[BaseModel]) -> Mapping[str, str]:
    """The help of every setting: its ``Field(description=...)``, or the docstring under it.

    pydantic can read these docstrings by itself, but does so for every class when it is created; that took a quarter
    of the time of commands that print none of them.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, BaseModel) and inspect.get_annotations(base):
            texts |= _docstrings(base)
    described = {name: info.description for name, info in cls.model_fields.items() if info.description}
    texts |= described
    return {name: " ".join(inspect.cleandoc(texts.get(name, "")).split()) for name in cls.model_fields}


def _docstrings(cls: type) -> dict[str, str]:
    """Attribute name to the string literal under it, for the attributes that the class itself declares."""
    own = set(inspect.get_annotations(cls))
    for body in _class_bodies(cls.__module__).get(cls.__name__, []):
        if own <= {_target(statement) for statement in body}:
            return {
                _target(field): text for field, below in pairwise(body) if _target(field) and (text := _literal(below))
            }
    return {}


@lru_cache(maxsize=64)
def _class_bodies(module: str) -> dict[str, list[list[ast.stmt]]]:
    """The bodies of all classes of a module by the class's name; empty where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):
        return {}
    bodies: dict[str, list[list[ast.stmt]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bodies.setdefault(node.name, []).append(node.body)
    return bodies


def _target(statement: ast.stmt) -> str:
    """The name that an annotated assignment declares, or an empty string."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return ""


def _literal(statement: ast.stmt) -> str:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
