"""What a kind of component is held to: named checks, and what they are made on."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import Parameter, signature
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from tunesmith.components import Component
from tunesmith.config import check_needs, nested_context
from tunesmith.errors import ResourceError, TunesmithError
from tunesmith.plugins import Registry
from tunesmith.testing.report import Finding

R = TypeVar("R")
S = TypeVar("S")
SUITES = {
    "method": "tunesmith.testing.methods:SUITE",
    "objective": "tunesmith.testing.objectives:SUITE",
    "reward": "tunesmith.testing.rewards:SUITE",
    "format": "tunesmith.testing.formats:SUITE",
    "source": "tunesmith.testing.sources:SUITE",
    "scheduler": "tunesmith.testing.schedulers:SUITE",
    "generator": "tunesmith.testing.generators:SUITE",
    "tracker": "tunesmith.testing.trackers:SUITE",
}
"""Kind to where its suite is; imported on use."""
SETUP = "setup"
"""The finding where a component cannot even be made ready to be checked."""
LOADING = "loading"
"""The finding where something that it needs is not installed."""


class Unchecked(Exception):
    """Raised by `Suite.subject` where nothing that the component does can be checked.

    Args:
        finding: the only one that there is then; ``skipped`` where something is missing here.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.seen)
        self.finding = finding


def _all(cls: type[Component], names: Collection[str]) -> Collection[str]:
    return names


@dataclass(frozen=True, slots=True)
class Suite(Generic[S]):
    """The checks of a kind.

    Attributes:
        kind: of the components.
        subject: makes ready what the checks are made on, once for all of them: called with the component and the
            registry, and with data of the author's as keyword-only arguments. It may raise `Unchecked`, or
            `ResourceError` where something is not installed.
        checks: name to check, in the order of the report. A check returns `ok`, `failed` or `skipped` with what it
            saw; where the component raises, so may the check.
        applies: which of these names there are for a class.
    """

    kind: str
    subject: Callable[..., AbstractContextManager[S]]
    checks: Mapping[str, Callable[[S], Finding]]
    applies: Callable[[type[Component], Collection[str]], Collection[str]] = _all

    def names(self, cls: type[Component]) -> list[str]:
        """The names of the checks of a class."""
        return list(self.applies(cls, list(self.checks)))

    def data(self) -> set[str]:
        """The names of what an author may bring to the checks, such as ``rows``."""
        parameters = signature(self.subject).parameters.values()
        return {parameter.name for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY}


def suite_of(kind: str) -> Suite[Any] | None:
    """The suite of a kind; ``None`` where there are no checks but those that every component has."""
    if kind not in SUITES:
        return None
    module, _, name = SUITES[kind].partition(":")
    found: Suite[Any] = getattr(importlib.import_module(module), name)
    return found


def names_of(cls: type[Component]) -> list[str]:
    """All checks of a class, in their order: first what is declared, then what it does."""
    from tunesmith.testing.declared import CHECKS

    suite = suite_of(cls.kind)
    return [*CHECKS, *(suite.names(cls) if suite else [])]


class Checking:
    """A component while it is checked. Nothing is made before it is needed; leaving the context cleans up.

    Args:
        cls: its class.
        make: makes it; called with an empty folder.
        registry: where components that it names are looked up.
        data: for `Suite.subject`.
    """

    def __init__(
        self, cls: type[Component], make: Callable[[Path], Component], registry: Registry, data: Mapping[str, Any]
    ) -> None:
        from tunesmith.testing.declared import CHECKS

        self.cls, self.registry = cls, registry
        self._make, self._data, self._stack = make, data, ExitStack()
        self._suite = suite_of(cls.kind)
        self._declared = CHECKS
        self._unready: Finding | None = None

    @property
    def names(self) -> list[str]:
        """All checks, in their order."""
        return names_of(self.cls)

    @cached_property
    def component(self) -> Component:
        """The component, made in a folder of its own."""
        return self._make(Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-check-"))))

    @cached_property
    def _subject(self) -> Any:
        assert self._suite is not None, "only its checks ask for it"
        return self._stack.enter_context(self._suite.subject(self.component, self.registry, **self._data))

    @property
    def context(self) -> dict[str, Any]:
        """What settings are validated with, so that they can name other components."""
        return nested_context(self.registry)

    def check(self, name: str) -> Finding:
        """Make one check. Raises what the component raises in it."""
        if name in self._declared:
            return replace(self._declared[name](self), check=name)
        assert self._suite is not None, name
        unready = self.unready()
        if unready is None:
            return replace(self._suite.checks[name](self._subject), check=name)
        if unready.check == name or unready.check not in self.names:
            return unready
        return Finding(name, "skipped", unready.seen)

    def unready(self) -> Finding | None:
        """Why nothing that it does can be checked, if that is so.

        Raises:
            TunesmithError: the component cannot be made, or what it is to be checked with is wrong.
        """
        if self._unready is None and self._suite is not None:
            try:
                check_needs(self.cls)
                self._subject  # noqa: B018  (made here, kept by the property)
            except Unchecked as reason:
                self._unready = reason.finding
            except ResourceError as error:
                self._unready = Finding(LOADING, "skipped", "; ".join(filter(None, (error.what, error.why, error.fix))))
        return self._unready

    def findings(self) -> Iterator[Finding]:
        """Make all checks, each finding as soon as it is known. What the component raises in one is a finding.

        Raises:
            TunesmithError: the component cannot be made, or what it is to be checked with is wrong.
        """
        self.component  # noqa: B018  (an error of the author's settings, not a finding)
        unready = self._caught(SETUP, self.unready, TunesmithError)
        for name in self._declared:
            yield self.finding(name)
        if unready is not None:
            yield unready
        elif self._suite is not None:
            for name in self._suite.names(self.cls):
                yield self.finding(name)

    def finding(self, name: str) -> Finding:
        """Make one check; what the component raises in it is a finding."""
        return self._caught(name, partial(self.check, name))

    def _caught(self, name: str, made: Callable[[], R], but: type[Exception] | tuple[()] = ()) -> R | Finding:
        try:
            return made()
        except but:
            raise
        except Exception as error:  # a stranger's component may raise anything: that is what a check finds out
            return Finding(name, "failed", f"raised {type(error).__name__}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the checks hold."""
        self._stack.close()
