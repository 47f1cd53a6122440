"""The built-in engine: exact for every family of models, whatever else is in the batch, and without side effects."""

import numpy as np
import pytest
import torch
import transformers

from tunesmith import ConfigError, DataError, Sampling
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import Native, trial
from tunesmith_plugins.generators.cached import Cached, LeftPadded
from tunesmith_plugins.generators.native import Growth
from tunesmith_plugins.generators.slots import Slots

VOCABULARY, EOS = 131, 5
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 128}
GEMMA = LLAMA | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
ENDS = {"bos_token_id": None, "eos_token_id": EOS, "pad_token_id": 0}
FAMILIES = {
    "Llama": LLAMA,
    "Qwen2": LLAMA,
    "Gemma2": GEMMA,
    "Gemma3": GEMMA | {"layer_types": ["sliding_attention", "full_attention"]},
    "Granite": LLAMA | {"logits_scaling": 2.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "GPT2": SIZES | {"n_positions": 128, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "OPT": SIZES | {"ffn_dim": 48, "max_position_embeddings": 128, "word_embed_proj_dim": 32, "dropout": 0.0},
    "Falcon": SIZES,  # its attention cannot be replaced
    "Mamba": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}
CACHES = {"Falcon": LeftPadded, "Mamba": Cached}
"""Of families that do not run with slots."""


def make(family, **changed):
    config_name = {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config")
    model_name = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**(FAMILIES[family] | ENDS | changed))
    model = getattr(transformers, model_name)(config)
    with torch.no_grad():  # peaked distributions: a wrong cache changes the tokens
        model.get_output_embeddings().weight.mul_(8.0)
    return model.train()


def scorer_of(model, **settings):
    scorer = Scorer(model, **settings)
    choose(scorer)
    return scorer


@pytest.fixture(scope="module")
def llama():
    return scorer_of(make("Llama"))


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(1)
    return [random.integers(6, VOCABULARY, n, dtype=np.int32) for n in (3, 9, 9, 14)]


SEEDS = [[1, 2], [3, 4, 9], [5, 6], [7]]


def logps_of(policy, prompts, samples):
    """What the trainer says about prompt and completion."""
    trees = [
        Tree(prompt, (Branch(sample.ids, np.ones(len(sample.ids), dtype=np.bool_)),))
        for prompt, group in zip(prompts, samples, strict=True)
        for sample in group
    ]
    with torch.no_grad():
        return policy.token_logps(Batch(trees)).logps.numpy()


def every(samples):
    return [sample for group in samples for sample in group]


def flat(samples):
    return np.concatenate([sample.logps for sample in every(samples)])


def same(one, other):
    for a, b in zip(every(one), every(other), strict=True):
        assert a.ids.tolist() == b.ids.tolist() and a.stop == b.stop
        np.testing.assert_allclose(a.logps, b.logps, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate_and_samples_have_the_trainers_log_probabilities(family, prompts) -> None:
    model = make(family)
    wanted = []
    for prompt in prompts:
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        model.eval()
        wanted.append(model.generate(ids, max_new_tokens=20, do_sample=False)[0, len(prompt) :].tolist())
    policy = scorer_of(model.train())
    engine = Native(batch_size=5).open(policy, None, [EOS])
    assert engine.cache is CACHES.get(family, Slots)
    greedy = engine.generate(prompts, [[0]] * 4, Sampling(max_new_tokens=20, temperature=0.0))
    assert [group[0].ids.tolist() for group in greedy] == wanted
    drawn = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=20))
    np.testing.assert_allclose(flat(drawn), logps_of(policy, prompts, drawn), atol=1e-5)
    np.testing.assert_allclose(flat(greedy), logps_of(policy, prompts, greedy), atol=1e-5)


@pytest.mark.parametrize("cache", [LeftPadded, Cached])
def test_the_padded_path_gives_the_same_as_the_packed_one(cache, prompts) -> None:
    packed = scorer_of(make("Llama"))
    padded = Scorer(make("Llama"))
    padded.path = "padded"
    engines = [Native(batch_size=5).open(policy, None, [EOS]) for policy in (packed, padded)]
    assert [engine.cache for engine in engines] == [Slots, LeftPadded]
    engines[1].cache = cache
    one, other = (engine.generate(prompts, SEEDS, Sampling(max_new_tokens=12)) for engine in engines)
    same(one, other)
    np.testing.assert_allclose(flat(other), logps_of(padded, prompts, other), atol=1e-5)


@pytest.mark.parametrize("family", ["Gemma3", "Falcon", "Mamba"])
@pytest.mark.parametrize("limits", [(1, 65_536), (3, 65_536), (64, 80)])
def test_a_sample_does_not_depend_on_what_else_is_in_the_batch(family, limits, prompts) -> None:
    policy = scorer_of(make(family))
    sampling = Sampling(max_new_tokens=10)
    together = Native().open(policy, None, [EOS]).generate(prompts, SEEDS, sampling)
    few = Native(batch_size=limits[0], max_batch_tokens=limits[1]).open(policy, None, [EOS])
    same(together, few.generate(prompts, SEEDS, sampling))
    alone = few.generate([prompts[1]], [[9]], sampling)
    same([[together[1][2]]], alone)


def test_a_seed_repeats_its_sample_and_other_seeds_differ(llama, prompts) -> None:
    engine = Native().open(llama, None, [])
    samples = engine.generate([prompts[0], prompts[0]], [[4, 5, -4], [4, 1 << 70]], Sampling(max_new_tokens=8))
    assert samples[0][0].ids.tolist() == samples[1][0].ids.tolist()
    assert len({tuple(sample.ids) for group in samples for sample in group}) == 4


def test_each_prompt_is_run_once_and_only_sequences_that_grow_are_computed(llama, prompts, monkeypatch) -> None:
    computed = {"prefill": 0, "step": 0}
    prefill, step = Slots.prefill, Slots.step
    monkeypatch.setattr(
        Slots, "prefill", lambda self, some: [computed.update(prefill=computed["prefill"] + sum(map(len, some)))]
        and prefill(self, some),
    )  # fmt: skip
    monkeypatch.setattr(
        Slots, "step", lambda self, ids: [computed.update(step=computed["step"] + len(ids))] and step(self, ids)
    )
    engine = Native().open(llama, None, [EOS])
    computed.update(prefill=0, step=0)
    samples = engine.generate([*prompts, prompts[3]], [*SEEDS, [8]], Sampling(max_new_tokens=30))
    assert computed["prefill"] == sum(map(len, prompts))  # the last prompt is there twice
    everything = every(samples)
    assert len({len(sample.ids) for sample in everything}) > 2  # they end at different steps
    assert computed["step"] == sum(len(sample.ids) - 1 for sample in everything)


def test_reasons_to_stop(llama, prompts) -> None:
    samples = Native().open(llama, None, range(5, 25)).generate(prompts, SEEDS, Sampling(max_new_tokens=9))
    assert {sample.stop for group in samples for sample in group} == {"eos", "length"}
    for sample in every(samples):
        ended = [i for i, token in enumerate(sample.ids) if 5 <= token < 25]
        assert (len(sample.ids), sample.stop) == ((ended[0] + 1, "eos") if ended else (9, "length"))
        assert sample.ids.dtype == np.int32 and sample.logps.dtype == np.float32
        assert len(sample.logps) == len(sample.ids)


def test_one_token_no_prompts_and_no_seeds(llama, prompts) -> None:
    engine = Native().open(llama, None, [EOS])
    one = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=1))
    assert [[len(sample.ids) for sample in group] for group in one] == [[1, 1], [1, 1, 1], [1, 1], [1]]
    assert engine.generate([], [], Sampling()) == []
    assert engine.generate(prompts[:2], [[], []], Sampling(max_new_tokens=4)) == [[], []]


def test_prompts_that_cannot_be_completed_are_refused(llama, prompts) -> None:
    engine = Native().open(llama, None, [EOS])
    with pytest.raises(DataError, match="no tokens"):
        engine.generate([prompts[0], prompts[0][:0]], [[1], [2]], Sampling(max_new_tokens=4))
    with pytest.raises(DataError, match=r"14 tokens leaves no room for 115(.|\n)*128 positions"):
        engine.generate(prompts, SEEDS, Sampling(max_new_tokens=115))
    assert len(engine.generate(prompts[3:], [[1]], Sampling(max_new_tokens=114))[0]) == 1


def test_weights_that_change_are_used_at_once(prompts) -> None:
    policy = scorer_of(make("Llama"))
    engine = Native().open(policy, None, [EOS])
    before = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=8))
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    engine.sync()
    after = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=8))
    assert [s.ids.tolist() for s in every(before)] != [s.ids.tolist() for s in every(after)]
    np.testing.assert_allclose(flat(after), logps_of(policy, prompts, after), atol=1e-5)


@pytest.mark.parametrize("family", ["Llama", "Mamba"])
def test_training_goes_on_as_if_nothing_had_been_sampled(family, prompts) -> None:
    """Random state, modes, attention, checkpointing of activations and gradients are as before."""
    model = make(family)
    policy = scorer_of(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.lm_head.eval() if family == "Llama" else None  # a part that was not in training mode stays so
    modes = [module.training for module in model.modules()]
    attention, state = model.config._attn_implementation, torch.get_rng_state()
    engine = Native().open(policy, None, [EOS])
    drawn = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=8))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == attention
    np.testing.assert_allclose(flat(drawn), logps_of(policy, prompts, drawn), atol=1e-5)
    tree = Tree(prompts[0], (Branch(drawn[0][0].ids, np.ones(len(drawn[0][0].ids), dtype=np.bool_)),))
    policy.token_logps(Batch([tree])).logps.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_adapter_samples_without_its_dropout(prompts) -> None:
    import peft

    from tunesmith.scoring.scorer import without_dropout

    options = peft.LoraConfig(r=4, lora_dropout=0.9, init_lora_weights=False, target_modules=["q_proj", "down_proj"])
    policy = scorer_of(peft.get_peft_model(make("Llama"), options).train())
    drawn = Native().open(policy, None, [EOS]).generate(prompts, SEEDS, Sampling(max_new_tokens=8))
    with without_dropout(policy.module):
        np.testing.assert_allclose(flat(drawn), logps_of(policy, prompts, drawn), atol=1e-5)
    with policy.module.disable_adapter(), without_dropout(policy.module):
        assert np.abs(flat(drawn) - logps_of(policy, prompts, drawn)).max() > 0.1


def test_autocast_samples_in_the_trainers_precision(prompts) -> None:
    policy = scorer_of(make("Llama"), autocast=True)
    drawn = Native().open(policy, None, [EOS]).generate(prompts, SEEDS, Sampling(max_new_tokens=8))
    trained = logps_of(policy, prompts, drawn)
    policy.autocast = False
    exact = logps_of(policy, prompts, drawn)
    assert np.abs(exact - trained).mean() > 1e-4  # the precision does matter here
    assert np.abs(flat(drawn) - trained).mean() < 3 * np.abs(exact - trained).mean()


def test_out_of_memory_halves_the_batch_and_changes_no_sample(llama, prompts, monkeypatch, caplog) -> None:
    engine = Native(batch_size=8).open(llama, None, [EOS])
    sampling = Sampling(max_new_tokens=12)
    wanted = engine.generate(prompts, SEEDS, sampling)
    step, most = Slots.step, [2]

    def poor(self, ids):
        if len(ids) > most[0]:
            raise torch.OutOfMemoryError("no more")
        return step(self, ids)

    monkeypatch.setattr(Slots, "step", poor)
    same(engine.generate(prompts, SEEDS, sampling), wanted)
    assert [record.args[0] for record in caplog.records if "out of memory" in record.message] == [4, 2]
    most[0] = 0
    with pytest.raises(Exception, match="out of memory with one completion of 26 tokens"):
        engine.generate(prompts, SEEDS, sampling)


def test_a_model_whose_cache_is_not_exact_is_refused(monkeypatch) -> None:
    model = make("Llama")
    policy = scorer_of(model)
    broken = torch.nn.Parameter(torch.randn(VOCABULARY, 32))
    for cache in (Slots, Cached):
        step = cache.step
        monkeypatch.setattr(cache, "step", lambda self, ids, step=step: step(self, ids) + broken[:, 0].detach())
    with pytest.raises(
        ConfigError, match=r"cannot sample from a LlamaForCausalLM(.|\n)*slots: (.|\n)*leftpadded: (.|\n)*cached: "
    ):
        Native().open(policy, None, [EOS])


def test_a_stride_of_steps_changes_no_sample(llama, prompts, monkeypatch) -> None:
    """As on an accelerator, where the host looks at the tokens every few steps."""
    engine = Native(batch_size=3).open(llama, None, range(5, 20))
    wanted = engine.generate(prompts, SEEDS, Sampling(max_new_tokens=11))
    made = Growth.__init__

    def strided(self, *args):
        made(self, *args)
        self.stride = 4

    monkeypatch.setattr(Growth, "__init__", strided)
    same(engine.generate(prompts, SEEDS, Sampling(max_new_tokens=11)), wanted)


def test_the_trial_of_a_cache_does_not_depend_on_the_temperature_of_the_run():
    policy = scorer_of(make("Llama"))
    policy.temperature = 0.7
    assert trial.choose(policy) is Slots
    assert policy.temperature == 0.7
