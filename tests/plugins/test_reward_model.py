"""A reward model's folder as a reward, and `tunesmith score`."""

import json
import subprocess
import sys

import pytest

from tunesmith import Preference, Rollout
from tunesmith.config import build
from tunesmith.errors import ResourceError
from tunesmith.rollout.completions import rollouts_of


def turn(role, text):
    return [{"role": role, "content": text}]


def rows(count):
    return [
        {
            "prompt": turn("user", f"Question {i}?"),
            "chosen": turn("assistant", f"Yes, gladly. {i}" * (1 + i % 3)),
            "rejected": turn("assistant", f"No. {i}"),
        }
        for i in range(count)
    ]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(24)))
    return path


@pytest.fixture
def reward_model(train, pairs):
    run = train("rm", "rm", data=str(pairs), max_steps=30, batch_size=8, learning_rate=3e-3, schedule="constant")
    return run / "model"


def test_a_folder_is_taken_for_what_it_is(registry, reward_model):
    reward = build(registry, "reward", str(reward_model))
    assert reward.name == "reward-model"
    assert reward.model == str(reward_model)


def test_scores_do_not_depend_on_company_or_packing(registry, reward_model):
    rollouts = [r for row in rows(6) for r in rollouts_of(Preference(**row), row)]
    together = build(registry, "reward", {"name": "reward-model", "model": str(reward_model)})(rollouts)
    spec = {"name": "reward-model", "model": str(reward_model), "micro_tokens": 1}
    alone = [build(registry, "reward", spec)([rollout])[0] for rollout in rollouts]
    assert together == pytest.approx(alone, abs=1e-5)
    chosen, rejected = together[::2], together[1::2]
    assert all(good > bad for good, bad in zip(chosen, rejected, strict=True))


def test_a_model_without_a_trained_head_is_refused(registry, tiny_model):
    reward = build(registry, "reward", {"name": "reward-model", "model": str(tiny_model)})
    with pytest.raises(ResourceError, match=r"lack score\.weight") as error:
        reward([Rollout("a", "b")])
    assert "tunesmith run rm" in str(error.value)


def test_an_adapter_is_a_reward_model_too(registry, train, pairs):
    settings = {"data": str(pairs), "adapter": "lora", "max_steps": 30, "batch_size": 8, "learning_rate": 1e-2}
    model = train("rm", "rm-lora", **settings) / "model"
    rollouts = [r for row in rows(6) for r in rollouts_of(Preference(**row), row)]
    scores = build(registry, "reward", str(model))(rollouts)
    assert all(good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True))


def test_an_adapter_without_a_score_head_or_a_base_is_refused(registry, train, chats):
    model = train("sft", "sft-lora", data=str(chats), adapter="lora", max_steps=1, batch_size=4) / "model"
    with pytest.raises(ResourceError, match=r"lack score\.weight"):
        build(registry, "reward", str(model))([Rollout("a", "b")])
    config = json.loads((model / "adapter_config.json").read_text())
    (model / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "./gone"}))
    with pytest.raises(ResourceError, match=r"the base of the adapter .* is not there: \./gone"):
        build(registry, "reward", {"name": "reward-model", "model": f"{model}/"})([Rollout("a", "b")])


def test_score_prints_a_table_and_json(reward_model, pairs):
    command = [sys.executable, "-m", "tunesmith", "score", str(reward_model), "--data", str(pairs)]
    table = subprocess.run(command, capture_output=True, text=True, check=True)
    assert table.stdout.splitlines()[0].split()[:3] == ["reward", "completions", "mean"]
    assert "48" in table.stdout
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    (facts,) = json.loads(result.stdout)["rewards"]
    assert facts["completions"] == len(facts["scores"]) == 48
    assert facts["mean"] == pytest.approx(sum(facts["scores"]) / 48)
