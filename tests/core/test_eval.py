"""`tunesmith eval`: its statistics against enumeration and simulation, and the command as its users meet it."""

import json
import os
import shutil
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from tunesmith.runner.measure import Measured, changes, estimate, figures, pass_at

NAN = float("nan")
PLAN = SimpleNamespace(samples=4, right=1.0)


# ------------------------------------------------------------------------------------------------ statistics
@pytest.mark.parametrize("right", [[1, 0, 0, 0, 1], [0, 0, 0], [1, 1], [1, 0, NAN, 0], [NAN, NAN]])
def test_pass_at_k_is_the_share_of_all_choices_with_a_right_one(right):
    known = [value for value in right if value == value]
    for k in range(1, len(right) + 1):
        chosen = [max(some) for some in combinations(known, k)]
        found = pass_at(np.array([right]), k)[0]
        if chosen:
            assert found == pytest.approx(sum(chosen) / len(chosen))
        else:
            assert np.isnan(found)


def test_pass_at_k_is_unbiased():
    """Over every outcome of 4 tosses of chance 0.3, the mean of the estimate is the chance that one of 2 is right."""
    expected = 0.0
    for outcome in np.ndindex(2, 2, 2, 2):
        chance = np.prod([0.3 if toss else 0.7 for toss in outcome])
        expected += chance * pass_at(np.array([outcome], dtype=float), 2)[0]
    assert expected == pytest.approx(1 - 0.7**2)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    chance = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = estimate(chance.random(60), seed=1)
        assert found.low <= found.value <= found.high
        hits += found.low <= 0.5 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_values_that_are_unknown_move_nothing():
    assert estimate(np.array([NAN, 1.0, 0.0, NAN])) == estimate(np.array([1.0, 0.0]))
    assert estimate(np.array([NAN])) is None
    assert estimate(np.array([])) is None


@pytest.mark.parametrize("number", [1, 5, 32])
def test_answers_that_are_all_wrong_or_all_right_do_not_make_it_certain(number):
    none, every = (estimate(np.full(number, value), chance=True) for value in (0.0, 1.0))
    assert (none.value, none.low) == (0.0, 0.0)
    assert (1 - none.high) ** number == pytest.approx(0.025)  # so likely is it that all of them fail at that chance
    assert (every.high, every.low) == (1.0, pytest.approx(1 - none.high))
    assert estimate(np.zeros(number)).high == 0.0


def measured(seed, shift=0.0, prompts=30):
    chance = np.random.default_rng(seed)
    hard = np.random.default_rng(99).random(prompts)  # the same prompts for all
    sampled = (chance.random((prompts, 4)) < (hard + shift)[:, None]).astype(float)
    return Measured("m", sampled, (hard + shift > 0.5).astype(float))


def test_a_change_is_the_difference_of_the_means_and_narrower_than_two_intervals():
    one, other = measured(1), measured(2, 0.1)
    found, a, b = changes(one, other, PLAN), figures(one, PLAN), figures(other, PLAN)
    assert found.keys() == a.keys() == {"greedy pass@1", "pass@1", "pass@2", "pass@4", "mean reward"}
    for name, change in found.items():
        assert change.value == pytest.approx(b[name].value - a[name].value)
    assert found["pass@1"].high - found["pass@1"].low < (a["pass@1"].high - a["pass@1"].low) * 1.2
    nothing = changes(one, one, PLAN)
    assert all((e.value, e.low, e.high) == (0, 0, 0) for e in nothing.values())


def test_a_prompt_without_a_reward_in_one_of_two_models_is_left_out_of_their_change():
    one, other = measured(1), measured(1)
    other.sampled[:3] = NAN
    other.sampled[3, 0] = NAN
    other.greedy[0] = NAN
    assert all(abs(e.value) < 0.05 for e in changes(one, other, PLAN).values())
    found = figures(other, PLAN)
    assert found["pass@4"].value == pytest.approx(pass_at(one.sampled[4:], 4).mean())
    assert found["mean reward"].value == pytest.approx(np.nanmean(other.sampled[3:], 1).mean())


def test_only_greedy_or_only_sampled():
    one = Measured("m", np.empty((2, 0)), np.array([1.0, 0.5]))
    plan = SimpleNamespace(samples=0, right=1.0)
    assert {name: e.value for name, e in figures(one, plan).items()} == {"greedy pass@1": 0.5, "greedy reward": 0.75}
    other = Measured("m", np.array([[1.0, 0.0], [0.0, 0.0]]), np.empty(0))
    assert set(figures(other, SimpleNamespace(samples=2, right=1.0))) == {"pass@1", "pass@2", "mean reward"}


# ------------------------------------------------------------------------------------------------ the command
@pytest.fixture
def asked(surroundings, tmp_path, tiny_model):
    """Words of a command line: the tiny model, prompts and a reward."""
    rows = [{"prompt": f"Say {i}", "parity": i % 2} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rw.py").write_text(
        "def even(completion: str, parity: int) -> float:\n    return float(len(completion) % 2 == parity)\n"
    )
    settings = ("--data", "prompts.jsonl", "--reward", "rw.py:even", "--max-new-tokens", "5", "--samples", "2")
    return tiny_model, settings


def test_two_models_are_held_against_each_other(cli, asked):
    model, settings = asked
    result = cli("eval", model, model, *settings)
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines() if line]
    assert result.out.startswith("6 prompts, 2 samples each")
    changes_of = [line for line in lines if "+0.000" in line]
    assert len(changes_of) == 4  # the same model with the same seeds: greedy, pass@1, pass@2, mean reward
    assert "*" not in result.out


def test_numbers_for_programs_and_answers_that_are_judged_alike_again(cli, asked):
    model, settings = asked
    result = cli("eval", model, *settings, "--json", "--output", "out/answers.jsonl")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)
    assert found["prompts"] == 6
    assert found["change"] is None
    assert 0 <= found["pass@1"]["low"] <= found["pass@1"]["value"] <= found["pass@1"]["high"] <= 1
    with open("out/answers.jsonl") as file:
        lines = [json.loads(line) for line in file]
    assert len(lines) == 6 * 2 + 6
    assert sum(line["greedy"] for line in lines) == 6
    again = cli("score", "rw.py:even", "--data", "out/answers.jsonl")
    assert again.code == 0, again.err
    assert "18 of 18 scores are those that the run recorded" in again.out
    repeated = cli("eval", model, *settings, "--json")
    assert json.loads(repeated.out) == [found]


def test_an_adapter_is_a_model_too(cli, asked, train):
    model, settings = asked
    data = {"data": "prompts.jsonl", "rewards": ["rw.py:even"], "max_new_tokens": 3, "probe": 0}
    adapter = train("grpo", "run", adapter="lora", max_steps=1, batch_size=2, group_size=2, **data) / "model"
    result = cli("eval", model, adapter, *settings, "--samples", "0")
    assert result.code == 0, result.err
    assert "greedy pass@1" in result.out
    assert " pass@2" not in result.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--samples", "0", "--no-greedy"), 2, "--no-greedy"),
        (("--temperature", "-1"), 2, "--temperature"),
        (("--top-p", "0"), 2, "--top-p"),
        (("--reward", "no-such-reward"), 2, "no-such-reward"),
        (("--data", "nowhere.jsonl"), 2, "nowhere.jsonl"),
        (("--map", "parity=odd"), 2, "odd"),
        (("--max-new-tokens", "300"), 3, "300"),
    ],
)
def test_what_cannot_be_measured_is_said_before_or_at_once(cli, asked, words, code, message):
    model, settings = asked
    result = cli("eval", model, *settings, *words)
    assert result.code == code, (result.code, result.err)
    assert message in result.err
    assert "bug of tunesmith" not in result.err


def test_the_folder_of_a_run_stands_for_its_model(cli, asked, tmp_path):
    model, settings = asked
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").write_text("method: toy\n")
    missing = cli("eval", "run", *settings)
    assert missing.code == 2 and "run is the folder of a run, not a model" in missing.err
    assert "tunesmith resume run" in missing.err
    shutil.copytree(model, tmp_path / "run" / "model")
    found = cli("eval", "run", *settings)
    assert found.code == 0 and f"run{os.sep}model" in found.out, found.err


def test_the_table_of_models_with_long_paths_fits_a_terminal(cli, asked, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    model, settings = asked
    copies = [tmp_path / name / ("long" * 12) for name in ("one", "two")]
    for copy in copies:
        shutil.copytree(model, copy)
    lines = cli("eval", *copies, *settings).out.splitlines()
    assert [line for line in lines if len(line) > 80] == [str(copy) for copy in copies if len(str(copy)) > 80]
    assert [lines.index(str(copy)) - lines.index(str(copies[0])) for copy in copies] == [0, 6]


def test_a_model_that_is_not_there_is_missed_before_the_first_one_answers(cli, asked):
    model, settings = asked
    result = cli("eval", model, "./missing", *settings)
    assert (result.code, result.out) == (4, "")
    assert "./missing" in result.err


def test_rewards_without_a_right_answer_are_reported_as_a_mean(cli, asked):
    model, (*_, tokens, number, samples, count) = asked
    reward = "{name: length, shape: target, target: 3}"
    words = ("--data", "prompts.jsonl", "--reward", reward, tokens, number, samples, count, "--no-greedy")
    result = cli("eval", model, *words)
    assert result.code == 0, result.err
    assert "mean reward" in result.out
