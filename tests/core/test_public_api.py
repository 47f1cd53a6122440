"""What plugins are written against stays: names, settings, signatures, hooks.

`public_api/MINOR.json` says what there was in a released minor version; everything in it must still fit. What a new
minor version adds is frozen by writing its own file when it is released:

    python tests/core/test_public_api.py > tests/core/public_api/0.1.json
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith import hookspecs
from tunesmith.plugin_rules import HOOKS
from tunesmith.testing import __all__ as kit

FROZEN = sorted(Path(__file__).with_name("public_api").glob("*.json"))


# ---------------------------------------------------------------------------------------------- what there is
def parameters(function: Any) -> list[list[Any]]:
    """Name, kind, and whether it may be left out, of every parameter."""
    return [
        [p.name, p.kind.name, p.default is not p.empty]
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]


def functions_of(cls: type) -> dict[str, list[list[Any]]]:
    """The public methods of a class, but for those that pydantic or a tuple brings."""
    found = {}
    for base in reversed(cls.__mro__):
        if not base.__module__.startswith("tunesmith"):
            continue
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
                found[name] = parameters(function)
    return found


def settings_of(cls: type) -> dict[str, bool]:
    """Settings, or fields of a dataclass; and whether each must be given."""
    if dataclasses.is_dataclass(cls):
        empty = dataclasses.MISSING
        return {f.name: f.default is empty and f.default_factory is empty for f in dataclasses.fields(cls)}
    return {name: info.is_required() for name, info in getattr(cls, "model_fields", {}).items()}


def declared_in(cls: type) -> list[str]:
    """Class variables that a component may declare."""
    return sorted(getattr(cls, "__class_vars__", ()))


def api() -> dict[str, Any]:
    """All that is public, for plugins and their tests."""
    classes, functions = {}, {}
    for name in tunesmith.__all__:
        value = getattr(tunesmith, name)
        if inspect.isclass(value):
            classes[name] = {
                "component": issubclass(value, tunesmith.Component),
                "settings": settings_of(value),
                "declared": declared_in(value),
                "functions": functions_of(value),
            }
        elif inspect.isfunction(value):
            functions[name] = parameters(value)
    hooks = {name: [p[0] for p in parameters(getattr(hookspecs, name))] for name in HOOKS}
    return {
        "names": sorted(tunesmith.__all__),
        "testing": sorted(kit),
        "classes": classes,
        "functions": functions,
        "hooks": hooks,
    }


# ---------------------------------------------------------------------------------------------- what still fits
def broken(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a plugin that was written against ``before`` can trip over."""
    found = [
        f"{kind}: {name} is gone" for kind in ("names", "testing") for name in before[kind] if name not in now[kind]
    ]
    for name, arguments in before["hooks"].items():
        found += [f"hook {name}: lost {one}" for one in arguments if one not in now["hooks"].get(name, ())]
    for name, had in before["functions"].items():
        found += [f"{name}: {problem}" for problem in narrowed(had, now["functions"].get(name), exact=False)]
    for name, had in before["classes"].items():
        has = now["classes"].get(name)
        if has is not None:
            found += [f"{name}.{problem}" for problem in broken_class(had, has)]
    return found


def broken_class(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: no longer declared" for name in before["declared"] if name not in now["declared"]]
    found += [f"{name}: the setting is gone" for name in before["settings"] if name not in now["settings"]]
    found += [
        f"{name}: must be given now"
        for name, must in now["settings"].items()
        if must and not before["settings"].get(name)
    ]
    for name, had in before["functions"].items():
        # what a plugin overrides is called by us: one more argument would reach a function that does not take it
        found += [
            f"{name}: {problem}" for problem in narrowed(had, now["functions"].get(name), exact=before["component"])
        ]
    return found


def narrowed(before: list[list[Any]], now: list[list[Any]] | None, *, exact: bool) -> list[str]:
    """Why calls, or overrides where ``exact``, that fitted a signature do not fit it any more."""
    if now is None:
        return ["is gone"]
    if exact:
        return [] if before == now else ["has another signature"]
    lost = [f"lost {old[0]}" for old, new in zip(before, now, strict=False) if old[:2] != new[:2] or old[2] > new[2]]
    lost += [f"lost {old[0]}" for old in before[len(now) :]]
    added = now[len(before) :]
    return lost + [f"needs {name}" for name, kind, optional in added if not optional and not kind.startswith("VAR")]


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_plugins_of_this_minor_version_still_fit(path: Path) -> None:
    assert broken(json.loads(path.read_text(encoding="utf-8")), api()) == []


def test_the_present_minor_version_is_frozen() -> None:
    assert tunesmith.__version__.rpartition(".")[0] in {path.stem for path in FROZEN}


def test_every_name_is_there_and_documented() -> None:
    for name in tunesmith.__all__:
        value = getattr(tunesmith, name)
        assert not inspect.isclass(value) or (value.__doc__ or "").strip(), name


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda new: new["names"].remove("Reward"), "names: Reward is gone"),
        (lambda new: new["hooks"]["tunesmith_step_ended"].remove("metrics"), "hook tunesmith_step_ended: lost metrics"),
        (lambda new: new["functions"]["nearest"].append(["how", "KEYWORD_ONLY", False]), "nearest: needs how"),
        (lambda new: new["functions"]["nearest"].pop(), "nearest: lost known"),
        (lambda new: new["classes"]["Reward"]["settings"].pop("weight"), "Reward.weight: the setting is gone"),
        (lambda new: new["classes"]["Card"]["settings"].update(goals=True), "Card.goals: must be given now"),
        (
            lambda new: new["classes"]["Method"]["functions"]["forward"].append(["step", "KEYWORD_ONLY", True]),
            "Method.forward: has another signature",
        ),
        (lambda new: new["classes"]["Method"]["declared"].remove("roles"), "Method.roles: no longer declared"),
    ],
)
def test_what_breaks_plugins_is_found(spoil: Any, said: str) -> None:
    new = json.loads(json.dumps(api()))
    spoil(new)
    assert said in broken(api(), new)


def test_growing_breaks_nothing() -> None:
    new = json.loads(json.dumps(api()))
    new["names"].append("Another")
    new["hooks"]["tunesmith_step_ended"].append("more")
    new["functions"]["nearest"].append(["how", "KEYWORD_ONLY", True])
    new["classes"]["Card"]["settings"]["goals"] = False
    assert broken(api(), new) == []


if __name__ == "__main__":  # a line for every class and function, so that a difference can be read
    parts = [
        f"{json.dumps(part)}: "
        + ("[" if isinstance(listed, list) else "{")
        + "\n"
        + ",\n".join(
            f" {json.dumps(one)}" if isinstance(listed, list) else f" {json.dumps(one)}: {json.dumps(listed[one])}"
            for one in listed
        )
        + ("]" if isinstance(listed, list) else "}")
        for part, listed in api().items()
    ]
    print("{", ",\n".join(parts), "}", sep="\n")
