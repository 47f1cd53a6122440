"""Copies of layers in every kind of block: nothing changes at first, and what is saved is an ordinary model."""

import copy

import numpy as np
import pytest
import torch

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.scoring.probe import choose, scoring
from tunesmith.scoring.scorer import Scorer
from tunesmith_methods.adept.probe import Probe, bypassed, layer_importance, unit_importance
from tunesmith_methods.adept.surgery import copy_places, deepen_config, expand, find_stack, freeze_but

COMMON = {
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": 0, "bos_token_id": 0},
    "pad_token_id": 0,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen3": {"head_dim": 8, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 8, "sliding_window": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "num_hidden_layers": 7},
    "olmo2": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24, "mlp_only_layers": [1]},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 8,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "deepseek_v3": {**EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 2,
                    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
                    "num_key_value_heads": 4},
    "granite": {"residual_multiplier": 0.3},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt2": {"n_inner": 48},
}  # fmt: skip
POST_NORM = ("gemma2", "gemma3_text", "olmo2")
CHOSEN = [0, 2, 3]


def build(family, **more):
    """A tiny model whose tensors, norms and biases included, are all random."""
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {**COMMON, **FAMILIES.get(family, {}), **more}
    if family in ("gpt_neox", "gpt2"):
        given.pop("num_key_value_heads")
    if family == "gpt2":
        given.pop("intermediate_size")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **given), dtype=torch.float32).eval()
    return shaken(model)


def shaken(module, scale=0.1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def logits(model, length=24):
    ids = torch.randint(1, 61, (2, length), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model(input_ids=ids).logits


def deepened(family, chosen=CHOSEN, **more):
    model = build(family, **more)
    return model, expand(model, chosen)


def trees(count=5, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(3, 30, count)
    ids = [random.integers(1, 61, size, dtype=np.int32) for size in sizes]
    return [Tree(i[:0], (Branch(i, np.ones(len(i), dtype=np.bool_)),)) for i in ids]


def probe(*halves):
    return Probe([list(half) for half in halves], [sum(tree.num_scored for tree in half) for half in halves])


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


# ------------------------------------------------------------------------------------------------ T-AD1
def test_copies_change_nothing_at_all(family):
    model = build(family)
    before = logits(model)
    layers = len(find_stack(model).layers)
    done = expand(model, CHOSEN)
    assert float((logits(model) - before).abs().max()) == 0.0
    assert done.copies == [1, 4, 6]
    assert len(find_stack(model).layers) == layers + 3 == model.config.num_hidden_layers


def test_the_last_map_of_each_branch_is_what_is_zeroed(family):
    """Behind a norm it is the norm's gain, which Gemma stores as the difference to 1; else it is the projection."""
    model, done = deepened(family)
    parameters = dict(model.named_parameters())
    assert len(done.zeroed) >= 2 * len(CHOSEN)
    for name in done.zeroed:
        wanted = -1.0 if family.startswith("gemma") and name.endswith("layernorm.weight") else 0.0
        assert bool((parameters[name] == wanted).all())
        assert ("layernorm" in name) == (family in POST_NORM)
    shared = [name for name in parameters if "shared_expert.down_proj" in name or "shared_experts.down_proj" in name]
    stack = find_stack(model)
    places = [f"{stack.path}.{place}." for place in done.copies]
    assert {name for name in shared if name.startswith(tuple(places))} <= set(done.zeroed)


def test_generation_with_the_cache_is_generation_without(family):
    model, _ = deepened(family)
    shaken(model, 0.05, seed=3)  # the copies take part now
    ids = torch.randint(1, 61, (1, 12), generator=torch.Generator().manual_seed(4))
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    options |= {"output_logits": True, "return_dict_in_generate": True, "pad_token_id": 0}
    with_cache, without = (model.generate(ids, use_cache=flag, **options) for flag in (True, False))
    assert torch.equal(with_cache.sequences, without.sequences)
    torch.testing.assert_close(torch.stack(with_cache.logits), torch.stack(without.logits), atol=1e-4, rtol=1e-4)


def test_what_is_saved_loads_as_an_ordinary_model(family, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    model, done = deepened(family)
    model.config.adept = {"source_layers": done.sources, "copy_indices": done.copies}
    shaken(model, 0.05, seed=3)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert AutoConfig.from_pretrained(tmp_path).adept == {"source_layers": CHOSEN, "copy_indices": [1, 4, 6]}


def test_a_tied_head_stays_tied():
    model, _ = deepened("qwen3")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_every_path_of_the_scorer_takes_the_copies_as_it_takes_the_model():
    """Attention modules read the config: a copy of it would keep the stock attention in the packed path."""
    model = build("gemma2")
    before = Scorer(copy.deepcopy(model))
    expand(model, CHOSEN)
    after = Scorer(shaken(model, 0.0))
    for scorer in (before, after):
        choose(scorer)
        assert scorer.path == "packed", scorer.why
    batch = Batch(trees())
    assert torch.equal(before.token_logps(batch).logps, after.token_logps(batch).logps)


# ------------------------------------------------------------------------------------------------ T-AD3
def test_at_first_only_the_zeroed_tensors_have_a_gradient(family):
    model, done = deepened(family)
    ids = torch.randint(1, 61, (2, 24), generator=torch.Generator().manual_seed(2))
    model(input_ids=ids, labels=ids).loss.backward()
    stack = find_stack(model)
    inside = {
        f"{stack.path}.{place}.{name}": parameter
        for place in done.copies
        for name, parameter in stack.layers[place].named_parameters()
    }
    moved = {name for name, p in inside.items() if p.grad is not None and bool(p.grad.any())}
    assert moved == set(done.zeroed)


# ------------------------------------------------------------------------------------------------ configs
def test_lists_by_layer_and_lists_of_layers_grow_along():
    windows, _ = deepened("gemma3_text")
    old = build("gemma3_text").config.layer_types
    assert windows.config.layer_types == [old[i] for i in (0, 0, 1, 2, 2, 3, 3, 4, 5, 6)]
    experts, _ = deepened("qwen2_moe")
    assert experts.config.mlp_only_layers == [2]
    more, _ = deepened("qwen2_moe", mlp_only_layers=[0, 1])
    assert more.config.mlp_only_layers == [0, 1, 2]
    dense, _ = deepened("deepseek_v3")
    assert dense.config.first_k_dense_replace == 3


def test_lists_that_only_look_like_it_stay():
    class Config:
        num_hidden_layers = 2

    config = Config()
    config.architectures, config.eos_token_id, config.no_rope_layers = ["A", "B"], [5, 7], [1, 1]
    deepen_config(config, [0, 1, 1])
    assert (config.architectures, config.eos_token_id) == (["A", "B"], [5, 7])
    assert config.no_rope_layers == [1, 1, 1]


def test_a_layer_knows_its_place():
    model, _ = deepened("llama")
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(7))


# ------------------------------------------------------------------------------------------------ T-AD9
def test_no_layer_and_all_layers():
    model = build("llama")
    before, names = logits(model), set(model.state_dict())
    assert expand(model, []).copies == []
    assert set(model.state_dict()) == names
    assert expand(model, [0, 1, 2, 3]).copies == [1, 3, 5, 7] == copy_places(4, [0, 1, 2, 3])
    assert torch.equal(logits(model), before)


def test_lists_of_experts_are_not_taken_for_layers():
    """Of models whose code keeps experts one by one, as many as there are layers."""
    model = build("llama")
    for layer in model.model.layers:
        layer.mlp.experts = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(4))
    assert find_stack(model).layers is model.model.layers


# ------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("family", "more", "why"),
    [
        ("bloom", {}, "BloomBlock does not put out its input plus"),
        ("qwen2_moe", {"decoder_sparse_step": 2, "mlp_only_layers": []}, "config cannot say that layer 1 is a copy"),
    ],
)
def test_what_cannot_be_deepened_is_refused(family, more, why):
    with pytest.raises(ValueError, match=why):
        deepened(family, **more)


# ------------------------------------------------------------------------------------------------ layers
def test_a_bypassed_layer_is_one_whose_weights_are_all_zero():
    """T-AD4; a layer without weights adds nothing, so both leave the residual alone."""
    for name in ("llama", "qwen3", "olmo2", "mixtral"):
        model = build(name)
        layer = find_stack(model).layers[1]
        with bypassed(layer):
            found = logits(model)
        assert float((found - logits(model)).abs().max()) > 1e-3, "the hook is gone again"
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
        assert torch.equal(found, logits(model)), name


def test_layers_that_do_nothing_have_no_importance():
    """T-AD5: copies at step 0. T-AD10: a layer whose out maps are zero; and it can be copied."""
    model = build("llama")
    dead = model.model.layers[1]
    with torch.no_grad():
        for linear in (dead.self_attn.o_proj, dead.mlp.down_proj):
            linear.weight.zero_()
            linear.bias.zero_()
    scorer = Scorer(model)
    choose(scorer)
    found, _ = layer_importance(scorer, list(model.model.layers), probe(trees()))
    assert found[1] == 0.0
    assert all(value != 0.0 for i, value in enumerate(found) if i != 1)
    model.set_attn_implementation("sdpa")
    expand(model, [1, 2])
    choose(scorer)
    deep, _ = layer_importance(scorer, list(model.model.layers), probe(trees()))
    assert deep[2] == deep[4] == 0.0
    assert [deep[i] for i in (0, 1, 3, 5)] == pytest.approx(found, abs=1e-12)


def test_importance_does_not_depend_on_how_the_probe_is_computed():
    """Packed or padded, cut into parts or not; and it is the mean of what each half says."""
    model = build("qwen3")
    rows = trees(6)
    scorer = Scorer(model)
    layers = list(model.model.layers)
    with scoring(scorer):
        assert scorer.path == "packed"
        whole, (before,) = layer_importance(scorer, layers, probe(rows))
        scorer.micro_tokens = 20
        parts, _ = layer_importance(scorer, layers, probe(rows))
        halves, losses = layer_importance(scorer, layers, probe(rows[:1], rows[1:]))
        one, two = (layer_importance(scorer, layers, probe(half))[0] for half in (rows[:1], rows[1:]))
    assert scorer.path == "stock"
    assert model.config._attn_implementation == "sdpa"
    padded, _ = layer_importance(scorer, layers, probe(rows))
    assert parts == pytest.approx(whole, abs=1e-6)
    assert padded == pytest.approx(whole, abs=1e-5)
    assert halves == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)], abs=1e-9)
    assert len(losses) == 2
    alone = sum(-scorer.token_logps(Batch([tree])).logps.sum().item() for tree in rows)
    assert before == pytest.approx(alone / sum(tree.num_scored for tree in rows), rel=1e-5)


# ------------------------------------------------------------------------------------------------ units
def test_unit_importance_is_the_mean_of_weight_times_gradient():
    model, done = deepened("mixtral")
    shaken(model, 0.05, seed=3)
    model.requires_grad_(False)
    for place in done.copies:
        model.model.layers[place].requires_grad_(True)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows, scorer = trees(4), Scorer(model)
    choose(scorer)
    scorer.micro_tokens = 25
    found, _ = unit_importance(scorer, parameters, probe(rows))
    assert all(p.grad is None for p in model.parameters())
    total = sum(-scorer.token_logps(Batch([tree])).logps.sum() for tree in rows)
    gradients = torch.autograd.grad(total / sum(tree.num_scored for tree in rows), list(parameters.values()))
    for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
        assert found[name] == pytest.approx((p.detach() * gradient).abs().mean().item(), rel=1e-3, abs=1e-9), name


def test_halves_are_averaged_so_that_opposite_gradients_do_not_cancel():
    model, _ = deepened("llama")
    shaken(model, 0.05, seed=3)
    scorer, rows = Scorer(model), trees(4)
    choose(scorer)
    parameters = dict(model.named_parameters())
    one, two, both = (
        unit_importance(scorer, parameters, probe(*h))[0] for h in ([rows[:2]], [rows[2:]], [rows[:2], rows[2:]])
    )
    for name in parameters:
        assert both[name] == pytest.approx((one[name] + two[name]) / 2, rel=1e-4, abs=1e-10)


# ------------------------------------------------------------------------------------------------ cost
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_costs_at_most_six_tenths_of_training_everything(checkpointing):
    """Floating point operations of forward and backward, at the same depth, with copies in the upper third."""
    from torch.utils.flop_counter import FlopCounterMode

    from tunesmith import Loss
    from tunesmith.models.loading import recompute_activations

    model, done = deepened("llama", chosen=[8, 9, 10, 11], num_hidden_layers=12)
    if checkpointing:
        recompute_activations(model.train())
    scorer, batch = Scorer(model), Batch(trees(4))
    choose(scorer)

    def cost():
        with FlopCounterMode(display=False) as counter:
            scorer.backward(batch, lambda part: Loss(-scorer.token_logps(part).logps.sum()), 1)
        return counter.get_total_flops()

    whole = cost()
    freeze_but(model, [model.model.layers[place] for place in done.copies])
    assert cost() < 0.6 * whole


# ------------------------------------------------------------------------------------------------ T-AD11
def test_uniform_copies_are_llama_pros():
    """Its construction on the names of a state dict: behind each group its last block again, out maps zero."""
    from tunesmith_methods.adept.selection import uniform

    model = build("llama", attention_bias=False, mlp_bias=False, num_hidden_layers=6)
    wanted, group, place = {}, 6 // 3, 0
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, tensor in old.items():
        if ".layers." not in name:
            wanted[name] = tensor
    for layer in range(6):
        own = {name: t for name, t in old.items() if f".layers.{layer}." in name}
        for repeat in range(1 + ((layer + 1) % group == 0)):
            for name, tensor in own.items():
                zero = repeat and ("o_proj" in name or "down_proj" in name)
                wanted[name.replace(f".{layer}.", f".{place}.", 1)] = torch.zeros_like(tensor) if zero else tensor
            place += 1
    expand(model, uniform(6, 3))
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
