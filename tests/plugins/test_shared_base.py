"""A reward model, a critic and a policy as adapters on one base: the same numbers, and nobody disturbs the others."""

import json

import pytest
import torch

from tunesmith import Rollout
from tunesmith.config import build
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.errors import ResourceError
from tunesmith.models.adapters import AdapterScores, recompute_as_computed, shares_base
from tunesmith.models.critic import ADAPTER, AdapterCritic
from tunesmith.models.loading import recompute_activations
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer


@pytest.fixture
def reward_folder(train, tmp_path):
    """An adapter that has learned to prefer one kind of answer."""
    rows = [{"prompt": f"Question {i}?", "chosen": f" Yes, gladly. {i}", "rejected": f" No. {i}"} for i in range(16)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"data": str(path), "adapter": "lora", "max_steps": 8, "batch_size": 8, "learning_rate": 1e-2}
    return train("rm", "rm-lora", lora_dropout=0.3, **settings) / "model"


@pytest.fixture
def policy(tiny_model):
    """An adapter with weights of its own on the tiny model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    module = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    scorer = Scorer(module.train())
    choose(scorer)
    return scorer


def rollouts():
    return [Rollout(f"Question {i}?", f" {'Yes, gladly' if i % 2 else 'No'}. {i}" * (1 + i % 3)) for i in range(7)]


def batch():
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 200, (3, 12), generator=chance).int().numpy()
    return Batch([Tree(row[:5], (Branch(row[5:], row[5:] >= 0),)) for row in ids])


def gradients(policy):
    policy.module.zero_grad()
    policy.token_logps(batch()).logps.sum().backward()
    return {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}


def test_the_scores_are_those_of_the_reward_model_by_itself(registry, reward_folder, policy):
    alone = build(registry, "reward", str(reward_folder))(rollouts())
    shared = build(registry, "reward", str(reward_folder))
    shared.attach(policy)
    assert shared._shared is not None
    assert len(set(alone)) == len(alone)
    assert shared(rollouts()) == pytest.approx(alone, abs=1e-5)


def test_the_policy_is_left_as_it_was(registry, reward_folder, policy):
    before, trained = gradients(policy), {n: p.requires_grad for n, p in policy.module.named_parameters()}
    for _ in range(2):  # a second reward on the same base gets an adapter of its own
        reward = build(registry, "reward", str(reward_folder))
        reward.attach(policy)
        scores = reward(rollouts())
        assert reward(rollouts()) == scores
    assert policy.module.active_adapter == "default"
    now = {n: p.requires_grad for n, p in policy.module.named_parameters()}
    assert {n: now[n] for n in trained} == trained
    assert not any(now[n] for n in now.keys() - trained.keys())
    assert any(module.training for module in policy.module.modules() if isinstance(module, torch.nn.Dropout))
    after = gradients(policy)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_critic_beside_it_trains_and_the_reward_does_not(registry, reward_folder, policy):
    critic = AdapterCritic(policy)
    reward = build(registry, "reward", str(reward_folder))
    reward.attach(policy)
    with torch.no_grad():
        critic.head.weight.fill_(0.1)
    before = critic.values(batch()).detach()
    scores = reward(rollouts())
    assert torch.equal(critic.values(batch()), before)
    (critic.values(batch()).sum() + policy.token_logps(batch()).logps.sum()).backward()
    reached = {name for name, p in policy.module.named_parameters() if p.grad is not None}
    assert any(f".{ADAPTER}." in name for name in reached)
    assert any(".default." in name for name in reached)
    assert not any(".reward_1." in name for name in reached)
    assert {id(p) for p in critic.parameters()} == {
        id(p) for n, p in policy.module.named_parameters() if f".{ADAPTER}." in n
    } | {id(critic.head.weight)}
    assert reward(rollouts()) == scores


def test_layers_computed_again_have_the_adapter_that_they_had(policy):
    """The critic's pass is gone through backwards while the policy's adapter is active."""
    critic = AdapterCritic(policy)
    with torch.no_grad():
        critic.head.weight.fill_(0.1)
        for name, parameter in policy.module.named_parameters():
            if f".{ADAPTER}." in name:
                parameter.normal_(std=0.2)

    def both():
        policy.module.zero_grad()
        logps = policy.token_logps(batch()).logps.sum()
        (critic.values(batch()).sum() + logps).backward()
        return {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}

    kept = both()
    recompute_activations(policy.module)
    recompute_as_computed(policy.module)
    again = both()
    assert policy.module.active_adapter == "default"
    assert again.keys() == kept.keys() and any(f".{ADAPTER}." in name for name in kept)
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-6)


def test_only_the_very_base_is_shared(reward_folder, policy, tmp_path, tiny_model):
    assert shares_base(policy, reward_folder)
    whole = Scorer(policy.module.get_base_model())
    assert not shares_base(whole, reward_folder)
    config = json.loads((reward_folder / "adapter_config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path)}))
    assert not shares_base(policy, other)


def test_weights_that_do_not_fit_are_refused(reward_folder, policy):
    from safetensors.torch import load_file, save_file

    path = reward_folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(name for name in tensors if "lora_A" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, path)
    with pytest.raises(ResourceError, match="does not fit"):
        AdapterScores(policy, reward_folder)


def test_four_roles_on_one_base_in_a_run(train, reward_folder, tmp_path, registry, monkeypatch):
    """The run with a shared base is the run with separate models, up to rounding."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(8)))
    reward = {"name": "reward-model", "model": str(reward_folder)}
    settings = {"data": str(path), "rewards": [reward], "adapter": "lora", "max_steps": 2, "batch_size": 4}
    settings |= {"max_new_tokens": 5, "probe": 0, "update_epochs": 2}
    loaded = []
    from tunesmith_rewards import reward_model

    real = reward_model._loaded
    monkeypatch.setattr(reward_model, "_loaded", lambda folder: loaded.append(folder) or real(folder))
    shared = train("ppo", "shared", **settings)
    assert not loaded
    monkeypatch.setattr(reward_model.RewardModel, "attach", lambda self, policy: None)
    apart = train("ppo", "apart", **settings)
    assert loaded
    lines = [[json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()] for run in (shared, apart)]
    assert [line["completion"] for line in lines[0]] == [line["completion"] for line in lines[1]]
    assert [line["reward"] for line in lines[0]] == pytest.approx([line["reward"] for line in lines[1]], abs=1e-4)
    assert not list((shared / "model").glob("reward_*"))
