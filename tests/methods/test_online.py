"""grpo, rloo, ppo and the iterative methods as whole methods: identities, invariance, resume, learning."""

import json
import os
import signal
from typing import ClassVar

import pytest
import torch

from tunesmith import Reward
from tunesmith.errors import ConfigError, DataError, RewardError, StoppedError
from tunesmith.scoring.scorer import Scorer


class EvenTokens(Reward):
    """The share of tokens with an even id."""

    name: ClassVar[str] = "even-tokens"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [sum(i % 2 == 0 for i in r.ids) / len(r.ids) for r in rollouts]


class Same(Reward):
    """Half for everything."""

    name: ClassVar[str] = "same"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [0.5] * len(rollouts)


class Answer(EvenTokens):
    """Reads a column."""

    name: ClassVar[str] = "answer-column"

    def columns(self):
        return ("answer",)


class Sometimes(EvenTokens):
    """Cannot judge every third completion."""

    name: ClassVar[str] = "sometimes"

    def __call__(self, rollouts):
        return [None if i % 3 == 0 else s for i, s in enumerate(super().__call__(rollouts))]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    words = ["quick fox", "lazy dog", "model reads", "numbers", "sea shells"]
    rows = [{"prompt": f"{words[i % 5]} {i}" + " and then" * (i % 3), "about": i} for i in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


SMALL = {"max_steps": 3, "batch_size": 4, "group_size": 4, "max_new_tokens": 6, "probe": 0}
PPO = {**SMALL, "group_size": 2, "update_epochs": 2, "minibatches": 2}
CASES = {
    "grpo": ("grpo", {**SMALL, "update_epochs": 2, "minibatches": 2, "scale": "batch"}),
    "rloo": ("rloo", {**SMALL, "kl_coef": 0.05}),
    "ppo": ("ppo", {**PPO, "kl_target": 1.0, "normalise_rewards": True}),
    "ppo-lora": ("ppo", {**PPO, "adapter": "lora"}),
    "iterative-dpo": ("iterative-dpo", {**SMALL, "minibatches": 2, "buffer": 2, "mask_truncated": False}),
    "iterative-kto": ("iterative-kto", {**SMALL, "minibatches": 2, "buffer": 0, "mask_truncated": False}),
}


@pytest.fixture
def rl(train, prompts):
    """``rl(case, folder, **settings)``: train a case on the prompts."""

    def run(case, name, *, resume=False, reward=None, **more):
        method, settings = CASES[case]
        settings = {"rewards": (reward or EvenTokens(),), "data": prompts, **settings, **more}
        return train(method, name, resume=resume, **settings)

    return run


def samples(run):
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


# ------------------------------------------------------------------------------------------------ identities
def test_the_first_update_is_on_policy(rl, metrics):
    first = metrics(rl("grpo", "run"))[0]
    assert first["sampling/sampling_logp_difference/mean"] < 1e-5
    once = metrics(rl("grpo", "once", update_epochs=1, minibatches=1))[0]
    assert once["ratio/mean"] == 1.0
    assert once["clip_ratio/region_mean"] == 0.0


def test_noted_log_probabilities_are_those_of_the_policy(rl, metrics):
    """With two passes the old log-probabilities are noted beforehand, and the first ratio is 1 up to rounding."""
    run = rl("grpo", "run", update_epochs=2, minibatches=1, learning_rate=1e-12, max_steps=1)
    assert metrics(run)[0]["ratio/mean"] == pytest.approx(1.0, abs=1e-5)


def test_advantages_on_record_sum_to_zero_in_every_group(rl):
    run = rl("grpo", "run", scale="none")
    lines = samples(run)
    assert len(lines) == 3 * 4 * 4
    for start in range(0, len(lines), 4):
        group = lines[start : start + 4]
        assert [line["sample"] for line in group] == [0, 1, 2, 3]
        assert sum(line["advantage"] for line in group) == pytest.approx(0, abs=1e-12)
        mean = sum(line["reward"] for line in group) / 4
        assert all(line["advantage"] == pytest.approx(line["reward"] - mean) for line in group)


def test_answers_without_a_reward_move_no_baseline(rl):
    lines = samples(rl("grpo", "run", scale="none", reward=Sometimes()))
    for start in range(0, len(lines), 4):
        known = [line for line in lines[start : start + 4] if line["reward"] is not None]
        mean = sum(line["reward"] for line in known) / len(known)
        for line in lines[start : start + 4]:
            if line["reward"] is None:
                assert line["advantage"] is None
                assert line["states"] == {"sometimes": "abstained"}
            else:
                assert line["advantage"] == pytest.approx(line["reward"] - mean)


def test_equal_rewards_teach_nothing(rl, weights, metrics, tiny_model):
    run = rl("grpo", "run", reward=Same())
    assert largest_difference(weights(run / "model"), weights(tiny_model)) == 0.0
    assert metrics(run)[0]["skipped_updates"] == 4
    assert metrics(run)[0]["frac_reward_zero_std"] == 1.0


def test_the_reference_is_loaded_only_where_it_is_read(rl, metrics):
    assert "kl" not in metrics(rl("grpo", "without"))[0]
    with_kl = metrics(rl("grpo", "with", objective={"name": "grpo", "kl_coef": 0.1}))
    assert with_kl[-1]["kl"] > 0
    assert "kl_per_answer" in metrics(rl("rloo", "rloo"))[0]


def test_a_critic_on_the_policys_base_learns_with_its_own_adapter(rl, weights):
    """A reference with adapters off must not leave the critic's frozen: peft freezes what is not active."""
    adapter = weights(rl("ppo-lora", "run") / "critic" / "value")
    second = {name: tensor for name, tensor in adapter.items() if "lora_B" in name}
    assert second
    assert all(float(tensor.abs().max()) > 0 for tensor in second.values())


def test_a_kl_weight_changes_the_gradient(rl, weights):
    without = weights(rl("rloo", "without", kl_coef=0.0) / "model")
    large = weights(rl("rloo", "large", kl_coef=5.0) / "model")
    assert largest_difference(without, large) > 1e-4


# ------------------------------------------------------------------------------------------------ invariance
@pytest.mark.parametrize("case", CASES)
def test_how_a_step_is_cut_changes_rounding_only(case, rl, weights):
    """Adam's first steps turn rounding into full steps where a gradient is all but zero, hence the large epsilon."""
    settings = {"eps": 1e-3, "max_steps": 2}
    whole = weights(rl(case, "whole", micro_tokens=10_000, **settings) / "model")
    parts = weights(rl(case, "parts", micro_tokens=40, **settings) / "model")
    assert largest_difference(whole, parts) < 5e-6


@pytest.mark.parametrize("case", CASES)
def test_a_run_stopped_between_its_updates_resumes_to_the_bit(case, rl, weights, metrics, monkeypatch):
    whole = rl(case, "whole")
    calls = {"left": 2 if case == "rloo" else 4}
    backward = Scorer.backward

    def spy(self, *args, **kwargs):
        calls["left"] -= 1
        if calls["left"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(self, *args, **kwargs)

    monkeypatch.setattr(Scorer, "backward", spy)
    with pytest.raises(StoppedError):
        rl(case, "stopped")
    resumed = rl(case, "stopped", resume=True)
    a, b = weights(whole / "model"), weights(resumed / "model")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert samples(resumed) == samples(whole)
    timing = {"tokens_per_s", "step_s"}
    for one, other in zip(metrics(whole), metrics(resumed), strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {k: v for k, v in other.items() if k not in timing}


def test_the_same_run_twice_is_identical(rl, weights):
    a, b = (weights(rl("grpo", name) / "model") for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------------------ settings
def test_dynamic_sampling_draws_again_until_enough_groups_differ(rl):
    class Rarely(EvenTokens):
        """Differs in few groups."""

        name: ClassVar[str] = "rarely"

        def __call__(self, rollouts):
            return [float(r.columns["about"] % 4 == 0 and r.ids[0] % 2 == 0) for r in rollouts]

    lines = samples(rl("grpo", "run", reward=Rarely(), max_draws=5, max_steps=1))
    assert len(lines) > 16
    assert len(lines) % 16 == 0
    assert len({(line["row"], line["seed"]) for line in lines}) == len(lines)


def test_truncated_answers_can_be_masked_or_given_a_score(rl, weights, tiny_model):
    masked = rl("grpo", "masked", mask_truncated=True, max_new_tokens=1)
    cut = [line for line in samples(masked) if line["stop"] == "length"]
    assert cut
    scored = samples(rl("grpo", "scored", truncated_score=-1.0, max_new_tokens=1))
    assert all(line["reward"] == -1.0 for line in scored if line["stop"] == "length")


def test_held_out_prompts_are_answered_with_the_same_seeds(rl, metrics, prompts):
    run = rl("grpo", "run", eval_data={"path": prompts, "label": "held"}, learning_rate=1e-12)
    evals = [{k: v for k, v in line.items() if k.startswith("eval/")} for line in metrics(run)]
    evals = [line for line in evals if line]
    assert len(evals) == 2
    assert evals[0] == evals[1]
    assert "eval/held/reward" in evals[0]


def test_a_column_that_a_reward_needs_is_asked_for_before_a_model_is_loaded(rl):
    with pytest.raises(DataError, match="answer") as raised:
        rl("grpo", "run", reward=Answer())
    assert "about" in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature 0"),
        ({"group_size": 1}, "group_size"),
        ({"rewards": ()}, "rewards"),
        ({"objective": {"name": "grpo", "correction": "token-tis"}, "top_p": 0.9}, "top_p"),
        ({"objective": "sigmoid"}, "does not fit"),
        ({"max_new_tokens": 400}, "positions"),
    ],
)
def test_settings_that_cannot_work_are_refused(rl, settings, message):
    with pytest.raises(ConfigError, match=message):
        rl("grpo", "run", **settings)


# ------------------------------------------------------------------------------------------------ readiness
def test_a_probe_refuses_what_cannot_be_learned(rl):
    with pytest.raises(ConfigError, match="not ready") as raised:
        rl("grpo", "run", reward=Same(), probe=4)
    assert "--force" in str(raised.value)
    rl("grpo", "run", reward=Same(), probe=4, force=True)


# ------------------------------------------------------------------------------------------------ learning
LEARNING = {
    "grpo": {"learning_rate": 1e-2, "max_steps": 25},
    "rloo": {"learning_rate": 1e-2, "max_steps": 32, "kl_coef": 0.0},
    "ppo": {"learning_rate": 5e-3, "max_steps": 25, "kl_coef": 0.0, "group_size": 4, "kl_target": None},
    "iterative-dpo": {"learning_rate": 1e-2, "max_steps": 14, "minibatches": 4, "batch_size": 16, "buffer": 1},
    "iterative-kto": {"learning_rate": 1e-2, "max_steps": 14, "minibatches": 4, "batch_size": 16, "buffer": 1},
}


@pytest.mark.parametrize("case", LEARNING)
def test_every_method_learns_what_is_rewarded(case, rl, metrics):
    rewards = [line["reward"] for line in metrics(rl(case, "run", **{"batch_size": 8, **LEARNING[case]}))]
    assert sum(rewards[:2]) / 2 < 0.65
    assert sum(rewards[-3:]) / 3 > 0.9, rewards


# ------------------------------------------------------------------------------------------------ rewards that fail
def test_a_run_whose_reward_fails_saves_itself_and_resumes_to_the_bit(rl, weights):
    class Breaks(EvenTokens):
        """Raises from the third step on."""

        name: ClassVar[str] = "even-tokens"
        calls: ClassVar[int] = 0

        def __call__(self, rollouts):
            type(self).calls += 1
            if type(self).calls >= 3:
                raise OSError("the service is gone")
            return super().__call__(rollouts)

    whole = rl("grpo", "whole")
    with pytest.raises(RewardError, match="even-tokens"):
        rl("grpo", "broken", reward=Breaks())
    resumed = rl("grpo", "broken", resume=True)
    a, b = weights(whole / "model"), weights(resumed / "model")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert samples(whole) == samples(resumed)
