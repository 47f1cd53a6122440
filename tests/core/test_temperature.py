"""Log-probabilities at a temperature: those of the logits divided by it, on every path, with their gradient."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.inputs import Loss
from tunesmith.scoring.head import Head
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer

SHAPE = {
    "vocab_size": 53,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "soft-cap": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0)),
}


def batch():
    chance = np.random.default_rng(0)
    trees = []
    for trunk, sizes in ((3, (4, 2)), (1, (6,)), (5, (1, 1, 3))):
        branches = [Branch(chance.integers(3, 53, n, dtype=np.int32), chance.random(n) < 0.8) for n in sizes]
        trees.append(Tree(chance.integers(3, 53, trunk, dtype=np.int32), tuple(branches)))
    return Batch(trees)


def scorer_of(model, path):
    scorer = Scorer(model)
    scorer.path = path
    if path == "packed":
        choose(scorer)
        assert scorer.path == "packed", scorer.why
    return scorer


def from_logits(model, temperature):
    """Of every scored token, one answer at a time, from the model's own logits."""
    found = []
    for tree in batch().trees:
        for branch in tree.branches:
            ids = torch.from_numpy(np.concatenate([tree.trunk, branch.ids])).long()[None]
            logps = (model(input_ids=ids).logits[0].float() / temperature).log_softmax(-1)
            at = torch.arange(len(tree.trunk) - 1, ids.shape[1] - 1)
            found.append(logps[at, ids[0, len(tree.trunk) :]][torch.from_numpy(branch.mask)])
    return torch.cat(found)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("path", ["packed", "padded", "stock"])
@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_every_path_divides_the_logits(name, path, temperature):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        wanted, plain = from_logits(model, temperature), from_logits(model, 1.0)
    scorer = scorer_of(model, path)
    scorer.temperature = temperature
    assert torch.allclose(scorer.token_logps(batch()).logps, wanted, atol=2e-5)
    scorer.temperature = 1.0
    assert torch.allclose(scorer.token_logps(batch()).logps, plain, atol=2e-5)
    assert not torch.allclose(wanted, plain, atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("path", ["packed", "padded", "stock"])
def test_gradients_are_those_of_the_divided_logits(name, path):
    torch.manual_seed(1)
    model = MODELS[name]()
    weights = torch.randn(batch().count("token"), generator=torch.Generator().manual_seed(2))
    stock = MODELS[name]()
    stock.load_state_dict(model.state_dict())
    (from_logits(stock, 0.6) * weights).sum().backward()
    wanted = {name: p.grad for name, p in stock.named_parameters()}
    scorer = scorer_of(model, path)
    scorer.temperature = 0.6
    whole = batch()
    sizes = [tree.num_scored for tree in whole.trees]
    parts = dict(zip(map(id, whole.trees), weights.split(sizes), strict=True))

    def loss_of(part):
        own = torch.cat([parts[id(tree)] for tree in part.trees])
        return Loss((scorer.token_logps(part).logps * own).sum())

    scorer.backward(whole, loss_of, 1.0)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name], rtol=1e-4, atol=2e-5), name


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("bias", [False, True])
def test_the_head_against_finite_differences(softcap, bias):
    torch.manual_seed(0)
    linear = nn.Linear(6, 11, bias=bias)
    head = Head(linear, softcap)
    head.temperature = 0.7
    hidden = torch.randn(5, 6, requires_grad=True)
    targets, weights = torch.tensor([0, 10, 3, 3, 7]), torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0])
    (head.logps(hidden, targets) * weights).sum().backward()

    def exact(states, weight):
        logits = nn.functional.linear(states.double(), weight.double(), linear.bias.double() if bias else None)
        logits = softcap * torch.tanh(logits / softcap) if softcap else logits
        return ((logits / 0.7).log_softmax(-1)[torch.arange(5), targets] * weights).sum()

    step = 1e-4
    for tensor, place in ((hidden, (1, 2)), (hidden, (3, 0)), (linear.weight, (3, 1)), (linear.weight, (10, 5))):
        values = []
        for sign in (1, -1):
            moved = tensor.detach().double().clone()
            moved[place] += sign * step
            values.append(exact(*((moved, linear.weight) if tensor is hidden else (hidden, moved))).item())
        assert tensor.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3, abs=1e-4)


def test_an_improbable_token_keeps_its_log_probability_at_a_low_temperature():
    linear = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[10.0, 0.0], [0.0, 0.0], [-10.0, 0.0]]))
    head = Head(linear)
    head.temperature = 0.1
    found = head.logps(torch.tensor([[1.0, 0.0]]), torch.tensor([2]))
    assert found.item() == pytest.approx(-200.0, rel=1e-5)
    assert math.isfinite(found.item())
