"""A source and a reward: the tasks of reasoning-gym, and their own verifiers."""

import tunesmith
from tunesmith_reasoning_gym.reward import ReasoningGymReward
from tunesmith_reasoning_gym.source import ReasoningGym


@tunesmith.hookimpl
def tunesmith_register_sources():
    """Register the source."""
    return [ReasoningGym]


@tunesmith.hookimpl
def tunesmith_register_rewards():
    """Register the reward."""
    return [ReasoningGymReward]
