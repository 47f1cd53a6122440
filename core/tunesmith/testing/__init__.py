"""Checks that authors of plugins run on their components, in tests or with ``tunesmith check``.

A file of tests needs two lines:

>>> from tunesmith.testing import conformance
>>> test_conformance = conformance(MyThing)  # doctest: +SKIP
"""

from tunesmith.testing.conform import check, conformance
from tunesmith.testing.report import Finding, Report, failed, ok, skipped
from tunesmith.testing.rewards import check_reward
from tunesmith.testing.suite import Suite, Unchecked

__all__ = [
    "Finding",
    "Report",
    "Suite",
    "Unchecked",
    "check",
    "check_reward",
    "conformance",
    "failed",
    "ok",
    "skipped",
]
