"""Programs against tests. What is expected stays on this side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunesmith.sandbox import Calls, Limits, Outcome, Program, Sandbox
from tunesmith_rewards.code.cases import Called, Case, Printed
from tunesmith_rewards.code.compare import same_text, same_value
from tunesmith_rewards.code.languages import COMPILING, Toolchain

Verdict = Literal[
    "pass", "wrong", "runtime_error", "timeout", "memory", "output_limit", "compile_error", "refused", "infrastructure"
]


@dataclass(frozen=True, slots=True)
class Rules:
    """How programs are held against tests.

    Attributes:
        limits: of one test: ``cpu`` and ``wall`` seconds, memory, output.
        total: seconds for all tests of a program with its compilation.
        compile_seconds: processor time of the compiler.
        tolerance: of numbers, see `compare`.
        every: False stops at the first test that fails.
    """

    limits: Limits
    total: float
    compile_seconds: float
    tolerance: float
    every: bool


class BrokenSandboxError(Exception):
    """The sandbox could not do its work; what was run is not to blame."""


def grade(source: str, cases: Sequence[Case], tools: Toolchain, sandbox: Sandbox, rules: Rules) -> list[Verdict]:
    """A verdict for each test, in order; shorter where it stops at the first that fails.

    Raises:
        BrokenSandboxError: with what is known.
    """
    deadline = time.monotonic() + rules.total
    binary = None
    compiler = tools.compiler(source)
    if compiler is not None:
        wall = 2 * rules.compile_seconds
        built = _sound(sandbox, compiler, b"", replace(COMPILING, cpu=rules.compile_seconds, wall=wall))
        if built.ending != "ok" or built.collected is None:
            return ["compile_error"] * (len(cases) if rules.every else 1)
        binary = built.collected
    verdicts: dict[int, Verdict] = {}
    called = {i: case for i, case in enumerate(cases) if isinstance(case, Called)}
    if called:
        found = _call(source, list(called.values()), sandbox, rules, deadline)
        verdicts |= zip(called, found, strict=True)
    printed = {i: case for i, case in enumerate(cases) if isinstance(case, Printed)}
    if printed and (rules.every or all(verdict == "pass" for verdict in verdicts.values())):
        limits = rules.limits
        if tools.language.reserves:
            limits = replace(limits, address_space=0, processes=max(64, limits.processes))
        program = tools.program(source, binary, limits.memory)
        found = _print(program, list(printed.values()), sandbox, limits, rules, deadline)
        verdicts |= zip(printed, found, strict=False)
    return [verdicts[i] for i in sorted(verdicts)]


def _sound(sandbox: Sandbox, program: Program, given: bytes, limits: Limits, outcome: Outcome | None = None) -> Outcome:
    """Run it, if it has not been; once more where the sandbox failed."""
    outcome = sandbox.run(program, given, limits) if outcome is None else outcome
    if outcome.ending == "infrastructure":
        outcome = sandbox.run(program, given, limits)
    if outcome.ending == "infrastructure":
        raise BrokenSandboxError(outcome.why)
    return outcome


def _print(
    program: Program, cases: Sequence[Printed], sandbox: Sandbox, limits: Limits, rules: Rules, deadline: float
) -> list[Verdict]:
    """A fresh process tree for every test, as many at a time as the sandbox runs."""
    found: list[Verdict] = []
    while len(found) < len(cases) and (rules.every or all(verdict == "pass" for verdict in found)):
        left = deadline - time.monotonic()
        if left <= 0:
            found.append("timeout")
            continue
        some = cases[len(found) : len(found) + sandbox.concurrency]
        within = replace(limits, wall=min(limits.wall, left))
        outcomes = sandbox.run_all((program, case.given.encode(), within) for case in some)
        for case, outcome in zip(some, outcomes, strict=True):
            sound = _sound(sandbox, program, case.given.encode(), within, outcome)
            found.append(_printed(case, sound, rules.tolerance))
    return found


def _printed(case: Printed, outcome: Outcome, tolerance: float) -> Verdict:
    if outcome.ending == "ok":
        return "pass" if same_text(outcome.stdout, case.output, tolerance) else "wrong"
    return outcome.ending


def _call(source: str, cases: Sequence[Called], sandbox: Sandbox, rules: Rules, deadline: float) -> list[Verdict]:
    """One process for all calls of a function; a test that never reports has failed."""
    found: list[Verdict] = ["wrong"] * len(cases)
    for name in dict.fromkeys(case.function for case in cases):
        own = [number for number, case in enumerate(cases) if case.function == name]
        left = max(0.1, deadline - time.monotonic())
        cpu = rules.limits.wall if rules.limits.cpu is None else rules.limits.cpu
        limits = replace(rules.limits, wall=left, quiet=rules.limits.wall, cpu=min(left, cpu * len(own)))
        calls = [(cases[number].args, cases[number].kwargs) for number in own]
        outcome = _sound(sandbox, Calls(source, name, calls), b"", limits)
        for place, number in enumerate(own):
            report = outcome.reports.get(place)
            if report is None:
                found[number] = "runtime_error" if outcome.ending == "ok" else outcome.ending
            elif report.error is not None:
                found[number] = "runtime_error"
            elif any(same_value(report.value, right, rules.tolerance) for right in cases[number].expected):
                found[number] = "pass"
    return found
