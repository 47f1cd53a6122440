"""Weights, gradients and optimizer states are predicted to the byte."""

import pytest
import torch

from tunesmith.components import StepSize
from tunesmith.config import Layers
from tunesmith.plan import hardware
from tunesmith.plan.assumed import resolved
from tunesmith.plan.memory import Estimate

METHODS = (
    "adept", "cpt", "dpo", "grpo", "iterative-dpo", "iterative-kto", "kto", "orpo", "ppo", "pt", "rloo", "rm", "sft",
    "simpo",
)  # fmt: skip


def planned(registry, method, folder, **settings):
    flags = {"model": str(folder), "device": "cpu", **settings}
    if method == "adept":
        flags |= {"selection": "manual", "layers": (1,), "rates": "uniform"}
    return resolved(registry, method, Layers(flags=flags))[0]


def held_bytes(module):
    return sum(t.nbytes for t in [*module.parameters(), *module.buffers()])


def optimizer_bytes(optimizer):
    return sum(v.nbytes for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor))


class Real:
    """The models of a run as the runner makes them, with gradients and a step behind them."""

    def __init__(self, run, folder):
        from tunesmith.data.encoding import load_tokenizer
        from tunesmith.models.loading import load_model
        from tunesmith.models.roles import Models
        from tunesmith.runner.context import Context
        from tunesmith.runner.critics import make_critic
        from tunesmith.runner.launch import _policy
        from tunesmith.runner.optimizer import make_optimizer
        from tunesmith.runner.references import make_reference
        from tunesmith.scoring.probe import choose

        device, dtype, tokenizer = torch.device("cpu"), torch.float32, load_tokenizer(run.settings)
        self.policy = _policy(run, tokenizer, device, dtype, None)
        self.policy.module = run.method.prepare(self.policy.module, Context(Models(self.policy), tokenizer, 4))
        choose(self.policy)
        self.base = held_bytes(self.policy.module)
        reference = None
        if "reference" in run.method.active_roles() and run.settings.adapter == "none":
            reference = load_model(run.settings, run.method, tokenizer, device, dtype)
        elif "reference" in run.method.active_roles():
            reference = make_reference(
                run.method, run.settings, tokenizer, self.policy, dtype, None, lambda: [], fresh=True
            )
        critic = make_critic(run.method, run.settings, tokenizer, self.policy, dtype, device, None)
        groups = run.method.param_groups(Models(self.policy, None, critic))
        parameters = [p for group in groups for p in group.params]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer = make_optimizer(groups, run.settings)
        optimizer.step()
        self.gradients, self.optimizer = sum(p.grad.nbytes for p in parameters), optimizer_bytes(optimizer)
        self.weights = held_bytes(self.policy.module)
        if isinstance(reference, torch.nn.Module):
            self.weights += held_bytes(reference)
        if critic is not None:
            own = held_bytes(critic.scorer.module) if critic.scorer else critic.head.weight.nbytes
            self.weights += own


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("method", METHODS)
def test_states_of_every_method_are_predicted_to_the_byte(method, adapter, registry, tiny_model):
    assert set(METHODS) <= set(registry.names("method"))
    if adapter == "lora" and not registry.get("method", method).adaptable:
        pytest.skip("it takes no adapter")
    run = planned(registry, method, tiny_model, adapter=adapter)
    estimate = Estimate(hardware.processor())
    layers = estimate.blueprint(run.settings.model, run).layers
    held = estimate.held(run, run.method.workload(StepSize(run.settings.batch_size, 64), layers))
    real = Real(run, tiny_model)
    assert sum(model.states.weights for model in held) == real.weights
    assert sum(model.states.gradients for model in held) == real.gradients
    assert sum(model.states.optimizer for model in held) == real.optimizer


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_quantised_base_is_predicted_to_the_byte(bits, registry, tiny_model):
    from tunesmith.data.encoding import load_tokenizer
    from tunesmith.models.loading import load_model

    run = planned(registry, "sft", tiny_model, adapter="lora", quantize=bits, dtype="bf16")
    estimate = Estimate(hardware.processor())
    (policy,) = estimate.held(run, run.method.workload(StepSize(4, 64), 2))
    module = load_model(run.settings, run.method, load_tokenizer(run.settings), torch.device("cpu"), torch.bfloat16)
    real = held_bytes(module)
    for parameter in module.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            nested = [state.state2.absmax, state.state2.code, state.offset] if state.nested else []
            real += sum(t.nbytes for t in [state.absmax, state.code, *nested])
        scales = getattr(parameter, "SCB", None)
        real += scales.nbytes if scales is not None else 0
    assert policy.states.weights == real
