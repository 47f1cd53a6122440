"""DPO-Positive: a preference loss that does not pay for its margin with the chosen answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import tunesmith
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor


class DPOP(tunesmith.Objective):
    """DPO-Positive: DPO that is punished where the chosen answer gets less likely than it was (arXiv:2402.13228)."""

    name: ClassVar[str] = "dpop"
    inputs: ClassVar[type] = tunesmith.ReferencedPairLogps
    unit: ClassVar[Literal["pair"]] = "pair"

    beta: float = Field(default=0.3, gt=0)
    """Strength of the pull towards the reference."""
    positive: float = Field(default=50.0, ge=0)
    """Weight of what the chosen answer has lost (the paper's lambda); 0 is DPO."""

    def __call__(self, x: tunesmith.ReferencedPairLogps) -> tunesmith.Loss:
        """Sum over pairs; `lost` is by how many nats the chosen answer is less likely than under the reference."""
        chosen, rejected = x.chosen - x.reference_chosen, x.rejected - x.reference_rejected
        gap = (chosen - rejected).detach()
        metrics = {
            "rewards/chosen": self.beta * chosen.detach().sum(),
            "rewards/rejected": self.beta * rejected.detach().sum(),
            "rewards/margins": self.beta * gap.sum(),
            "rewards/accuracies": (gap > 0).float().sum() + 0.5 * (gap == 0).float().sum(),
            "lost": (-chosen.detach()).relu().sum(),
        }
        return tunesmith.Loss(dpop(chosen, rejected, beta=self.beta, positive=self.positive).sum(), metrics)


def dpop(chosen_P: Tensor, rejected_P: Tensor, *, beta: float, positive: float) -> Tensor:
    """``-log sigmoid(beta (r_w - r_l - lambda max(0, -r_w)))`` with the log-ratios ``r = log pi(y) - log ref(y)``.

    This is L_DPOP of "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive" (arXiv:2402.13228),
    where the penalty is written ``max(0, log(ref(y_w) / pi(y_w)))``. Where ``r_w >= 0`` it is DPO's loss.

    Args:
        chosen_P, rejected_P: ``[P]`` log-ratios of whole answers, in nats.
        beta: strength of the pull towards the reference.
        positive: the paper's lambda; published with 50 and ``beta`` 0.3.

    Returns:
        ``[P]``. With ``r_w = r_l = 0`` it is ln 2. There the slope of the penalty is taken to be 0.
    """
    import torch.nn.functional as F

    return -F.logsigmoid(beta * (chosen_P - rejected_P - positive * (-chosen_P).relu()))


@tunesmith.hookimpl
def tunesmith_register_objectives() -> list[type[tunesmith.Objective]]:
    """Called once, when the plugin is loaded."""
    return [DPOP]
