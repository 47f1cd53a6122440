"""transformers' continuous batching as an engine, on the CPU."""

import gc

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from tunesmith import ConfigError, DataError, ResourceError, Sampling
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import Native, TransformersCB

EOS = 5
SEEDS = [[1, 2, 3], [4], [5, 6]]


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    """transformers collects garbage at the end of every call: half a second in a process as large as this one."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=131,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=EOS,
    )
    scorer = Scorer(LlamaForCausalLM(config).train())
    choose(scorer)
    return scorer


@pytest.fixture(scope="module")
def engine(policy):
    return TransformersCB(max_batch_tokens=2048).open(policy, None, range(5, 12))


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(0)
    return [random.integers(12, 131, n, dtype=np.int32) for n in (4, 9, 6)]


def test_samples_have_the_trainers_log_probabilities_and_a_call_repeats(policy, engine, prompts) -> None:
    state, modes = torch.get_rng_state(), [module.training for module in policy.module.modules()]
    samples, again = (engine.generate(prompts, SEEDS, Sampling(max_new_tokens=15)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in policy.module.modules()] == modes
    assert policy.language_model.config._attn_implementation == "tunesmith_trees"
    assert [len(group) for group in samples] == [3, 1, 2]
    drawn = [(p, sample) for p, group in zip(prompts, samples, strict=True) for sample in group]
    assert {sample.stop for _, sample in drawn} == {"eos", "length"}
    for _, sample in drawn:
        ended = np.flatnonzero((sample.ids >= 5) & (sample.ids < 12)).tolist()
        assert ended == ([len(sample.ids) - 1] if sample.stop == "eos" else [])
        assert sample.stop == "eos" or len(sample.ids) == 15
    trees = [Tree(p, (Branch(s.ids, np.ones(len(s.ids), dtype=np.bool_)),)) for p, s in drawn]
    with torch.no_grad():
        wanted = policy.token_logps(Batch(trees)).logps.numpy()
    np.testing.assert_allclose(np.concatenate([s.logps for _, s in drawn]), wanted, atol=1e-5)
    assert [s.ids.tolist() for _, s in drawn] == [s.ids.tolist() for group in again for s in group]
    assert drawn[0][1].ids.tolist() != drawn[1][1].ids.tolist()


def test_greedy_equals_the_built_in_engine(policy, engine, prompts) -> None:
    sampling = Sampling(max_new_tokens=10, temperature=0.0)
    one, other = (
        session.generate(prompts, [[1]] * 3, sampling)
        for session in (engine, Native().open(policy, None, range(5, 12)))
    )
    for (a,), (b,) in zip(one, other, strict=True):
        assert a.ids.tolist() == b.ids.tolist() and a.stop == b.stop
        np.testing.assert_allclose(a.logps, b.logps, atol=1e-5)


def test_a_truncated_distribution_is_rescored_over_the_whole_vocabulary(policy, engine, prompts) -> None:
    sampling = Sampling(max_new_tokens=6, temperature=0.5, top_k=3)
    for prompt, group in zip(prompts, engine.generate(prompts, SEEDS, sampling), strict=True):
        for sample in group:
            row = torch.tensor([*prompt, *sample.ids])
            tree = Tree(prompt, (Branch(sample.ids, np.ones(len(sample.ids), dtype=np.bool_)),))
            with torch.no_grad():
                hidden = policy._hidden(Batch([tree]))[0]
                logits = policy.language_model.lm_head(hidden) / 0.5
            logps = logits.log_softmax(-1).gather(1, row[len(prompt) :, None])[:, 0]
            np.testing.assert_allclose(sample.logps, logps, atol=1e-5)
            assert all(token in row.topk(3).indices for token, row in zip(sample.ids, logits, strict=True))


def test_no_prompts_and_prompts_that_do_not_fit(engine, prompts) -> None:
    assert engine.generate([], [], Sampling()) == []
    with pytest.raises(DataError, match="64 positions"):
        engine.generate(prompts, SEEDS, Sampling(max_new_tokens=60))


def test_a_model_that_it_cannot_run_is_refused() -> None:
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    scorer = Scorer(MambaForCausalLM(config))
    scorer.path = "padded"
    with pytest.raises(ConfigError, match=r"does not work for a MambaForCausalLM(.|\n)*linear_attention(.|\n)*native"):
        TransformersCB().open(scorer, None, [EOS])


def test_a_prompt_that_fails_is_an_error_and_not_an_empty_sample(policy, engine, prompts, monkeypatch) -> None:
    monkeypatch.setattr(type(policy.language_model), "generate_batch", lambda *_, **__: {})
    with pytest.raises(ResourceError, match="failed on 6 of 6 prompts"):
        engine.generate(prompts, SEEDS, Sampling(max_new_tokens=4))
