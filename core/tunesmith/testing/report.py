"""What a component was checked for, and what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunesmith.data.report import printable


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name.
        state: ok, failed, or skipped where it could not be made or does not apply.
        seen: what was seen, or why it was skipped.
    """

    check: str
    state: Literal["ok", "failed", "skipped"]
    seen: str


def ok(seen: str) -> Finding:
    """A check that passed; its name is that under which its suite has it."""
    return Finding("", "ok", seen)


def failed(seen: str) -> Finding:
    """A check that failed."""
    return Finding("", "failed", seen)


def skipped(why: str) -> Finding:
    """A check that could not be made or does not apply."""
    return Finding("", "skipped", why)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about a component, in the order of the checks. As text: a line per check.

    Attributes:
        kind: of the component.
        name: of the component.
        findings: one per check.
    """

    kind: str
    name: str
    findings: Sequence[Finding]

    @property
    def failed(self) -> list[Finding]:
        """What must be put right: ``assert not report.failed`` in a test prints it."""
        return [finding for finding in self.findings if finding.state == "failed"]

    @property
    def skipped(self) -> list[Finding]:
        """What was not checked, and why."""
        return [finding for finding in self.findings if finding.state == "skipped"]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        findings = [{**asdict(finding), "seen": printable(finding.seen)} for finding in self.findings]
        return {"schema": 1, "kind": self.kind, "name": self.name, "ok": not self.failed, "checks": findings}

    def __str__(self) -> str:
        return "\n".join(f"{finding.check}: {finding.state}: {printable(finding.seen)}" for finding in self.findings)
