"""The table of checks by component, as `tunesmith check --all --json` found them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tunesmith
from generating.catalogue import built_in
from tunesmith import KINDS
from tunesmith.plugins import Registry

MARKS = {"ok": "ok", "failed": "**failed**", "skipped": "-"}
ABOVE = """\
# Conformance

<!-- made by docs/generate.py --checks -->

`tunesmith check --all` with tunesmith {version} on a CPU: {components} components that are built in, {made:,} checks
made, {failed} failed, {skipped} skipped for the reasons below. A plugin of yours is held to the same: `tunesmith check
KIND NAME`, or `tunesmith.testing.conformance` in a test.

`ok`: made and passed. `-`: skipped. An empty cell: there is no such check for the component.
"""


def page(found: Mapping[str, Any]) -> str:
    """The page of what the command printed."""
    reports = [report for report in found["components"] if report["name"] in _names(report["kind"])]
    states = [check["state"] for report in reports for check in report["checks"]]
    counts = {state: states.count(state) for state in MARKS}
    head = ABOVE.format(
        version=tunesmith.__version__, components=len(reports), made=counts["ok"] + counts["failed"], **counts
    )
    parts = [head]
    for kind in KINDS:
        own = [report for report in reports if report["kind"] == kind]
        parts += _kind(kind, own) if own else []
    return "\n".join(parts)


def _names(kind: str) -> set[str]:
    return {cls.name for _, cls in built_in().entries(kind)}


def _kind(kind: str, reports: Sequence[Mapping[str, Any]]) -> list[str]:
    checks = _checks(kind)
    lines = [f"## {kind.capitalize()}s", "", *(f"{i}. {name}" for i, name in enumerate(checks, start=1)), ""]
    lines += [f"| | {' | '.join(str(i) for i in range(1, len(checks) + 1))} |", f"|---|{'---|' * len(checks)}"]
    reasons: dict[str, list[str]] = {}
    for report in reports:
        states = _states(report)
        cells = [MARKS[states[name]] if name in states else "" for name in checks]
        lines.append(f"| `{report['name']}` | {' | '.join(cells)} |")
        for check in report["checks"]:
            if check["state"] != "ok":
                reasons.setdefault(f"{check['check']}: {check['seen']}", []).append(report["name"])
    lines += ["", *(f"- {text.replace('<', '&lt;')} ({', '.join(names)})" for text, names in reasons.items())]
    return [*lines, ""]


def _states(report: Mapping[str, Any]) -> dict[str, str]:
    """The state of every check of a component, also where it could not even be made ready."""
    names = dict(_expected(built_in(), report["kind"]))[report["name"]]
    return {**dict.fromkeys(names, "skipped"), **{check["check"]: check["state"] for check in report["checks"]}}


def _checks(kind: str) -> list[str]:
    from tunesmith.testing.declared import CHECKS
    from tunesmith.testing.suite import suite_of

    suite = suite_of(kind)
    return [*CHECKS, *(suite.checks if suite else ())]


def _expected(registry: Registry, kind: str) -> Iterator[tuple[str, list[str]]]:
    from tunesmith.testing.suite import names_of

    for _, cls in registry.entries(kind):
        yield cls.name, names_of(cls)


# ---------------------------------------------------------------------------------------------- is it still true
def drift(text: str) -> list[str]:
    """How the names of components and checks in the page differ from those that there are, a line each."""
    registry, found = built_in(), []
    sections = {title.lower(): body for title, body in re.findall(r"^## (\w+)$(.*?)(?=^## |\Z)", text, re.M | re.S)}
    for kind in KINDS:
        checks, rows = _read(sections.get(f"{kind}s", ""))
        if checks != _checks(kind):
            found.append(f"other checks than there are for a {kind}")
        expected = dict(_expected(registry, kind))
        for name in sorted({*rows, *expected}):
            if rows.get(name) != expected.get(name):
                found.append(f"{kind} {name} has other checks than in the table, or is not in both")
    return found


def _read(section: str) -> tuple[list[str], dict[str, list[str]]]:
    """The names of a section's checks, and those that each component has."""
    checks = re.findall(r"^\d+\. (.+)$", section, re.M)
    rows = {}
    for name, cells in re.findall(r"^\| `([\w-]+)` \|(.*)\|$", section, re.M):
        rows[name] = [check for check, cell in zip(checks, cells.split("|"), strict=True) if cell.strip()]
    return checks, rows
