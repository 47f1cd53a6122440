"""Answers, in pairs and sampled, for the tests of losses."""

import pytest
import torch

from tunesmith import PolicyLogps, ReferencedPairLogps


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
) -> PolicyLogps:
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
    x = PolicyLogps(branches=branches, num_branches=len(sizes), trees=torch.tensor(trees), longest=8, **values)
    x.logps = x.logps.detach().clone().requires_grad_()
    if x.values is not None:
        x.values = x.values.detach().clone().requires_grad_()
    return x


@pytest.fixture
def answers():
    """``answers(sizes, trees, seed, dtype, **columns)``: random sampled answers, with these columns put in."""
    return random_answers
