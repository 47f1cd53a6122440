"""Presets of the online methods run, and settings that contradict each other are refused with what to do."""

import json
from typing import ClassVar

import pytest

from tunesmith import OnlineMethod, Reward
from tunesmith.config import Layers, resolve
from tunesmith.errors import ConfigError
from tunesmith.plugins import load
from tunesmith.runner.launch import start

PRESETS = [
    (cls.name, preset)
    for _, cls in load().entries("method")
    if issubclass(cls, OnlineMethod) and cls.__module__.startswith("tunesmith_methods")
    for preset in cls.presets
]


class Even(Reward):
    """The share of tokens with an even id."""

    name: ClassVar[str] = "even"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [sum(i % 2 == 0 for i in r.ids) / len(r.ids) for r in rollouts]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"number {i}"}) + "\n" for i in range(8)))
    return str(path)


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_every_preset_takes_a_step(registry, tiny_model, data, tmp_path, weights, method, preset):
    flags = {"model": str(tiny_model), "data": data, "output": str(tmp_path / "run"), "rewards": (Even(),)}
    flags |= {"max_steps": 1, "batch_size": 4, "group_size": 4, "max_new_tokens": 5, "probe": 0, "learning_rate": 1e-3}
    flags |= {"mask_truncated": False, "max_draws": 2}
    start(resolve(registry, method, Layers(preset=preset, flags=flags)), registry)
    after, before = weights(tmp_path / "run" / "model"), weights(tiny_model)
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    assert any((after[name] != before[name]).any() for name in before)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("ppo", {"objective": "grpo"}, "the critic would never learn"),
        ("ppo", {"objective": "rloo"}, "the critic would never learn"),
        ("ppo", {"max_draws": 3}, "raise group_size"),
        ("iterative-dpo", {"kl_coef": 0.1}, "beta"),
        ("iterative-kto", {"skip_equal_groups": False}, "no effect"),
        ("grpo", {"kl_coef": 0.1, "objective": {"name": "grpo", "kl_coef": 0.1}}, "twice"),
        ("grpo", {"group_size": 1}, "nothing to compare"),
        ("grpo", {"temperature": 0}, "temperature 0"),
    ],
)
def test_settings_that_contradict_each_other(registry, data, method, settings, message):
    flags = {"model": "m", "data": data, "rewards": (Even(),), **settings}
    with pytest.raises(ConfigError, match=message):
        resolve(registry, method, Layers(flags=flags))


def test_only_losses_that_train_a_critic_fit_where_there_is_one(registry):
    found = {
        name for name in ("grpo", "rloo", "ppo") if registry.get("method", "ppo").fits(registry.get("objective", name))
    }
    assert found == {"ppo"}
    assert registry.get("method", "grpo").fits(registry.get("objective", "rloo"))


@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("grpo", ("objective", "kl_coef")),
        ("rloo", ("kl_coef",)),
        ("ppo", ("kl_coef",)),
        ("iterative-dpo", ("objective", "beta")),
        ("dpo", ("objective", "beta")),
    ],
)
def test_beta_means_what_it_means_to_others(registry, method, place):
    from tunesmith.cli.aliases import translate

    found = translate({"beta": "0.25"}, {}, registry.get("method", method)).flags
    for name in place[:-1]:
        found = found[name]
    assert found == {place[-1]: 0.25}


def test_beta_and_what_it_stands_for_are_not_both_given(registry):
    from tunesmith.cli.aliases import translate

    method = registry.get("method", "rloo")
    with pytest.raises(ConfigError, match="both set kl_coef"):
        translate({"beta": "0.25"}, {"kl_coef": 0.1}, method)
    named = translate({"beta": "0.25"}, {"objective": "ipo"}, registry.get("method", "dpo"))
    assert named.flags["objective"] == {"name": "ipo", "beta": 0.25}
