"""Where it is known what a method must find: one-token answers, a reward for each, and a price on the KL.

The policy of greatest expected reward less beta times KL to the reference is softmax(log reference + reward / beta).
"""

import json
from typing import ClassVar

import pytest
import torch

from tunesmith import Reward

BETA = 0.5
REWARDS = (0.0, 1.0, 0.5, -0.5, 0.2)
"""Of the tokens; the first ends an answer."""
PROMPT = "b"


class ByToken(Reward):
    """The reward of the first token."""

    name: ClassVar[str] = "by-token"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [REWARDS[rollout.ids[0]] for rollout in rollouts]


@pytest.fixture(scope="module")
def bandit(tmp_path_factory):
    """A model over five tokens that is far from uniform."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bandit")
    core = Tokenizer(models.WordLevel({"</s>": 0, "b": 1, "c": 2, "d": 3, "e": 4}, unk_token="e"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="e").save_pretrained(folder)
    torch.manual_seed(3)
    shape = {"vocab_size": 5, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16, "eos_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(**shape, **heads, bos_token_id=None, pad_token_id=None))
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.2)
    model.save_pretrained(folder)
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPT}) + "\n")
    return folder


def policy(folder):
    """Probabilities ``[5]`` of the answers."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(input_ids=torch.tensor([[1]])).logits[0, -1].softmax(-1)


def optimum(folder):
    """Of the reward less the price of the KL."""
    return (policy(folder).log() + torch.tensor(REWARDS) / BETA).softmax(-1)


@pytest.fixture
def run(train, bandit):
    """``run(method, **settings)``: probabilities of the answers after training."""

    def learn(method, name="run", **settings):
        common = {"model": str(bandit), "data": str(bandit / "prompts.jsonl"), "rewards": (ByToken(),), "probe": 0}
        common |= {"max_new_tokens": 1, "batch_size": 1, "group_size": 64, "learning_rate": 2e-2, "schedule": "cosine"}
        return policy(train(method, name, **{**common, "max_steps": 80, **settings}) / "model")

    return learn


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("rloo", {}),
        ("grpo", {}),
        ("ppo", {"update_epochs": 2, "decay": 1.0, "max_steps": 60}),
    ],
)
def test_a_price_on_the_kl_gives_the_known_optimum(run, bandit, method, settings):
    wanted, before = optimum(bandit), policy(bandit)
    assert (wanted - before).abs().sum() / 2 > 0.3
    found = run(method, kl_coef=BETA, **settings)
    assert (found - wanted).abs().sum() / 2 < 0.05, (found, wanted)


def test_a_kl_in_the_loss_gives_the_same_optimum(run, bandit):
    """One token has one state, so that the estimator with the gradient of the KL is exact there."""
    wanted = optimum(bandit)
    found = run("grpo", objective={"name": "grpo", "kl_coef": BETA, "aggregation": "sequence"})
    assert (found - wanted).abs().sum() / 2 < 0.05, (found, wanted)


def test_rounds_raise_the_reward_and_end_at_the_best_answer(run, bandit, metrics, tmp_path):
    """With a small beta hardly anything holds the policy back from the answer of the greatest reward."""
    before = policy(bandit)
    settings = {"batch_size": 4, "group_size": 8, "minibatches": 2, "max_steps": 40, "mask_truncated": False}
    found = run("iterative-dpo", objective={"name": "sigmoid", "beta": 0.05}, schedule="constant", **settings)
    assert before[1] < 0.5
    assert found[1] > 0.9
    rewards = [line["reward"] for line in metrics(tmp_path / "run")]
    thirds = [sum(rewards[i : i + 13]) / 13 for i in (0, 13, 26)]
    assert thirds == sorted(thirds)
