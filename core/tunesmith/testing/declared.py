"""Checks that every component has: that it can be listed, shown, written down and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tunesmith.components import Component
from tunesmith.fieldtypes import help_texts, plain
from tunesmith.plugin_rules import REGISTER, PluginFault, check_component
from tunesmith.testing.imports import ImportProblemError, heavy_imports
from tunesmith.testing.report import Finding, failed, ok, skipped

if TYPE_CHECKING:
    from tunesmith.testing.suite import Checking

UNKNOWN = "no_such_setting"


def declaration(checking: Checking) -> Finding:
    """The loader takes it: its name, its docstring, what its kind asks for."""
    cls = checking.cls
    hook = next(hook for hook, kind in REGISTER.items() if kind == cls.kind)
    try:
        check_component(cls, hook, cls.kind)
    except PluginFault as fault:
        return failed(str(fault))
    return ok(f"{hook} may return it")


def imports(checking: Checking) -> Finding:
    """Importing the module loads no heavy package, so that listing components stays instant."""
    try:
        module, heavy = heavy_imports(checking.cls)
    except ImportProblemError as problem:
        return skipped(str(problem))
    if heavy:
        return failed(f"importing {module} loads {', '.join(heavy)}; import it inside functions")
    return ok(f"importing {module} loads nothing heavy")


def help_of_settings(checking: Checking) -> Finding:
    """Every setting says what it is for: under the field, or as its description."""
    texts = help_texts(checking.cls)
    silent = [name for name, text in texts.items() if not text]
    if silent:
        return failed(f"no help text: {', '.join(silent)}; write a docstring under the field")
    return ok(f"{len(texts)} settings have help texts" if texts else "it has no settings")


def strict_settings(checking: Checking) -> Finding:
    """Settings cannot change after they were checked, and a misspelt one is refused."""
    config = checking.cls.model_config
    if not config.get("frozen"):
        return failed("its settings can be changed after they were checked; leave model_config frozen")
    if config.get("extra") != "forbid":
        return failed('a setting that does not exist is taken; leave model_config with extra="forbid"')
    component = checking.component
    try:
        type(component).model_validate({**written(component), UNKNOWN: 1}, context=checking.context)
    except ValidationError as error:
        if any(problem["loc"] == (UNKNOWN,) for problem in error.errors()):
            return ok("frozen; an unknown setting is refused")
        raise
    return failed(f"the setting {UNKNOWN!r} is taken, and there is none")


def schema(checking: Checking) -> Finding:
    """Editors can be told what its settings look like."""
    found = json.dumps(checking.cls.model_json_schema())
    return ok(f"{len(checking.cls.model_fields)} settings in {len(found):,} bytes")


def run_file(checking: Checking) -> Finding:
    """Written into a run file and read back it is the same, so that a run can be repeated."""
    from tunesmith.runfile import dump, parse_value

    component = checking.component
    again = type(component).model_validate(parse_value(dump(written(component))), context=checking.context)
    fields = type(component).model_fields
    changed = [name for name in fields if not _alike(getattr(again, name), getattr(component, name))]
    if changed or written(again) != written(component):
        return failed(f"read back from a run file, {', '.join(changed) or 'it'} is not what it was")
    return ok("the same when it is written and read back")


def _alike(one: Any, other: Any) -> bool:
    """Equal; of components, the same class and settings, however they were asked for."""
    if isinstance(one, Component) and isinstance(other, Component):
        names = type(one).model_fields
        return type(one) is type(other) and all(_alike(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


def written(component: Any) -> dict[str, Any]:
    """The settings of a component as a run file holds them."""
    found: dict[str, Any] = plain(component, named=False)
    return found


CHECKS: Mapping[str, Callable[[Checking], Finding]] = {
    "declaration": declaration,
    "imports": imports,
    "help": help_of_settings,
    "settings": strict_settings,
    "schema": schema,
    "run file": run_file,
}
