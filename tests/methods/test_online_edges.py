"""Odd answers, odd rewards and odd prompts in whole runs: counted, never a NaN in the weights, never a hang."""

import json
import shutil
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import PrivateAttr

from tunesmith import Generator, Reward, Sample
from tunesmith.errors import ConfigError, DataError, RewardError

METHODS = ["grpo", "rloo", "ppo", "iterative-dpo", "iterative-kto"]
LOOP = {"max_steps": 2, "batch_size": 4, "group_size": 3, "max_new_tokens": 5, "probe": 0}


class Told(Generator):
    """Answers what it is told: ``answers[j]`` are the tokens of the j-th answer to every prompt."""

    name: ClassVar[str] = "told"
    answers: tuple[tuple[int, ...], ...]
    stops: tuple[str, ...]

    def open(self, policy, tokenizer, stop_ids):
        return Saying(self.answers, self.stops)


class Saying:
    """A session of it."""

    def __init__(self, answers, stops):
        self.answers, self.stops = answers, stops

    def generate(self, prompts, seeds, sampling):
        return [[self.sample(j) for j in range(len(own))] for own in seeds]

    def sample(self, j):
        ids = np.array(self.answers[j % len(self.answers)], np.int32)
        return Sample(ids, np.full(len(ids), -1.0, np.float32), self.stops[j % len(self.stops)])

    def sync(self):
        """Nothing to do."""

    def close(self):
        """Nothing to do."""


class Given(Reward):
    """What it is told, answer by answer, again and again."""

    name: ClassVar[str] = "given"
    isolated: ClassVar[bool] = False
    values: tuple[Any, ...]
    _next: int = PrivateAttr(default=0)

    def __call__(self, rollouts):
        start, self._next = self._next, self._next + len(rollouts)
        return [self.values[(start + i) % len(self.values)] for i in range(len(rollouts))]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"number {i} of them"}) + "\n" for i in range(8)))
    return str(path)


@pytest.fixture
def rl(train, prompts, weights, tiny_model, metrics):
    """``rl(method, **settings)``: the lines of samples and metrics, and by how much the weights moved."""

    def run(method, name="run", values=(0.0, 1.0, 0.5), **settings):
        more = {"rewards": (Given(values=values),), "data": prompts}
        folder = train(method, name, **{**LOOP, **more, **settings})
        after, before = weights(folder / "model"), weights(tiny_model)
        assert all(bool(tensor.isfinite().all()) for tensor in after.values())
        lines = metrics(folder)
        assert all(value == value for line in lines for value in line.values()), lines
        path = folder / "samples.jsonl"
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        moved = max((after[name] - before[name]).abs().max().item() for name in before)
        return samples, lines, moved

    return run


@pytest.fixture(scope="session")
def stop(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model).eos_token_id


# ------------------------------------------------------------------------------------------------ answers
@pytest.mark.parametrize("method", METHODS)
def test_answers_that_end_at_once(rl, stop, method):
    """The token that ends an answer is all that there is to learn from."""
    samples, lines, moved = rl(method, generator=Told(answers=((stop,), (20, 21, stop), (22, stop)), stops=("eos",)))
    empty = [sample for sample in samples if sample["completion"] == ""]
    assert len(empty) == len(samples) / 3
    assert all(sample["length"] == 1 for sample in empty)
    assert moved > 0
    assert lines[0]["completions/min_length"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_only_answers_that_end_at_once(rl, stop, method):
    _, lines, moved = rl(method, generator=Told(answers=((stop,),), stops=("eos",)))
    assert lines[0]["completions/mean_length"] == 1
    if method == "iterative-dpo":  # identical answers are never compared
        assert (lines[0]["pairs"], moved) == (0, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [False, True])
def test_answers_that_never_end(rl, method, masked):
    """What was cut off has no token that ends it; masked, nothing is left for methods that need good answers."""
    answers = Told(answers=((20, 21, 22, 23, 24), (24, 23, 22, 21, 20), (25,) * 5), stops=("length",))
    samples, lines, moved = rl(method, generator=answers, mask_truncated=masked)
    assert lines[0]["completions/clipped_ratio"] == 1
    assert "completions/mean_terminated_length" not in lines[0]
    assert all(sample["stop"] == "length" for sample in samples)
    learns_from_bad_ones = method == "iterative-kto"
    assert (moved > 0) == (not masked or learns_from_bad_ones)


@pytest.mark.parametrize("method", METHODS)
def test_identical_answers_of_equal_reward(rl, stop, method):
    _, lines, moved = rl(method, values=(0.5,), generator=Told(answers=((20, stop),), stops=("eos",)))
    if method != "ppo":  # a critic has to learn from them too
        assert moved == 0
        assert lines[0]["frac_reward_zero_std"] == 1
        assert lines[0]["skipped_updates"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_one_token_a_time(rl, method):
    samples, _, _ = rl(method, max_new_tokens=1, mask_truncated=False)
    assert {sample["length"] for sample in samples} == {1}


# ------------------------------------------------------------------------------------------------ rewards
@pytest.mark.parametrize("method", METHODS)
def test_all_rewards_abstain(rl, method):
    samples, lines, moved = rl(method, values=(None,))
    assert moved == 0
    assert lines[0]["rewards/unscored"] == lines[0]["rewards/given/abstained"] == 1
    assert "reward" not in lines[0]
    assert all(sample["reward"] is None and sample.get("advantage") is None for sample in samples)


@pytest.mark.parametrize("method", ["grpo", "rloo", "iterative-dpo", "iterative-kto"])
def test_a_group_with_one_valid_answer_teaches_nothing(rl, method):
    _, lines, moved = rl(method, values=(1.0, None, None))
    assert moved == 0
    assert lines[0]["rewards/unscored"] == pytest.approx(2 / 3)
    assert lines[0]["reward"] == 1


def test_a_critic_learns_from_a_single_answer(rl):
    samples, _, moved = rl("ppo", values=(1.0, None, None))
    assert moved > 0
    assert [sample["advantage"] is None for sample in samples] == [sample["reward"] is None for sample in samples]


@pytest.mark.parametrize("method", ["grpo", "ppo", "iterative-dpo"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1.0"])
def test_what_is_no_score_stops_the_run_with_the_name_of_the_reward(rl, method, wrong):
    with pytest.raises(RewardError, match="'given'") as raised:
        rl(method, values=(0.0, 1.0, wrong))
    assert "finite number" in str(raised.value)


def test_what_is_no_score_can_be_left_out_instead(rl):
    reward = Given(values=(0.0, 1.0, float("nan")), on_error="mask")
    samples, lines, moved = rl("grpo", rewards=(reward,))
    assert moved > 0
    assert lines[0]["rewards/given/error"] == pytest.approx(1 / 3)
    assert {tuple(sample["states"].values()) for sample in samples} == {(), ("error",)}


def test_a_reward_that_hangs_on_some_answers(rl, tmp_path, stop):
    """It runs in processes that are ended; those answers are left out and counted."""
    (tmp_path / "rw.py").write_text(
        "import time\n\n\ndef slow(completion: str) -> float:\n"
        "    time.sleep(60 if len(completion) > 3 else 0)\n    return float(len(completion))\n"
    )
    reward = {"name": f"{tmp_path / 'rw.py'}:slow", "timeout": 0.5}
    answers = Told(answers=((68, stop), (68, 69, 70, 71, stop), (68, 69, stop)), stops=("eos",))
    samples, lines, moved = rl("grpo", rewards=[reward], max_steps=1, batch_size=2, generator=answers)
    assert [sample["states"] for sample in samples] == [{}, {"slow": "timeout"}, {}] * 2
    assert lines[0]["rewards/slow/timeout"] == pytest.approx(1 / 3)
    assert moved > 0


# ------------------------------------------------------------------------------------------------ prompts and models
def test_prompts_that_are_too_long_are_errors_or_left_out(rl, tmp_path):
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "short"}] * 5 + [{"prompt": "very " * 60}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="row 6") as raised:
        rl("grpo", "refused", data=str(path), max_length=20)
    assert "overlong" in str(raised.value)
    samples, _, _ = rl("grpo", "dropped", data=str(path), max_length=20, overlong="drop")
    assert {sample["prompt"] for sample in samples} == {"short"}


def test_a_prompt_without_room_for_an_answer_is_found_before_the_first_step(rl, tmp_path):
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "short"}] * 40 + [{"prompt": "very long " * 60}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError, match="256 positions"):
        rl("grpo", data=str(path), max_new_tokens=50)


@pytest.mark.parametrize("method", ["grpo", "ppo", "iterative-dpo"])
def test_a_tokenizer_without_a_token_that_pads(train, rl, tiny_model, tmp_path, prompts, method):
    from transformers import AutoTokenizer

    folder = tmp_path / "unpadded"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).pad_token_id is None
    with_pad, _, _ = rl(method, "with")
    without, _, _ = rl(method, "without", model=str(folder))
    assert [sample["completion"] for sample in with_pad] == [sample["completion"] for sample in without]


# ------------------------------------------------------------------------------------------------ groups
def test_a_group_is_never_split_over_updates(rl, monkeypatch):
    """Every update on a part of the prompts has their whole groups, so their advantages sum to zero."""
    from tunesmith import OnlineMethod

    seen = []
    real = OnlineMethod.minibatch

    def spy(self, batch, update, ctx):
        part = real(self, batch, update, ctx)
        seen.append([[float(branch.columns["advantages"][0]) for branch in tree.branches] for tree in part.trees])
        return part

    monkeypatch.setattr(OnlineMethod, "minibatch", spy)
    rl("grpo", minibatches=2, update_epochs=2, micro_tokens=16)
    assert len(seen) == 2 * 4
    for parts in seen:
        assert [len(group) for group in parts] == [3, 3]
        assert all(sum(group) == pytest.approx(0, abs=1e-6) for group in parts)


def test_answers_that_cannot_be_judged_do_not_move_the_baseline(rl):
    samples, _, _ = rl("grpo", values=(1.0, None, 0.0))
    for sample in samples:
        assert sample["advantage"] == {1.0: 0.5, 0.0: -0.5, None: None}[sample["reward"]]


def test_rounds_without_pairs_stay_on_record_and_earlier_ones_are_trained_on(rl):
    """The second round compares nothing; with a buffer it trains on the pairs of the first."""
    values = (0.0, 1.0, 0.5) * 4 + (0.5,) * 12
    settings = {"values": values, "minibatches": 2, "mask_truncated": False}
    for method in ("iterative-dpo", "iterative-kto"):
        _, lines, once = rl(method, f"{method}-1", buffer=1, **settings)
        _, buffered, twice = rl(method, f"{method}-2", buffer=2, **settings)
        assert [line["pairs"] > 0 for line in lines] == [line["pairs"] > 0 for line in buffered] == [True, False]
        assert lines[1]["loss"] == 0
        assert buffered[1]["loss"] > 0
        assert torch.isfinite(torch.tensor([once, twice])).all()


def test_one_round_on_given_pairs_is_dpo(train, rl, tiny_model, weights, tmp_path):
    """The same pairs, once sampled and judged, once read from a file."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    good, bad = " is a fine number", " is none at all"
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in (bad, good)]
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"number {i} of them", "chosen": good, "rejected": bad} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"batch_size": 8, "max_steps": 1, "learning_rate": 1e-3, "schedule": "constant", "eps": 1e-3}
    offline = weights(train("dpo", "offline", data=str(path), **common) / "model")
    told = Told(answers=tuple(map(tuple, ids)), stops=("eos",))
    settings = {"values": (0.0, 1.0), "group_size": 2, "minibatches": 1, "max_new_tokens": 20}
    rl("iterative-dpo", "online", generator=told, **settings, **common)
    online, before = weights(tmp_path / "online" / "model"), weights(tiny_model)
    assert max((online[name] - before[name]).abs().max().item() for name in before) > 1e-5
    assert max((online[name] - offline[name]).abs().max().item() for name in offline) < 1e-7
