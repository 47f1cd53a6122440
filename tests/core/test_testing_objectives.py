"""The checks of losses pass what is right, and each finds the one thing that it looks for."""

from pathlib import Path

import pytest

from tunesmith.plugins import Registry, import_file
from tunesmith.testing import Unchecked
from tunesmith.testing.objectives import SUITE, subject

odd = import_file(Path(__file__).parent / "odd_losses.py")


def findings(objective):
    found = {}
    with subject(objective, Registry()) as made:
        for name, check in SUITE.checks.items():
            try:
                found[name] = check(made)
            except TypeError as error:
                found[name] = error
    return found


def failures(found):
    return {name for name, finding in found.items() if getattr(finding, "state", "failed") == "failed"}


def test_a_loss_that_keeps_its_promises_passes_every_check():
    found = findings(odd.PairLoss())
    assert failures(found) == set()
    assert {name for name, finding in found.items() if finding.state == "skipped"} == {"optional inputs"}


CASES = [
    (odd.NoSum(), "sum over units", "3 and 4 of them: not a sum"),
    (odd.MeanMetric(), "metrics", "margin: of two parts it is not the sum"),
    (odd.LiveMetric(), "metrics", "a metric carries gradient"),
    (odd.OddMetric(), "metrics", "large is not reported of every part"),
    (odd.Coupled(), "segments", "the gradient of chosen of a tree differs"),
    (odd.ByPlace(), "row order", "in reverse order"),
    (odd.PerAnswer(), "unit", "so it is none over tokens"),
    (odd.Shifted(), "at start", "not 0.693147181, where all is equally likely"),
    (odd.BentPairs(), "gradient", "along a random direction it is"),
    (odd.Rounded(), "gradient", "along a random direction it is"),
    (odd.Naive(), "extremes", "not finite where chosen -10000"),
    (odd.Nothing(), "empty", "without any tree the total has no gradient"),
    (odd.Demanding(), "optional inputs", ""),
    (odd.Greedy(), "no side effects", "it changes reference_chosen, which others read too"),
]


@pytest.mark.parametrize(("objective", "check", "seen"), CASES, ids=lambda value: getattr(value, "name", ""))
def test_every_fault_is_found_by_the_check_that_is_meant_for_it(objective, check, seen):
    found = findings(objective)
    assert failures(found) == {check}
    assert seen in getattr(found[check], "seen", "")


def test_every_check_has_a_loss_that_it_catches():
    assert {check for _, check, _ in CASES} == set(SUITE.checks)


def test_a_unit_that_its_input_has_not_is_named():
    class PerToken(odd.PairLoss):
        """Sums over pairs, and says tokens."""

        unit = "token"

    assert "summed over a pair or prompt" in findings(PerToken())["unit"].seen


def test_a_metric_that_is_not_there_cannot_be_known():
    class Unreported(odd.PairLoss):
        """Knows of a metric that it does not report."""

        def at_start(self):
            return {"kl": 0.0}

    assert findings(Unreported())["at start"].seen == "at_start() speaks of kl, and it reports loss, margin"


def test_an_input_of_ones_own_is_said_not_to_be_known():
    class Own(odd.PairLoss):
        """Reads numbers."""

        inputs = int

    with pytest.raises(Unchecked, match="int is an input of its own"):
        findings(Own())
