"""A distribution that needs a package which is not there."""

from typing import ClassVar

import a_package_that_nobody_wrote  # noqa: F401

import tunesmith


class BrokenLoss(tunesmith.Objective):
    """Likelihood of the broken package."""

    name: ClassVar[str] = "broken-loss"
    inputs: ClassVar[type] = tunesmith.TokenLogps

    def __call__(self, x: tunesmith.TokenLogps) -> tunesmith.Loss:
        """Sum over the trained tokens."""
        return tunesmith.Loss(-x.logps.sum())


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [BrokenLoss]
