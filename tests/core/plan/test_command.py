"""``tunesmith plan`` as its user sees it."""

import json

import pytest

from tunesmith.errors import ConfigError
from tunesmith.plan import duration, hardware, model


def test_a_size_alone_is_enough(cli):
    done = cli("plan", "sft", "--model", "7B", "--gpu", "24GB", "--adapter", "lora", "--micro-tokens", 2048)
    assert done.code == 0
    assert "sft of 7B on 24 GB" in done.out
    assert "peak in the phase 'update'" in done.out
    assert "does not fit:" in done.out
    assert "smallest changes that fit:" in done.out
    assert "--activation-checkpointing" in done.out
    assert "a Llama-like model" in done.out
    assert "outside the validated region" in done.out
    assert "to " in done.out and "likely" in done.out


def test_values_for_programs_add_up(cli, tiny_model):
    done = cli("plan", "dpo", "--model", tiny_model, "--gpu", "cpu", "--json")
    facts = json.loads(done.out)
    peak = facts["phases"][facts["peak_phase"]]
    assert facts["total"] == peak["total"] == max(phase["total"] for phase in facts["phases"].values())
    assert sum(part["bytes"] for part in peak["parts"]) == pytest.approx(peak["total"], abs=len(peak["parts"]))
    assert facts["verdict"] == "fits" and facts["low"] < facts["total"] < facts["high"]
    assert [held["role"] for held in facts["models"]] == ["policy", "reference"]
    assert list(facts["phases"]) == ["load", "score references", "update"]


def test_what_a_rung_promises_is_what_planning_it_gives(cli, tiny_model):
    words = ("--model", "1B", "--gpu", "6GB", "--json", "--adapter", "qlora", "--group-size", 2, "--max-length", 512)
    words = (*words, "--activation-checkpointing", "--batch-size", 64, "--set", "generator.max_batch_tokens=131072")
    facts = json.loads(cli("plan", "grpo", *words).out)
    rung = facts["ladder"][0]
    assert "--set generator." in rung["flags"]
    again = json.loads(cli("plan", "grpo", *words, *rung["flags"].split()).out)
    assert again["total"] == pytest.approx(rung["bytes"], rel=1e-6)
    assert again["verdict"] == "fits"


def test_methods_are_compared_for_the_users_case(cli):
    words = ("--model", "1B", "--gpu", "80GB", "--max-new-tokens", 256, "--max-length", 256, "--group-size", 4)
    facts = json.loads(cli("plan", "grpo", *words, "--against", "ppo,rloo", "--json").out)
    rows = {row["method"]: row for row in facts["against"]}
    assert rows["ppo"]["models"] == ["policy", "reference", "value"]
    assert [held["role"] for held in facts["models"]] == ["policy"]
    assert rows["rloo"]["models"] == ["policy", "reference"]
    assert rows["rloo"]["states"] < rows["ppo"]["states"]
    assert facts["total"] < rows["rloo"]["total"] < rows["ppo"]["total"]


def test_4_bits_and_a_reward_model(cli):
    words = ("ppo", "--model", "1B", "--gpu", "80GB", "--max-length", 128, "--max-new-tokens", 128, "--json")
    small = json.loads(cli("plan", *words, "--adapter", "qlora").out)
    large = json.loads(cli("plan", *words, "--adapter", "lora", "--reward-model", "same").out)
    assert "judge" in large["phases"] and "judge" not in small["phases"]
    assert [held["role"] for held in large["models"]] == ["policy", "value", "reward"]
    assert small["models"][0]["weights"] < 0.8 * large["models"][0]["weights"]
    assert small["models"][1]["parameters"] < 0.05 * small["models"][0]["parameters"]


def test_shards_are_computed_and_said_to_be(cli):
    done = cli("plan", "sft", "--model", "1B", "--gpu", "80GB", "--gpus", 8, "--max-length", 256)
    assert "ZeRO-1 over 8" in done.out and "computed; runs do not shard" in done.out


def test_a_step_is_measured_beside_what_was_predicted(cli, tiny_model, chats, tmp_path):
    words = ("--model", tiny_model, "--data", chats, "--gpu", "cpu", "--device", "cpu", "--batch-size", 4)
    done = cli("plan", "sft", *words, "--probe", "--trace", "--json", "--max-length", 256)
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["measured"]["bytes"] > 1e8 and facts["measured"]["seconds"] > 0
    assert facts["traced"] == pytest.approx(facts["total"], rel=0.02)
    assert not list(tmp_path.glob("runs*"))


def test_a_critic_beside_its_policy_fits_where_two_models_would_not(cli):
    words = ("ppo", "--model", "7B", "--gpu", "24GB", "--adapter", "qlora", "--activation-checkpointing", "--json")
    facts = json.loads(cli("plan", *words, "--max-length", 512, "--batch-size", 16).out)
    assert [held["role"] for held in facts["models"]] == ["policy", "value"]
    assert facts["verdict"] == "fits" and facts["ladder"] == []
    assert any("room for the largest (working memory)" in note for note in facts["notes"])


def test_filling_a_cache_of_references_is_a_phase(cli, tiny_model):
    words = ("dpo", "--model", tiny_model, "--gpu", "cpu", "--json", "--reference", "cached")
    own = json.loads(cli("plan", *words).out)
    assert list(own["phases"]) == ["load", "cache references", "update"]
    other = json.loads(cli("plan", *words, "--reference-model", tiny_model / "config.json").out)
    weights = [
        sum(part["bytes"] for part in facts["phases"]["cache references"]["parts"] if part["component"] == "weights")
        for facts in (own, other)
    ]
    assert weights[1] == 2 * weights[0]


def test_methods_that_need_less_are_named_where_no_change_of_settings_fits(cli):
    words = ("dpo", "--model", "1B", "--gpu", "1GB", "--max-length", 64, "--batch-size", 2, "--reference", "copy")
    done = cli("plan", *words, "--activation-checkpointing", "--micro-tokens", 128)
    assert "no set of up to four changes fits; the nearest:" in done.out
    assert "methods that learn from the same rows and need less:" in done.out
    assert "orpo" in done.out or "simpo" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sft", "--model", "7B", "--gpu", "hal9000"), "is no device"),
        (("sft", "--gpu", "24GB"), "a plan needs a model"),
        (("sft", "--model", "./nowhere/config.json"), "there is no model"),
        (("sft", "--model", "7B", "--learning-rte", "1"), "learning"),
        (("grpo", "--model", "7B", "--against", "gpro", "--gpu", "80GB"), "grpo"),
        (("dpo", "--model", "1B", "--gpu", "24GB", "--reference", "adapter-off"), "needs an adapter"),
    ],
)
def test_what_cannot_be_planned_is_an_error_that_says_why(cli, words, said):
    done = cli("plan", *words)
    assert done.code in (2, 4)
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("text", "memory"), [("24GB", 24e9), ("80", 80e9), ("a100-40gb", 40e9), ("NVIDIA H100", 80e9)])
def test_devices_by_memory_and_name(text, memory):
    assert hardware.find(text).memory == memory


@pytest.mark.parametrize("size", ["0.5B", "1B", "3B", "7B", "8B", "13B", "70B"])
def test_made_up_models_have_the_size_that_was_asked_for(size):
    found = model.parameters_of(model.find(size))
    assert found == pytest.approx(float(size[:-1]) * 1e9, rel=0.05)


def test_too_small_a_model_cannot_be_made_up():
    with pytest.raises(ConfigError, match="too small"):
        model.find("1M")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (45, "45 s"), (600, "10 min"), (9000, "2.5 h"), (432_000, "5.0 days")]
)
def test_durations_are_written_for_people(seconds, text):
    assert duration.said(seconds) == text
