"""What objectives read. Plain containers of tensors; importing this module does not import torch.

Shape letters: S scored tokens, R branches, N trees.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Loss:
    """The value of an objective: a SUM over its units. The runner divides once, by the global count.

    Attributes:
        total: ``[]`` fp32, the sum over units, with gradient.
        metrics: each ``[]``, a sum over the same units, without gradient.
        means: sums that have a count of their own (of one class, say): ``(sum, count)``, each ``[]``.
        maxima: each ``[]``, the largest of something, without gradient; none where there is nothing.
    """

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)


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


@dataclass(slots=True)
class PolicyLogps:
    """Log-probabilities of sampled answers, and what became of them when they were collected.

    No `TokenLogps`, though it has the same fields: a loss that makes all given tokens likelier must not be taken for
    one of sampled answers, of which many are bad. Everything but ``logps`` is without gradient.

    Attributes:
        logps: ``[S]`` fp32 natural-log probabilities of the answers' trained tokens under the policy.
        branches: ``[S]`` int64, the answer that each token belongs to, ascending from 0.
        num_branches: R, also where some answers hold no trained token.
        advantages: ``[S]`` by how much the answer, from this token on, was better than expected; the same for all
            tokens of a branch where the answer is judged as one action.
        trees: ``[R]`` int64, the prompt of each branch, ascending from 0.
        old: ``[S]`` the same log-probabilities when the answers were collected; ``None`` where the policy has not
            changed since, and then they are ``logps`` itself.
        reference: ``[S]`` the same under the reference.
        sampler: ``[S]`` the same as the engine that sampled the answers reported them.
        longest: tokens that an answer may have at most: what a loss over a constant number of tokens divides by.
    """

    logps: Tensor
    branches: Tensor
    num_branches: int
    _: KW_ONLY
    advantages: Tensor
    trees: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None
    sampler: Tensor | None = None
    longest: int | None = None


@dataclass(slots=True, kw_only=True)
class CriticLogps(PolicyLogps):
    """The same, and what a critic makes of them.

    Attributes:
        values: ``[S]`` the critic's estimate of the return in the state before each token, with gradient.
        old_values: ``[S]`` the same when the answers were collected.
        returns: ``[S]`` what the estimates are trained towards.
    """

    values: Tensor
    old_values: Tensor
    returns: Tensor


@dataclass(slots=True)
class PairLogps:
    """Log-probabilities of the chosen and the rejected answer of P pairs, under the policy.

    Attributes:
        chosen, rejected: ``[P]`` fp32 sums over the answer's tokens, with gradient.
        chosen_tokens, rejected_tokens: ``[P]`` fp32 numbers of those tokens.
        tokens_per_pair: mean of ``chosen_tokens`` over the whole optimizer step: with it a sum over pairs can be a
            mean over tokens. Prompt tokens count where ``prompt`` is given.
        prompt: ``[P]`` fp32 sums over the prompt's tokens, with gradient, where they are trained on as well.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    tokens_per_pair: Tensor | float
    prompt: Tensor | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ReferencedPairLogps(PairLogps):
    """The same, and the sums under the reference.

    Attributes:
        reference_chosen, reference_rejected: ``[P]`` fp32, without gradient.
    """

    reference_chosen: Tensor
    reference_rejected: Tensor


@dataclass(slots=True)
class UnpairedLogps:
    """Log-probabilities of R single answers with a thumb up or down.

    Attributes:
        logps: ``[R]`` fp32 sums over the answer's tokens, with gradient.
        reference: ``[R]`` fp32, the same under the reference.
        desirable: ``[R]`` bool.
        weights: ``[R]`` fp32, the weight of the answer's class.
        baseline: ``[]`` fp32, one number for the optimizer step, without gradient.
    """

    logps: Tensor
    reference: Tensor
    desirable: Tensor
    weights: Tensor
    baseline: Tensor


@dataclass(slots=True)
class RankedScores:
    """Scores of answers to N prompts, two or more each.

    Attributes:
        scores: ``[R]`` fp32, with gradient.
        prompts: ``[R]`` int64, the prompt of each answer, ascending from 0.
        ranks: ``[R]`` fp32, higher is better; equal ranks are not compared.
        margins: ``[N]`` fp32, by how much the better answer should win.
    """

    scores: Tensor
    prompts: Tensor
    ranks: Tensor
    margins: Tensor
