"""The checks of methods pass what is right, and each finds the one thing that it looks for."""

import json
import sys
from pathlib import Path

import pytest

from tunesmith.plugins import import_file, load
from tunesmith.testing import Unchecked
from tunesmith.testing.methods import SUITE, subject

PLUGIN = Path(__file__).parent / "odd_methods.py"
odd = import_file(PLUGIN)
sys.modules.setdefault("odd_methods", odd)


@pytest.fixture(scope="module")
def registry():
    return load()


@pytest.fixture(scope="module")
def states(registry):
    """``states(method)``: the state of every check, and what was seen."""

    def of(method, **data):
        found = {}
        with subject(method, registry, **data) as trial:
            for name, check in SUITE.checks.items():
                try:
                    found[name] = check(trial)
                except LookupError as error:
                    found[name] = error
        return found

    return of


def failures(found):
    return {name for name, finding in found.items() if getattr(finding, "state", "failed") == "failed"}


def test_a_method_that_keeps_its_promises_passes_every_check(states):
    found = states(odd.Right())
    assert failures(found) == set()
    assert {name for name, finding in found.items() if finding.state == "skipped"} == {"first step"}


@pytest.mark.parametrize(
    ("method", "check", "seen"),
    [
        (odd.Idle(), "roles", "it declares reference and never asks for it"),
        (odd.Moved(), "start", "log-probabilities of the policy differ from the base's by"),
        (odd.Unheld(), "first step", "not 0.693147, on a model to which all is equally likely"),
        (odd.Bent(), "gradient", "along its own direction it is"),
        (odd.PathDependent(), "packing", "in one stream without padding: the loss differs"),
        (odd.PathDependent(path="padded"), "padding", "padded to one length: the loss differs"),
        (odd.PartMean(), "micro-batches", "in parts of 40 tokens: the loss differs"),
        (odd.OwnMean(), "ranks", "one process, and two: the loss differs"),
        (odd.Places(), "row order", "in another: the loss differs"),
        (odd.WholeLength(), "masked tokens", "with untrained tokens at the end: the loss differs"),
        (odd.Thawed(), "adapter", "weights of the frozen base have changed"),
        (odd.Forgetful(), "resume", "it ends with other weights"),
        (odd.Backwards(), "learning", "it does not learn: log-probability of a token"),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_every_fault_is_found_by_the_check_that_is_meant_for_it(states, method, check, seen):
    found = states(method)
    assert failures(found) == {check}
    assert seen in found[check].seen


def test_every_check_has_a_method_that_it_catches():
    marks = test_every_fault_is_found_by_the_check_that_is_meant_for_it.pytestmark
    caught = {case[1] for mark in marks for case in mark.args[1]}
    assert caught == set(SUITE.checks)


def test_processes_that_drift_apart_are_found(states):
    found = states(odd.FirstAlone())
    assert failures(found) == {"ranks"}
    assert "two processes end with different weights" in found["ranks"].seen


@pytest.mark.parametrize(
    ("method", "seen"),
    [(odd.Deaf(), "it is zero everywhere"), (odd.Endless(), "it is not finite")],
    ids=["zero", "not finite"],
)
def test_a_gradient_that_teaches_nothing_is_found(registry, method, seen):
    with subject(method, registry) as trial:
        finding = SUITE.checks["gradient"](trial)
    assert finding.state == "failed" and seen in finding.seen


def test_a_metric_that_is_never_reported_is_named(registry):
    with subject(odd.Mute(), registry) as trial:
        assert SUITE.checks["learning"](trial).seen == "no step reports cleverness"


def test_examples_of_ones_own_are_given_or_nothing_can_be_checked(states, registry):
    with pytest.raises(Unchecked, match="no rows of Riddle can be made up; define samples"):
        states(odd.Riddles())
    assert failures(states(odd.KnownRiddles())) == set()
    with subject(odd.Riddles(), registry, examples=odd.KnownRiddles().examples_for_checks()) as trial:
        assert SUITE.checks["packing"](trial).state == "ok"


def test_a_role_that_was_not_declared_is_named(states):
    assert "did not declare the role 'reference'" in states(odd.Undeclared())["roles"].seen


def test_a_strangers_file_is_checked_on_the_command_line(cli):
    result = cli("check", "odd-idle-reference", "--plugin", PLUGIN, "--json")
    assert result.code == 3, result.err
    report = json.loads(result.out)
    assert [check["check"] for check in report["checks"] if check["state"] == "failed"] == ["roles"]
    assert {check["check"] for check in report["checks"]} > set(SUITE.checks)
