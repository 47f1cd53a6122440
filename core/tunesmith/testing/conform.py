"""The checks of a component in one call: as a report, or as a test function of pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith.components import KINDS, Component
from tunesmith.config import nested_context
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.explain import explain
from tunesmith.plugins import Registry, article, load
from tunesmith.testing.report import Report
from tunesmith.testing.suite import Checking, suite_of

installed = cache(load)
"""The registry of all installed plugins, loaded once."""


def check(component: Component | type[Component] | str, **options: Any) -> Report:
    """Check a component and report every finding.

    Args:
        component: an instance; or its class, or the name of a registered one (``NAME`` or ``KIND/NAME``), which are
            made with the settings among the options, beside those of `Component.settings_for_checks`.
        options: settings of a class, and what its kind is checked with, such as ``rows``.

    Raises:
        ConfigError: there is no such component or setting.
        DataError: what it is to be checked with is wrong.
    """
    with checking(component, options) as asked:
        return Report(asked.cls.kind, asked.cls.name, list(asked.findings()))


def conformance(component: Component | type[Component] | str, **options: Any) -> Callable[..., None]:
    """A test function for pytest with a case for every check; the arguments are those of `check`.

    A module of tests needs no more than ``test_conformance = conformance(MyThing)``. What cannot be checked is skipped
    with the reason.
    """
    import pytest

    asked = checking(component, options)
    label = f"{asked.cls.kind} {asked.cls.name}"

    @pytest.mark.parametrize("check", asked.names)
    def test_conformance(check: str, request: pytest.FixtureRequest) -> None:
        # the module and not the case: all cases share what is expensive to make ready
        module = request.node.getparent(pytest.Module)
        assert module is not None, request.node
        module.addfinalizer(asked.close)
        finding = asked.check(check)
        if finding.state == "skipped":
            pytest.skip(finding.seen)
        if finding.state == "failed":
            pytest.fail(f"{label}: {finding.check}: {finding.seen}", pytrace=False)

    return test_conformance


def checking(
    component: Component | type[Component] | str, options: Mapping[str, Any], registry: Registry | None = None
) -> Checking:
    """A component that is ready to be checked; for the arguments see `check`.

    Args:
        component: what to check.
        options: settings and data.
        registry: where names are looked up; by default all installed plugins.
    """
    registry = registry or installed()
    if isinstance(component, str):
        component = find(registry, component)
    cls = component if isinstance(component, type) else type(component)
    suite = suite_of(cls.kind)
    names = suite.data() if suite else set()
    data = {name: value for name, value in options.items() if name in names}
    settings = {name: value for name, value in options.items() if name not in names}
    if isinstance(component, type):
        return Checking(cls, partial(made, cls, settings, registry), registry, data)
    if settings:
        raise ConfigError(
            f"{cls.__name__}(...) has its settings already; {', '.join(settings)} cannot be given beside it",
            why=f"what a {cls.kind} can be checked with: {', '.join(sorted(names)) or 'nothing'}",
            fix=f"give the class: {cls.__name__}, or another {cls.__name__}(...)",
        )
    return Checking(cls, lambda folder: component, registry, data)


def find(registry: Registry, word: str) -> type[Component]:
    """The component that ``NAME`` or ``KIND/NAME`` means, of whatever kind.

    Raises:
        ConfigError: there is none, or there are several.
    """
    kind, slash, name = word.partition("/")
    if slash and kind in KINDS:
        return registry.get(kind, name)
    bare = word.rpartition("/")[2].replace("_", "-")
    kinds = [kind for kind in KINDS if bare in registry.names(kind)]
    if len(kinds) == 1:
        return registry.get(kinds[0], word)
    known = sorted({name for kind in KINDS for name in registry.names(kind)})
    if not kinds:
        raise ConfigError(
            f"there is no component {word!r}{did_you_mean(bare, known)}",
            fix="see `tunesmith list`, and `tunesmith plugins` for faults",
        )
    raise ConfigError(
        f"{word!r} is {' and '.join(map(article, kinds))}",
        fix=f"write {' or '.join(f'{kind}/{bare}' for kind in kinds)}",
    )


def made(cls: type[Component], settings: Mapping[str, Any], registry: Registry, folder: Path) -> Component:
    """The component with these settings, or with its own for checks where there are none; these also fill in for
    settings that it cannot do without.

    Raises:
        ConfigError: a setting is missing, unknown or wrong.
    """
    own = cls.settings_for_checks(folder)
    required = {name for name, info in cls.model_fields.items() if info.is_required()}
    given = {**{name: value for name, value in own.items() if not settings or name in required}, **settings}
    missing = sorted(required - set(given))
    if missing:
        raise ConfigError(
            f"the {cls.kind} {cls.name!r} cannot be checked without {', '.join(missing)}",
            fix=f"add {' '.join(f'--set {key}=...' for key in missing)}; see `tunesmith show {cls.kind}/{cls.name}`",
        )
    try:
        return cls.model_validate(given, context=nested_context(registry))
    except ValidationError as error:
        raise explain(error, cls, f"{cls.kind} {cls.name}") from None
