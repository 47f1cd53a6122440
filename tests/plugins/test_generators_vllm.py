"""The engine of vLLM against a record of vLLM's interface: nothing here runs vLLM."""

import importlib.util
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tunesmith import ConfigError, ResourceError, Sampling
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith_plugins.generators import VLLM, Native, vllm_engine
from tunesmith_plugins.generators.merged import merged_weights

_spec = importlib.util.spec_from_file_location("recorded_vllm", Path(__file__).with_name("recorded_vllm.py"))
recorded = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(recorded)

SEEDS = [[1, 2], [3]]


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def policy(tiny_model):
    scorer = Scorer(AutoModelForCausalLM.from_pretrained(tiny_model).train())
    with torch.no_grad():  # peaked distributions, so that a wrong temperature shows
        scorer.module.lm_head.weight.mul_(40.0)
    choose(scorer)
    return scorer


@pytest.fixture
def world(monkeypatch):
    world = recorded.World()
    recorded.install(monkeypatch, world)
    monkeypatch.setattr(vllm_engine, "check_possible", lambda policy: None)
    return world


@pytest.fixture
def prompts(tokenizer):
    return [np.array(tokenizer(text)["input_ids"], dtype=np.int32) for text in ("she sells", "one, two and")]


@pytest.fixture
def url(world, tiny_model):
    world.config = AutoConfig.from_pretrained(tiny_model)
    server = recorded.serve(world)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def check_samples(session, policy, prompts) -> None:
    """They are what the built-in engine draws: the record samples with it, from the weights that it was sent."""
    sampling = Sampling(max_new_tokens=9, temperature=0.7)
    samples = session.generate(prompts, SEEDS, sampling)
    wanted = Native().open(policy, None, [7]).generate(prompts, SEEDS, sampling)
    for group, other in zip(samples, wanted, strict=True):
        for sample, same in zip(group, other, strict=True):
            assert sample.ids.tolist() == same.ids.tolist() and sample.stop == same.stop
            np.testing.assert_allclose(sample.logps, same.logps, atol=1e-4)


def shift(policy) -> None:
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def test_colocated_it_gets_the_weights_and_samples_from_them(world, policy, tokenizer, prompts) -> None:
    session = VLLM(gpu_memory=0.4).open(policy, tokenizer, [7])
    name, dtype, memory, options = world.calls[0]
    assert (name, dtype, memory) == ("LLM", "float32", 0.4)
    assert options["load_format"] == "dummy" and options["weight_transfer_config"].backend == "ipc"
    assert world.calls[1:] == [
        ("init", {"rank": 0, "packed": True, "packed_buffer_size_bytes": 1 << 30}),
        "start",
        "update",
        "finish",
        "reset_prefix_cache",
    ]
    check_samples(session, policy, prompts)
    shift(policy)
    session.sync()
    check_samples(session, policy, prompts)
    session.close()


def test_a_server_gets_the_weights_and_samples_from_them(world, policy, tokenizer, prompts, url) -> None:
    session = VLLM(mode="server", url=url, address="10.0.0.1", port=1234).open(policy, tokenizer, [7])
    joined = {"master_address": "10.0.0.1", "master_port": 1234, "world_size": 3, "rank": 0, "packed": True}
    assert world.calls == [("init", joined), "/pause?mode=wait", "start", "finish", "/resume"]
    check_samples(session, policy, prompts)
    shift(policy)
    session.sync()
    check_samples(session, policy, prompts)
    session.close()
    assert world.calls[-1] == "/shutdown_weight_transfer_engine"


def test_settings_reach_the_engine_under_its_names(world, policy, tokenizer, prompts) -> None:
    session = VLLM().open(policy, tokenizer, [7, 3])
    sampling = Sampling(max_new_tokens=4, temperature=0.5, top_p=0.9, top_k=9, min_p=0.1, stop=("END", "\n"))
    samples = session.generate(prompts, [[1 << 63], [5]], sampling)
    given = world.options[-2]
    assert given == {
        "max_tokens": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 9,
        "min_p": 0.1,
        "seed": 0,  # of 64 bits it takes 63
        "stop": ["END", "\n"],
        "stop_token_ids": [3, 7],
        "ignore_eos": True,
        "logprobs": 0,
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
    }
    session.close()
    # its own are those of the truncated distribution: these are the policy's, over the whole vocabulary
    wanted = Native().open(policy, tokenizer, [3, 7]).generate(prompts, [[0], [5]], sampling)
    for (sample,), (same,) in zip(samples, wanted, strict=True):
        assert sample.ids.tolist() == same.ids.tolist()
        np.testing.assert_allclose(sample.logps, same.logps, atol=1e-4)


def test_log_probabilities_at_another_temperature_are_refused(world, policy, tokenizer, url) -> None:
    world.logprobs_mode = "raw_logprobs"
    with pytest.raises(ConfigError, match=r"away from the policy's(.|\n)*--logprobs-mode processed_logprobs"):
        VLLM(mode="server", url=url).open(policy, tokenizer, [7])
    assert world.calls[-1] == "/shutdown_weight_transfer_engine"


def test_a_server_that_is_not_there_or_has_no_such_route(world, policy, tokenizer, url) -> None:
    with pytest.raises(
        ResourceError, match=r"no answer from vLLM to v1/models(.|\n)*127.0.0.1:9(.|\n)*start the server"
    ):
        VLLM(mode="server", url="http://127.0.0.1:9").open(policy, tokenizer, [7])
    with pytest.raises(ResourceError, match=r"vLLM answered 404 to v1/models(.|\n)*VLLM_SERVER_DEV_MODE=1"):
        VLLM(mode="server", url=f"{url}elsewhere").open(policy, tokenizer, [7])


def test_without_a_gpu_it_is_refused(policy, tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"fetches weights from a GPU, but the policy is on cpu"):
        VLLM().open(policy, tokenizer, [7])


# ---------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize(
    "options",
    [{"target_modules": ["q_proj", "down_proj"]}, {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}],
)
def test_an_adapter_is_merged_on_the_way(policy, options) -> None:
    base = policy.module
    base.set_attn_implementation("sdpa")
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, init_lora_weights=False, **options))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    sent = dict(merged_weights(Scorer(adapted), torch.float32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())
    merged = dict(adapted.merge_and_unload().named_parameters())
    assert sent.keys() == merged.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(sent[name], tensor.detach())


def test_an_adapter_that_is_more_than_two_matrices_is_refused(policy) -> None:
    adapted = peft.get_peft_model(policy.module, peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ConfigError, match="more than W \\+ BA"):
        list(merged_weights(Scorer(adapted), torch.float32))
