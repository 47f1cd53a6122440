"""How large a model, on how many tokens: pure functions of numbers, with the paper that each comes from.

Everywhere: N parameters, D tokens, C floating-point operations (FLOPs), U different tokens. C = 6 N D counts the
forward and the backward pass through the weights and leaves attention out, which is little below a few thousand tokens
of context.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TOKENS_PER_PARAMETER = 20.0
"""Hoffmann et al. 2022 (arXiv:2203.15556), approaches 1 and 2."""
HALF_LIFE = 15.39
"""R* of Muennighoff et al. 2023 (arXiv:2305.16264), section 5: repetitions after which a token has lost 1 - 1/e."""
FREE_EPOCHS = 4.0
"""Muennighoff et al. 2023: up to here repeated tokens are nearly as good as new ones."""
USEFUL_EPOCHS = 16.0
"""Muennighoff et al. 2023: beyond about this many epochs there is hardly anything left to gain."""


@dataclass(frozen=True, slots=True)
class Law:
    """Loss of a model in nats per token, ``L(N, D) = E + A / N^a + B / D^b``.

    Attributes:
        E: what no model gets below.
        A, a: what the number of parameters costs.
        B, b: what the number of tokens costs.
    """

    E: float
    A: float
    B: float
    a: float
    b: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats per token after training ``parameters`` on ``tokens`` different tokens."""
        return float(self.E + self.A / parameters**self.a + self.B / tokens**self.b)

    def tokens_for(self, parameters: float, loss: float) -> float:
        """Tokens after which the loss is reached; infinity where the model is too small for it."""
        room = loss - self.E - self.A / parameters**self.a
        return (self.B / room) ** (1 / self.b) if room > 0 else math.inf


REFIT = Law(E=1.8172, A=482.01, B=2085.43, a=0.3478, b=0.3658)
"""Besiroglu et al. 2024 (arXiv:2404.10102): the third approach of Hoffmann et al., fitted again.

The coefficients as first printed (406.4, 410.7, 0.34, 0.28) contradict 20 tokens per parameter; they are not used.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """A size and a number of tokens that belong together."""

    parameters: float
    tokens: float

    @property
    def flops(self) -> float:
        """Of training: C = 6 N D."""
        return training_flops(self.parameters, self.tokens)

    @property
    def ratio(self) -> float:
        """Tokens per parameter."""
        return self.tokens / self.parameters


def training_flops(parameters: float, tokens: float, *, trained: float | None = None, recompute: bool = False) -> float:
    """FLOPs of training: 2 N D forward, 2 N D for the gradient of activations, 2 n D for that of ``trained`` weights.

    Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; ``recompute`` adds a forward pass (activation checkpointing).
    """
    weights = parameters if trained is None else trained
    return tokens * ((6 if recompute else 4) * parameters + 2 * weights)


def inference_flops(parameters: float, tokens: float) -> float:
    """FLOPs of reading or writing tokens: 2 N D."""
    return 2 * parameters * tokens


# ------------------------------------------------------------------------------------------------ least compute
def by_ratio(flops: float, ratio: float = TOKENS_PER_PARAMETER) -> Budget:
    """D = r N and C = 6 N D, so N = sqrt(C / (6 r)): 20 tokens per parameter of Hoffmann et al. (arXiv:2203.15556)."""
    parameters = math.sqrt(flops / (6 * ratio))
    return Budget(parameters, ratio * parameters)


def by_law(flops: float, law: Law = REFIT) -> Budget:
    """The size and the tokens of the lowest loss for ``flops``.

    Equation 4 of Hoffmann et al. (arXiv:2203.15556): ``G = (a A / (b B))^(1/(a+b))``, ``N = G (C/6)^(b/(a+b))`` and
    ``D = (C/6) / N``; there ``dL/dN`` along ``6 N D = C`` is zero.
    """
    total = law.a + law.b
    scale = (law.a * law.A / (law.b * law.B)) ** (1 / total)
    parameters = scale * (flops / 6) ** (law.b / total)
    return Budget(parameters, flops / 6 / parameters)


def tokens_by_law(parameters: float, law: Law = REFIT) -> float:
    """Tokens for which a model of this size is the best use of its compute.

    `by_law` solved for D: the point where ``a A / N^a = b B / D^b``.
    """
    return float((law.b * law.B * parameters**law.a / (law.a * law.A)) ** (1 / law.b))


# ---------------------------------------------------------------------------------------------- served for long
def for_service(loss: float, served: float, law: Law = REFIT) -> Budget:
    """The cheapest model of a given loss over training and service.

    Sardana et al. 2024 (arXiv:2401.00448), equation 1: the least ``6 N D + 2 N served`` with ``L(N, D) = loss``.
    Without service it is the point of `by_law`; the more is served, the smaller the model, the longer its training.

    Args:
        loss: nats per token that must be reached.
        served: tokens read and written in service.
        law: how loss depends on size and tokens.

    Raises:
        ValueError: no model reaches the loss.
    """
    if loss <= law.E:
        raise ValueError(f"no model gets to a loss of {loss:g}: the law ends at {law.E:g}")
    smallest = (law.A / (loss - law.E)) ** (1 / law.a)

    def cost(log_parameters: float) -> float:
        parameters = math.exp(log_parameters)
        tokens = law.tokens_for(parameters, loss)
        return training_flops(parameters, tokens) + inference_flops(parameters, served)

    low, high = math.log(smallest) + 1e-9, math.log(smallest) + 20.0
    parameters = math.exp(_least(cost, low, high))
    return Budget(parameters, law.tokens_for(parameters, loss))


def _least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is least, by the golden section."""
    step = (math.sqrt(5) - 1) / 2
    left, right = high - step * (high - low), low + step * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > 1e-10:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - step * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + step * (high - low)
            at_right = cost(right)
    return (low + high) / 2


# --------------------------------------------------------------------------------------------------- repetition
def effective_tokens(unique: float, epochs: float, half_life: float = HALF_LIFE) -> float:
    """What repeated tokens are worth in new ones.

    Muennighoff et al. 2023 (arXiv:2305.16264), equation 5: ``D' = U + U R* (1 - exp(-R / R*))`` with
    ``R = epochs - 1`` repetitions. Below one epoch nothing is repeated.
    """
    if epochs <= 1:
        return unique * epochs
    return unique * (1 + half_life * -math.expm1((1 - epochs) / half_life))


def epochs_for(unique: float, wanted: float, half_life: float = HALF_LIFE) -> float:
    """Epochs after which ``unique`` tokens are worth ``wanted`` new ones; infinity where they never are."""
    share = wanted / unique
    if share <= 1:
        return share
    rest = 1 - (share - 1) / half_life
    return 1 - half_life * math.log(rest) if rest > 0 else math.inf


# --------------------------------------------------------------------------------------------------------- time
UTILISATION = (0.25, 0.35, 0.45)
"""Share of a device's peak that training reaches: low, likely, high. Ours, from what is reported of dense models."""


def hours(flops: float, devices: int, peak: float) -> tuple[float, float, float]:
    """Hours of training: the least, the likely and the most.

    Args:
        flops: of the whole training.
        devices: that share it.
        peak: FLOPs per second of one device in the precision that is used.
    """
    low, likely, high = (flops / (devices * peak * share) / 3600 for share in reversed(UTILISATION))
    return low, likely, high
