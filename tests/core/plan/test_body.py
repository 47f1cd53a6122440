"""What layers hold is predicted on tensors without memory, and held against real ones."""

import numpy as np
import pytest
import torch

from tunesmith.components import Texts
from tunesmith.config import Layers
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.errors import ConfigError
from tunesmith.models.loading import recompute_activations
from tunesmith.plan import hardware
from tunesmith.plan.assumed import resolved
from tunesmith.plan.body import Live, passed
from tunesmith.plan.memory import Estimate
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup
from tunesmith.scoring import attention
from tunesmith.scoring.scorer import Scorer
from tunesmith.settings import RunSettings

SETTINGS = RunSettings.model_construct(**{name: field.default for name, field in RunSettings.model_fields.items()})
SMALL = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 5, "num_attention_heads": 4}
SHAPES = {
    "llama, shared keys": ("llama", {"num_key_value_heads": 2}),
    "llama, tied head": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2, with biases": ("qwen2", {"num_key_value_heads": 2}),
    "qwen3, with norms of queries": ("qwen3", {"num_key_value_heads": 2, "head_dim": 16}),
    "gemma3, windows in turn": ("gemma3_text", {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16}),
    "olmo2": ("olmo2", {"num_key_value_heads": 4}),
    "gpt-neox": ("gpt_neox", {}),
}
PARTS = ([Texts(answer=40)], [Texts(prompt=9, answer=12, answers=3), Texts(answer=20)])


def blueprint(name):
    from transformers import AutoConfig

    family, more = SHAPES[name]
    return Blueprint(name, AutoConfig.for_model(family, **SMALL, **more))


def real(plan, setup, part):
    """A real forward and backward pass: bytes saved by autograd, and the most that was alive."""
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_config(plan.config).train()
    attention.register()
    module.set_attn_implementation(attention.NAME)
    if setup.checkpointing:
        recompute_activations(module)
    scorer = Scorer(module)
    scorer.path = "packed"
    batch = Batch([tree(texts) for texts in part])
    states = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage()._cdata not in states:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scorer.scored_states(batch)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    live = Live(module)
    with live:
        hidden = scorer.scored_states(batch)
        after = live.now
        hidden.backward(torch.ones_like(hidden))
    return sum(storage.nbytes() for storage in kept.values()), after, live.peak


def tree(texts):
    ids = np.ones(texts.prompt, dtype=np.int32)
    answers = [Branch(np.ones(texts.answer, dtype=np.int32), np.ones(texts.answer, dtype=bool))] * texts.answers
    return Tree(ids, tuple(answers))


@pytest.mark.parametrize(
    ("name", "part"), [("llama, shared keys", PARTS[0]), *((name, PARTS[1]) for name in SHAPES)], ids=str
)
def test_what_is_saved_and_the_peak_are_those_of_real_tensors(name, part):
    plan, setup = blueprint(name), Setup(torch.float32)
    found = passed(plan, setup, SETTINGS, part)
    saved, after, peak = real(plan, setup, part)
    most = max(found.rising, found.falling, found.ending)
    assert found.saved == pytest.approx(after, rel=0.01)
    assert most == pytest.approx(peak, rel=0.01)
    # what autograd says that it keeps; the rest are the hidden states that are handed on, and what masks are made of
    assert saved * 0.97 <= found.saved <= saved * 1.15


def test_checkpointing_is_seen():
    plan, setup = blueprint("llama, shared keys"), Setup(torch.float32, checkpointing=True)
    found = passed(plan, setup, SETTINGS, PARTS[0])
    _, after, peak = real(plan, setup, PARTS[0])
    assert found.saved == pytest.approx(after, rel=0.01)
    assert max(found.rising, found.falling, found.ending) == pytest.approx(peak, rel=0.01)
    assert found.saved < 0.3 * passed(plan, Setup(torch.float32), SETTINGS, PARTS[0]).saved


@pytest.mark.parametrize(("name", "norms"), [("llama, shared keys", False), ("qwen3, with norms of queries", True)])
def test_a_layer_saves_what_the_formula_says(name, norms):
    """In bytes of fp32 for a token: inputs of maps and norms, queries, keys, values and output, and rotations."""
    plan = blueprint(name)
    text, count = plan.text, 64
    width, hidden, heads = plan.key_width, text.hidden_size, text.num_attention_heads
    queries = heads * (getattr(text, "head_dim", None) or hidden // heads)
    layer = 6 * hidden + 3 * queries + 2 * width + 4 * text.intermediate_size + heads + 2
    if norms:  # the input of each norm, normalised once, and a deviation for every head
        layer += 2 * (queries + width) + heads + text.num_key_value_heads
    saved = []
    for layers in (2, 3):
        plan.text.num_hidden_layers = layers
        if norms:
            plan.text.layer_types = ["full_attention"] * layers
        saved.append(passed(plan, Setup(torch.float32), SETTINGS, [Texts(answer=count)], whole=True).saved)
    deep, deeper = saved
    assert (deeper - deep) / count / 4 == pytest.approx(layer, rel=0.06)


@pytest.mark.parametrize("setup", [Setup(torch.float32), Setup(torch.bfloat16, checkpointing=True)], ids=str)
def test_going_on_from_two_depths_is_running_all_layers(setup):
    plan = blueprint("llama, shared keys")
    plan.text.num_hidden_layers = 9
    near, far = (passed(plan, setup, SETTINGS, PARTS[0], whole=whole) for whole in (False, True))
    for field in ("saved", "rising", "falling", "ending", "forward"):
        assert getattr(near, field) == pytest.approx(getattr(far, field), rel=0.02), field


def test_an_architecture_that_cannot_run_so_is_refused():
    from transformers import AutoConfig

    plan = Blueprint("t5", AutoConfig.for_model("t5", d_model=32, num_layers=2, vocab_size=64))
    with pytest.raises(ConfigError, match="'t5' cannot be planned for"):
        passed(plan, Setup(torch.float32), SETTINGS, PARTS[0])


# ---------------------------------------------------------------------------------------------- whole updates
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("sft", {"micro_tokens": 64}), ("sft", {"activation_checkpointing": True}), ("dpo", {}), ("rm", {}),
        ("orpo", {"adapter": "lora"}),
    ],
)  # fmt: skip
def test_an_update_takes_what_was_predicted(method, settings, registry, tiny_model):
    """A real gradient of a real batch, every tensor counted: the first after which gradients and buffers are there."""
    from tunesmith.data.encoding import load_tokenizer
    from tunesmith.models.roles import Models
    from tunesmith.runner.launch import _policy
    from tunesmith.runner.processes import Processes
    from tunesmith.runner.signals import StopRequest
    from tunesmith.runner.step import Stepper
    from tunesmith.scoring.probe import choose

    size, count = 60, 4
    flags = {"model": str(tiny_model), "device": "cpu", "max_length": size, "batch_size": count, "micro_tokens": 256}
    run = resolved(registry, method, Layers(flags={**flags, **settings}))[0]
    memory = Estimate(hardware.processor()).of(run)
    update = memory.phases[-1]
    policy = _policy(run, load_tokenizer(run.settings), torch.device("cpu"), torch.float32, None)
    choose(policy)
    texts = memory.workload.phases[-1].texts
    batch = Batch([tree(texts) for _ in range(count)]).with_columns(reference=torch.zeros(count, 2))
    parameters = [p for p in policy.module.parameters() if p.requires_grad]
    processes = Processes(torch.device("cpu"))
    stepper = Stepper(run.method, Models(policy), processes, run.settings.micro_tokens, 1, parameters)
    batch.totals = {"pairs": count, "chosen_tokens": count * size}
    live = Live(policy.module)
    with live, StopRequest() as stop:
        for _ in range(2):
            stepper.gradient(batch, float(count), stop, detailed=True)
            stepper.clear()
    predicted = sum(update.parts.get((name, "policy"), 0) for name in ("gradients", "activations", "loss head"))
    assert predicted / 1.15 <= live.peak <= predicted * 1.05
