"""The built-in losses, by what they read."""

from __future__ import annotations

import tunesmith
from tunesmith import Objective

from .pair import CDPO, IPO, ORPO, RPO, APODown, APOZero, Hinge, Robust, Sigmoid, SigmoidNorm, SimPO
from .policy import GRPO, PPO, RLOO
from .score import BradleyTerry
from .token import DFT, NLL
from .unpaired import KTO, APOZeroUnpaired


@tunesmith.hookimpl
def tunesmith_register_objectives() -> list[type[Objective]]:
    """Register the losses of this package."""
    pairs = [Sigmoid, SigmoidNorm, Hinge, IPO, CDPO, Robust, APOZero, APODown, RPO, ORPO, SimPO]
    return [NLL, DFT, *pairs, KTO, APOZeroUnpaired, BradleyTerry, GRPO, RLOO, PPO]
