"""Quantities that are the same, and those that are not."""

import time

import pytest
from tunesmith import Fault, Rollout

from tunesmith_units import Numeric


def judged(gold, said, **settings):
    (score,) = Numeric(**settings)([Rollout("?", said, {"answer": gold})])
    return score


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("1500 m", r"\boxed{1.5 km}"),
        ("1500 m", r"\boxed{1.5\ \text{km}}"),
        ("1500 m", "The answer is 1,500 metres."),
        ("9.81 m/s^2", r"\boxed{981 \text{ cm/s}^{2}}"),
        ("90 km/h", "#### 25 m/s"),
        ("90 km/h", "25 meters per second"),
        ("20 degC", r"\boxed{293.15 K}"),
        ("50%", r"\boxed{0.5}"),
        ("50%", r"\boxed{50\%}"),
        ("0.002 mm", "2 \u00b5m"),
        ("1e3 kg", "1 tonne"),
        ("The sum.\n#### 12 h", "half a day is 12 hours, so the answer is 0.5 days"),
        (42, r"\boxed{42}"),
        ("42", "42 apples"),
        (r"\frac{1}{2}", r"\boxed{0.5}"),
    ],
)
def test_same_quantity(gold, said):
    assert judged(gold, said) == 1.0


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("1500 m", r"\boxed{1500}"),
        ("1500 m", r"\boxed{1500 km}"),
        ("1500 m", r"\boxed{1500 s}"),
        ("1500 m", r"\boxed{1500 bananas}"),
        ("1500 m", r"\boxed{1.5 km} \boxed{2 km}"),
        ("1500 m", "<think>1.5 km"),
        ("1500 m", ""),
        ("20 degC", r"\boxed{20 degF}"),
        ("50%", r"\boxed{50}"),
        (42, r"\boxed{43}"),
    ],
)
def test_another_quantity(gold, said):
    assert judged(gold, said) == 0.0


def test_settings():
    assert judged("1500 m", r"\boxed{1500}", missing="accept") == 1.0
    assert judged("1500 m", r"\boxed{1.49 km}", relative=0.01) == 1.0
    assert judged("1500 m", r"\boxed{1.49 km}", absolute=9.0) == 0.0
    assert judged("1500 m", r"\boxed{2 km} \boxed{1.5 km}", several="last") == 1.0


@pytest.mark.parametrize("gold", ["many", "12 bananas", None, True, ["1 m"]])
def test_gold_that_is_no_quantity_is_a_fault_and_no_low_score(gold):
    found = judged(gold, r"\boxed{1 m}")
    assert isinstance(found, Fault) and "is no number with or without a unit" in found.why


@pytest.mark.parametrize(
    "unit",
    ["m^9^9^9^9", "m**99999999", "m" * 50, "(" * 40 + "m", "__import__('os')", "m*" * 20, "kilo" * 12 + "m", "1e9999m"],
)
def test_what_is_no_unit_is_wrong_and_quick(unit):
    start = time.perf_counter()
    assert judged("1500 m", rf"\boxed{{1500 {unit}}}") == 0.0
    assert time.perf_counter() - start < 2
