"""What objectives read. Plain containers of tensors; importing this module does not import torch.

Shape letters: S scored tokens, R branches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Loss:
    """The value of an objective: a SUM over its units. The runner divides once, by the global count.

    Attributes:
        total: ``[]`` fp32, the sum over units, with gradient.
        metrics: each ``[]``, a sum over the same units, without gradient.
    """

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class TokenLogps:
    """Log-probabilities of the scored tokens of a batch; there is no padding in it.

    Attributes:
        logps: ``[S]`` fp32 natural-log probabilities of the target tokens under the policy.
        branches: ``[S]`` int64, the branch that each token belongs to, ascending from 0.
        num_branches: R, also when the last branches hold no scored token.
    """

    logps: Tensor
    branches: Tensor
    num_branches: int
