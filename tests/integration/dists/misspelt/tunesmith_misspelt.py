"""A distribution whose hook has a name that does not exist."""

from typing import ClassVar

import tunesmith


class MisspeltLoss(tunesmith.Objective):
    """Likelihood of the misspelt package."""

    name: ClassVar[str] = "misspelt-loss"
    inputs: ClassVar[type] = tunesmith.TokenLogps

    def __call__(self, x: tunesmith.TokenLogps) -> tunesmith.Loss:
        """Sum over the trained tokens."""
        return tunesmith.Loss(-x.logps.sum())


@tunesmith.hookimpl
def tunesmith_register_objective():
    return [MisspeltLoss]
