"""A source and a reward: the tasks of an environment of the library verifiers, and its own scoring."""

import tunesmith

from tunesmith_verifiers.reward import VerifiersReward
from tunesmith_verifiers.source import VerifiersTasks


@tunesmith.hookimpl
def tunesmith_register_sources() -> list[type[tunesmith.Source]]:
    """Called once, when the plugin is loaded."""
    return [VerifiersTasks]


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[tunesmith.Reward]]:
    """Called once, when the plugin is loaded."""
    return [VerifiersReward]
