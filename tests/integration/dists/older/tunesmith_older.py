"""What was written against 0.1 in its first form: no declaration that came later, hooks with few arguments."""

import tunesmith
from tunesmith import Card, Demonstration, Loss, Objective, OfflineMethod, Reward, TokenLogps


class Halved(Objective):
    """Half the negative log-likelihood."""

    name = "older-loss"
    inputs = TokenLogps

    def __call__(self, x):
        return Loss(-x.logps.sum() / 2)


class Older(OfflineMethod):
    """Fine-tuning as it was."""

    name = "older-method"
    consumes = Demonstration
    supplies = TokenLogps
    card = Card(paper="-", use_when="Always.", data="Any.", memory="16 bytes per parameter.")

    objective: tunesmith.AnyObjective = "older-loss"
    """Loss."""


class Short(Reward):
    """1 for a short answer."""

    name = "older-reward"

    def __call__(self, rollouts):
        return [float(len(rollout.text) < 10) for rollout in rollouts]


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [Older]


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [Halved]


@tunesmith.hookimpl
def tunesmith_register_rewards():
    return [Short]


@tunesmith.hookimpl
def tunesmith_step_ended(step):
    print(f"older: step {step}")
