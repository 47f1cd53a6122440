"""What a run that samples says of itself: metrics, warnings in words, and the verdict before it begins."""

import math
import statistics

import pytest

from tunesmith.rollout.diagnosis import PATIENCE, SIGNS, SILENCE, START, diagnose
from tunesmith.rollout.metrics import rollout_metrics
from tunesmith.rollout.readiness import judged
from tunesmith.rollout.show import show_samples


def sample(number, reward=1.0, length=5, stop="eos", states=None, **more):
    scores = {"right": reward, "form": 0.5}
    return {"sample": number, "reward": reward, "rewards": scores, "states": states or {}, "length": length,
            "stop": stop, "prompt": "p", "completion": "c", **more}  # fmt: skip


def group(*rewards, **more):
    return [sample(i, reward, **more) for i, reward in enumerate(rewards)]


# ------------------------------------------------------------------------------------------------ metrics
def test_metrics_have_the_names_that_the_field_knows():
    found = rollout_metrics([*group(1.0, 0.0, 0.5), *group(2.0, 2.0, 2.0)])
    names = {"reward", "reward_std", "frac_reward_zero_std", "rewards/right/mean", "rewards/right/std"}
    names |= {f"completions/{name}" for name in ("mean_length", "min_length", "max_length", "clipped_ratio")}
    assert names | {"completions/mean_terminated_length"} <= found.keys()
    assert found["reward"] == statistics.fmean([1, 0, 0.5, 2, 2, 2])
    assert found["reward_std"] == statistics.fmean([statistics.stdev([1, 0, 0.5]), 0])
    assert found["frac_reward_zero_std"] == 0.5
    assert found["rewards/form/std"] == 0
    assert "pass_at_1" not in found


def test_pass_rates_where_rewards_are_right_or_wrong():
    found = rollout_metrics([*group(1.0, 0.0, 0.0, 0.0), *group(0.0, 0.0, 0.0, 0.0)])
    assert (found["pass_at_1"], found["pass_at_k"]) == (1 / 8, 1 / 2)
    single = rollout_metrics([*group(1.0), *group(0.0), *group(0.0)])
    assert single["pass_at_1"] == pytest.approx(1 / 3)
    assert "pass_at_k" not in single
    assert single["reward_std"] == statistics.stdev([1, 0, 0])


def test_lengths_and_what_was_cut_off():
    found = rollout_metrics([sample(0, length=2), sample(1, length=4), sample(2, length=9, stop="length")])
    assert found["completions/mean_length"] == 5
    assert found["completions/mean_terminated_length"] == 3
    assert found["completions/clipped_ratio"] == pytest.approx(1 / 3)
    cut = rollout_metrics([sample(0, stop="length")])
    assert cut["completions/clipped_ratio"] == 1
    assert "completions/mean_terminated_length" not in cut


@pytest.mark.parametrize("state", ["abstained", "timeout", "error", "infrastructure"])
def test_answers_without_a_reward_are_counted_by_state_and_move_no_mean(state):
    lost = [sample(i, None, states={"right": state}) for i in (2, 3)]
    found = rollout_metrics([*group(1.0, 0.0), *lost])
    assert found["rewards/unscored"] == 0.5
    assert found[f"rewards/right/{state}"] == 0.5
    assert f"rewards/form/{state}" not in found
    assert found["reward"] == found["rewards/right/mean"] == 0.5
    alone = rollout_metrics(lost)
    assert "reward" not in alone
    assert all(math.isfinite(value) for value in alone.values())


def test_nothing_sampled_has_no_metrics():
    assert rollout_metrics([]) == {}


def test_the_mean_kl_of_an_answer():
    assert rollout_metrics([sample(0, kl=1.0), sample(1, kl=4.0)])["kl_per_answer"] == 2.5


# ------------------------------------------------------------------------------------------------ diagnosis
WELL = {"frac_reward_zero_std": 0.2, "reward": 0.5, "completions/clipped_ratio": 0.05, "entropy": 1.0,
        "completions/mean_length": 50.0, "sampling/sampling_logp_difference/mean": 1e-3, "rewards/unscored": 0.0,
        "explained_variance": 0.4, "pass_at_1": 0.5}  # fmt: skip
ILL = {
    "equal-rewards": ({"frac_reward_zero_std": 0.83, "pass_at_1": 0.01}, "83%", "too hard"),
    "cut-off": ({"completions/clipped_ratio": 0.4}, "40%", "max_new_tokens"),
    "entropy": ({"entropy": 0.1}, "from 1 to 0.1", "learning_rate"),
    "length": ({"completions/mean_length": 130.0}, "from 50 to 130", "aggregation"),
    "sampler-gap": ({"sampling/sampling_logp_difference/mean": 0.05}, "0.050", "correction"),
    "unscored": ({"rewards/unscored": 0.3}, "30%", "samples.jsonl"),
    "critic": ({"explained_variance": -0.5}, "-0.50", "critic_warmup"),
}


def run(steps, state=None, first=1):
    """Sentences by step."""
    state = {} if state is None else state
    return {step: said for step, metrics in enumerate(steps, first) if (said := list(diagnose(metrics, state, step)))}


def test_every_sign_is_tried_here():
    assert {sign.name for sign in SIGNS} == ILL.keys()


def test_a_healthy_run_is_silent():
    assert run([WELL] * 300) == {}
    assert run([{}] * 300) == {}


@pytest.mark.parametrize("name", ILL)
def test_a_sign_is_said_once_it_has_held_and_then_rarely(name):
    metrics, *words = ILL[name]
    ill = {**WELL, **metrics}
    said = run([WELL] * START + [ill] * (SILENCE + PATIENCE))
    assert list(said) == [START + PATIENCE, START + PATIENCE + SILENCE]
    for (sentence,) in said.values():
        assert all(word in sentence for word in words), sentence
    assert run([WELL] * START + ([ill] * (PATIENCE - 1) + [WELL]) * 20) == {}


def test_growing_answers_are_no_trouble_while_the_reward_grows():
    assert run([WELL] * START + [{**WELL, "completions/mean_length": 200.0, "reward": 0.8}] * 20) == {}


def test_prompts_that_are_solved_are_called_easy_and_unknown_ones_neither():
    def said(**metrics):
        (((sentence,),),) = [run([{**WELL, "frac_reward_zero_std": 0.9, **metrics}] * PATIENCE).values()]
        return sentence

    assert "are too easy;" in said(pass_at_1=0.97)
    assert "are too hard;" in said(pass_at_1=0.03)
    unknown = {key: value for key, value in WELL.items() if key != "pass_at_1"} | {"frac_reward_zero_std": 0.9}
    (((sentence,),),) = [run([unknown] * PATIENCE).values()]
    assert "too easy or too hard" in sentence


def test_a_run_that_goes_on_remembers_what_it_said():
    import json

    ill = {**WELL, "completions/clipped_ratio": 0.5}
    state = {}
    assert list(run([ill] * 7, state)) == [PATIENCE]
    state = json.loads(json.dumps(state))
    assert run([ill] * 50, state, first=8) == {}


# ------------------------------------------------------------------------------------------------ readiness
def groups(*rewards, **more):
    return [line for own in rewards for line in group(*own, **more)]


@pytest.mark.parametrize(
    ("samples", "size", "verdict", "words"),
    [
        (groups((1.0, 0.0), (0.0, 0.0)), 2, "good", ()),
        (groups((0.0, 0.0), (0.0, 0.0)), 2, "too hard", ("worked examples",)),
        (groups((1.0, 1.0), (1.0, 1.0)), 2, "too easy", ("harder",)),
        (groups(*[(1.0, 1.0)] * 39, (1.0, 0.0)), 2, "too easy", ("harder",)),
        (groups(*[(0.0, 0.0)] * 19, (1.0, 0.0)), 2, "too hard", ("group_size",)),
        (groups(*[(1.0, 1.0)] * 14, *[(0.0, 0.0)] * 5, (1.0, 0.0)), 2, "too easy", ("group_size", "harder")),
        (groups((0.3, 0.3), (0.3, 0.3)), 2, "no signal", ("tunesmith score",)),
        (groups((None, None)), 2, "no signal", ("tunesmith score",)),
        (groups((1.0,), (0.0,), (0.0,)), 1, "good", ()),
        (groups((0.0,), (0.0,)), 1, "too hard", ("worked examples",)),
        (groups((0.2, 0.9), (0.1, 0.4)), 2, "good", ()),
    ],
)
def test_verdicts(samples, size, verdict, words):
    found = judged(samples, size)
    assert found.verdict == verdict
    assert all(word in found.advice for word in words)
    assert bool(found.advice) == (verdict != "good")


def test_the_facts_behind_a_verdict():
    facts = judged(groups((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), stop="length"), 4).facts
    for words in (
        "2 prompts, 4 answers each",
        "differs in 50%",
        "pass@1 12%, pass@4 50%",
        "100% of the answers are cut",
    ):
        assert words in facts
    assert "1 prompt, 1 answer each" in judged(groups((1.0,)), 1).facts


# ------------------------------------------------------------------------------------------------ samples shown
def test_samples_on_the_terminal_are_the_best_and_the_worst_and_cannot_steer_it(caplog):
    caplog.set_level("INFO", logger="tunesmith")
    lines = [sample(i, i / 10, completion=f"answer {i}\x1b[31m\n") for i in range(9)]
    lines += [sample(9, None, completion="lost"), sample(0, 0.9, completion=[{"role": "assistant", "content": "said"}])]
    show_samples(lines)
    text = [record.getMessage() for record in caplog.records]
    assert len(text) == 4
    assert "answer 8" in text[1] or "answer 8" in text[0]
    assert "answer 0" in text[-1]
    assert any("said" in line for line in text)
    assert not any("\x1b" in line or "\n" in line or "lost" in line for line in text)
    assert any("\\x1b[31m\\n" in line for line in text)
