"""A plugin with a reward that needs no worker: the share of tokens with an even id."""

from typing import ClassVar

import tunesmith


class EvenTokens(tunesmith.Reward):
    """The share of tokens with an even id."""

    name: ClassVar[str] = "even-tokens"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [sum(i % 2 == 0 for i in r.ids) / len(r.ids) for r in rollouts]


@tunesmith.hookimpl
def tunesmith_register_rewards():
    return [EvenTokens]
