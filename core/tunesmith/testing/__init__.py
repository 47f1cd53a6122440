"""Checks that authors of plugins run on their components, in tests or with ``tunesmith check``.

>>> from tunesmith.testing import check_reward
>>> report = check_reward(MyReward())  # doctest: +SKIP
>>> assert not report.failed  # doctest: +SKIP
"""

from tunesmith.testing.report import Finding, Report
from tunesmith.testing.rewards import check_reward

__all__ = ["Finding", "Report", "check_reward"]
