"""Answers, in pairs and sampled, for the tests of losses."""

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from tunesmith import CriticLogps, PolicyLogps, ReferencedPairLogps
from tunesmith.numerics import grouped, sum_by


def random_pairs(num=7, seed=0, dtype=torch.float64, **given) -> ReferencedPairLogps:
    """Random pairs of answers of 1 to 12 tokens; chosen and rejected carry gradient."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 13, (2, num), generator=generator).to(dtype)
    sums = -tokens * torch.rand(2, 2, num, generator=generator, dtype=dtype) * 2
    values = {
        "chosen": sums[0, 0],
        "rejected": sums[0, 1],
        "chosen_tokens": tokens[0],
        "rejected_tokens": tokens[1],
        "tokens_per_pair": tokens[0].mean().item(),
        "reference_chosen": sums[1, 0],
        "reference_rejected": sums[1, 1],
    }
    values |= {key: torch.as_tensor(value, dtype=dtype) for key, value in given.items()}
    x = ReferencedPairLogps(**values)
    x.chosen, x.rejected = x.chosen.clone().requires_grad_(), x.rejected.clone().requires_grad_()
    return x


@pytest.fixture
def pairs():
    """``pairs(num, seed, dtype, **fields)``: random pairs, with these fields put in."""
    return random_pairs


@pytest.fixture
def one_pair():
    """``one_pair(dtype, **fields)``: log-ratios 1 and -1 over 2 and 4 tokens, mean log-probabilities -1 and -5/4."""
    fixed = {
        "chosen": [-2.0],
        "rejected": [-5.0],
        "chosen_tokens": [2.0],
        "rejected_tokens": [4.0],
        "tokens_per_pair": 2.0,
        "reference_chosen": [-3.0],
        "reference_rejected": [-4.0],
    }
    return lambda dtype=torch.float64, **given: random_pairs(1, dtype=dtype, **{**fixed, **given})


@pytest.fixture
def gradient():
    """``gradient(objective, x)``: of the sum, with respect to the log-probabilities of chosen and rejected answers."""

    def of(objective, x):
        inputs = (x.chosen, x.rejected)
        return torch.autograd.grad(objective(x).total, inputs, allow_unused=True, materialize_grads=True)

    return of


def random_answers(
    sizes=(3, 1, 0, 5, 2, 4, 7), trees=(0, 0, 0, 1, 1, 2, 3), seed=0, dtype=torch.float64, **given
) -> CriticLogps:
    """Random answers of so many trained tokens, off-policy by about 0.2 nats a token; with a critic."""
    generator = torch.Generator().manual_seed(seed)
    branches = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    count = len(branches)

    def noise(scale=1.0):
        return scale * torch.randn(count, generator=generator, dtype=dtype)

    logps = -3 * torch.rand(count, generator=generator, dtype=dtype) - 0.1
    values = {
        "logps": logps,
        "old": logps + noise(0.2),
        "reference": logps + noise(0.5),
        "sampler": logps + noise(0.2),
        "advantages": torch.randn(len(sizes), generator=generator, dtype=dtype)[branches],
        "values": noise(),
        "old_values": noise(),
        "returns": noise(),
    }
    for key, value in given.items():
        values[key] = None if value is None else torch.as_tensor(value, dtype=dtype).expand(count)
    x = CriticLogps(branches=branches, num_branches=len(sizes), trees=torch.tensor(trees), longest=8, **values)
    x.logps = x.logps.detach().clone().requires_grad_()
    x.values = x.values.detach().clone().requires_grad_()
    return x


@pytest.fixture
def answers():
    """``answers(sizes, trees, seed, dtype, **columns)``: random sampled answers, with these columns put in."""
    return random_answers


# ------------------------------------------------------------------------------------------------ enumeration
@dataclass
class Drawn:
    """Every group of G answers: N trees with G branches each.

    Attributes:
        answers: ``[R]`` index of the answer.
        rows: ``[S]`` index of the token among the tokens of all answers.
        chances: ``[N]`` probability of the group under whoever samples.
    """

    answers: Tensor
    rows: Tensor
    branches: Tensor
    trees: Tensor
    chances: Tensor

    def units(self, unit):
        """``[N]`` fp64: the units of each group, by which its loss is divided."""
        counted = {
            "sequence": self.trees,
            "token": self.trees[self.branches],
            "prompt": torch.arange(len(self.chances)),
        }
        return torch.bincount(counted[unit]).double()


@dataclass
class World:
    """All answers: their tokens as places in the flat table of logits, the answer of each token, and rewards."""

    states: list[int]
    tokens: list[int]
    owners: Tensor
    lengths: Tensor
    rewards: Tensor
    num_states: int

    def logits(self, seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.num_states, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def logps(self, logits):
        """``[S]`` of the tokens of all answers."""
        return logits.log_softmax(-1)[self.states, self.tokens]

    def sequences(self, logits):
        """``[Y]`` log-probabilities of all answers."""
        return sum_by(self.logps(logits), self.owners, len(self.rewards))

    def objective(self, logits):
        """The expected reward."""
        return (self.sequences(logits).exp() * self.rewards).sum()

    def kl(self, logits, reference):
        """KL(policy || reference) of whole answers."""
        lp = self.sequences(logits)
        return (lp.exp() * (lp - self.sequences(reference))).sum()

    def true_gradient(self, logits):
        """Of the expected reward."""
        return torch.autograd.grad(self.objective(logits), logits)[0]

    def draw(self, sampler, size):
        """All groups of ``size`` answers and how likely the table ``sampler`` makes them."""
        groups = torch.tensor(list(product(range(len(self.rewards)), repeat=size)))
        answers = groups.flatten()
        starts = self.lengths.cumsum(0) - self.lengths
        rows = torch.cat([torch.arange(starts[a], starts[a] + self.lengths[a]) for a in answers])
        branches = torch.arange(len(answers)).repeat_interleave(self.lengths[answers])
        chances = self.sequences(sampler).detach()[groups].sum(1).exp()
        return Drawn(answers, rows, branches, torch.arange(len(groups)).repeat_interleave(size), chances)

    def expected_gradient(self, objective, logits, advantages, *, drawn_by=None, size=1, **given):
        """Expected gradient of the loss, less its sign; ``advantages(rewards_R, groups, drawn)`` gives ``[R]``."""
        drawn = self.draw(logits if drawn_by is None else drawn_by, size)
        groups = grouped(drawn.trees, len(drawn.chances))
        weights = (drawn.chances / drawn.units(objective.unit))[drawn.trees]
        values = advantages(self.rewards[drawn.answers], groups, drawn) * weights
        columns = {name: self.logps(table).detach()[drawn.rows] for name, table in given.items()}
        x = PolicyLogps(
            self.logps(logits)[drawn.rows],
            drawn.branches,
            len(drawn.answers),
            advantages=values[drawn.branches],
            trees=drawn.trees,
            longest=3,
            **columns,
        )
        return -torch.autograd.grad(objective(x).total, logits)[0]


def make_world(steps, seed=0):
    """All answers of at most so many tokens: token 0 ends an answer, and so does the last step."""
    answers, prefixes = [], {(): 0}
    stack = [()]
    while stack:
        prefix = stack.pop()
        for token in range(3):
            answer = (*prefix, token)
            if token == 0 or len(answer) == steps:
                answers.append(answer)
            else:
                prefixes[answer] = len(prefixes)
                stack.append(answer)
    pairs = [(prefixes[answer[:t]], answer[t]) for answer in answers for t in range(len(answer))]
    lengths = torch.tensor([len(answer) for answer in answers])
    rewards = torch.randn(len(answers), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    owners = torch.arange(len(answers)).repeat_interleave(lengths)
    return World([s for s, _ in pairs], [t for _, t in pairs], owners, lengths, rewards, len(prefixes))


@pytest.fixture
def bandit():
    """Three answers of one token."""
    return make_world(1)


@pytest.fixture
def language():
    """15 answers of one to three tokens."""
    return make_world(3)


@pytest.fixture(params=["bandit", "language"])
def place(request):
    """Each of them."""
    return request.getfixturevalue(request.param)
