"""Every task as rows and as a verifier; settings, parts, and what never reaches a verifier."""

import json
import os
import subprocess
import sys

import pytest
from reasoning_gym.factory import DATASETS
from tunesmith_reasoning_gym import ReasoningGym, ReasoningGymReward, guard, library

from tunesmith import ConfigError, Fault, Rollout, plugins
from tunesmith.config import build
from tunesmith.testing import check_reward

TASKS = sorted(set(DATASETS) - {"composite"})
NO_GOLD = {"boxnet", "rush_hour"}
"""Tasks that give no right answer at all."""
LENIENT = {"game_of_life_halting"}
"""Tasks whose verifier takes nonsense for right."""


@pytest.fixture(scope="module")
def rows():
    """One row of every task."""
    return {task: next(ReasoningGym(task=(task,), size=1).records()) for task in TASKS}


@pytest.fixture(scope="module")
def reward():
    return ReasoningGymReward()


def judged(reward, row, text):
    [found] = reward([Rollout(row["prompt"], text, json.loads(json.dumps(row)))])
    return found


def content(source):
    return [dict(row.data) for row in source.rows()]


# ---------------------------------------------------------------------------------------------- every task
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_rows_whose_gold_answer_scores_full(rows, reward, task):
    row = rows[task]
    assert row["task"] == task and row["prompt"].strip()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert ("completion" in row) == (row["answer"] is not None) == (task not in NO_GOLD)
    if task not in NO_GOLD:
        assert judged(reward, row, f"<think>Hm. <answer>no</answer></think>So: {row['completion']}") == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_every_verifier_is_left_unimpressed_by_nonsense(rows, reward, task):
    row = rows[task]
    for text in ("", "<answer></answer>", row["prompt"], "no tags", "<think><answer>1</answer>"):
        found = judged(reward, row, text)
        assert isinstance(found, float) and (found < 0.3 or task in LENIENT), (text[:40], found)
    found = judged(reward, row, "<answer>zzz [(</answer>")
    assert isinstance(found, float) and (found < 0.3) == (task not in LENIENT)


def test_entries_survive_json():
    for task in ("rearc", "graph_color", "jugs", "knights_knaves", "shortest_path"):
        data = library.dataset(task, {}, 3, 10)
        entry = data[2]
        again = library.unpacked(json.loads(json.dumps(library.packed(entry))))
        assert again == entry, "a tuple is not equal to a list, nor a number as a key to its text"


def test_the_reward_holds_up_to_what_is_asked_of_every_reward():
    report = check_reward(ReasoningGymReward(credit="full"))
    assert not report.failed, report


# ---------------------------------------------------------------------------------------------- rows
def test_rows_follow_from_the_settings_alone():
    first = content(ReasoningGym(task=("chain_sum", "leg_counting"), size=12))
    assert first == content(ReasoningGym(task="chain_sum, leg_counting", rows=20))[:12]
    assert {row["task"] for row in first} == {"chain_sum", "leg_counting"}
    variants = [
        ReasoningGym(task="chain_sum", size=5),
        ReasoningGym(task="chain_sum", size=6),
        ReasoningGym(task="chain_sum", size=5, seed=1000),
        ReasoningGym(task="chain_sum", size=5, split="test"),
        ReasoningGym(task="chain_sum", size=5, config={"min_terms": 5, "max_terms": 6}),
        ReasoningGym(task="products", size=5),
        ReasoningGym(task="chain_sum", size=5, chat=True),
        ReasoningGym(task="chain_sum", size=5, instruction=""),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len({str(content(v)) for v in variants}) == 8
    assert [variants[i].label() for i in (0, 3)] == ["chain_sum", "chain_sum-test"]
    assert ReasoningGym(task="all").label() == "reasoning-gym" and ReasoningGym(task="all").tasks() == TASKS


@pytest.mark.parametrize("task", ["chain_sum", "count_bits", "caesar_cipher"])
def test_train_and_test_share_no_question_whatever_the_seeds(task):
    found = {
        split: {
            row["prompt"]
            for seed in (0, 3, 40)
            for row in content(ReasoningGym(task=task, split=split, seed=seed, size=60))
        }
        for split in ("train", "test")
    }
    assert len(found["test"]) > 60 and not found["train"] & found["test"]


def test_weights_say_how_often_a_task_comes():
    both = ReasoningGym(task=("chain_sum", "leg_counting"), size=200, weights={"leg_counting": 9})
    assert 160 < sum(row["task"] == "leg_counting" for row in content(both)) < 198
    settings = {"chain_sum": {"min_terms": 9, "max_terms": 9}}
    mixed = content(ReasoningGym(task=("chain_sum", "leg_counting"), size=20, config=settings))
    sums = [row for row in mixed if row["task"] == "chain_sum"]
    assert sums and all(row["reasoning_gym"]["config"] == settings["chain_sum"] for row in sums)
    assert all(sum(row["prompt"].count(sign) for sign in (" + ", " - ")) == 8 for row in sums)


def test_tasks_that_depend_on_the_order_of_sets_are_made_where_it_is_fixed(reward):
    code = (
        "import json; from tunesmith_reasoning_gym import ReasoningGym;"
        "print(json.dumps([r.data for r in ReasoningGym(task=('ransom_note', 'isomorphic_strings'), size=6).rows()]))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert len(set(found)) == 1
    for row in json.loads(found[0]):
        assert judged(reward, row, row["completion"]) == 1.0
    with pytest.raises(ConfigError, match="the settings of the task 'ransom_note' are wrong"):
        content(ReasoningGym(task="ransom_note", config={"no_such": 1}))
    rows = ReasoningGym(task="ransom_note", size=100_000).rows()
    next(rows)
    rows.close()  # the process is ended with it


def test_the_command_line_lists_the_tasks():
    done = subprocess.run([sys.executable, "-m", "tunesmith_reasoning_gym"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == TASKS


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"task": "chain_sums"}, "no single task 'chain_sums'; did you mean 'chain_sum'"),
        ({"task": "composite"}, "no single task 'composite'"),
        ({"task": "chain_sum", "config": {"min_term": 3}}, "the settings of the task 'chain_sum' are wrong"),
        ({"task": "chain_sum", "config": {"min_terms": -3}}, "the settings of the task 'chain_sum' are wrong"),
        ({"task": "chain_sum", "config": {"seed": 3}}, "seed in config"),
        (
            {"task": "coin_flip", "split": "test", "size": 10**6, "config": {"min_trials": 2, "max_trials": 2}},
            "different questions",
        ),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(settings, why):
    with pytest.raises(ConfigError, match=why):
        content(ReasoningGym(**settings))


def test_settings_that_belong_to_no_task_are_refused():
    registry = plugins.load()
    for extra in ({"weights": {"x": 1}}, {"config": {"x": {}}}, {"weights": {"products": 0}}):
        with pytest.raises(ConfigError, match="reasoning-gym"):
            build(registry, "source", {"name": "reasoning-gym", "task": ["chain_sum", "products"], **extra})


# ---------------------------------------------------------------------------------------------- the reward
def test_credit_for_a_part_can_be_left_out(rows):
    row, wrong = rows["countdown"], "<answer>1 + 1</answer>"
    assert 0 < judged(ReasoningGymReward(), row, wrong) < 1
    assert judged(ReasoningGymReward(credit="full"), row, wrong) == 0.0
    assert judged(ReasoningGymReward(credit="full"), row, row["completion"]) == 1.0


def test_a_row_of_another_source_is_an_error(reward, rows):
    for wrong in (None, 5, {"task": "chain_sum"}, {**rows["chain_sum"]["reasoning_gym"], "task": "gone"}):
        [found] = reward([Rollout("q", "<answer>1</answer>", {"reasoning_gym": wrong})])
        assert isinstance(found, Fault) and found.state == "error" and "column 'reasoning_gym'" in found.why


def test_a_verifier_that_raises_has_met_nonsense_unless_it_cannot_read_its_own_answer(reward, rows):
    row = rows["prime_factorization"]
    assert judged(reward, row, "<answer>x</answer>") == 0.0
    entry = {**row["reasoning_gym"]["entry"], "answer": "y"}
    broken = {"reasoning_gym": {**row["reasoning_gym"], "entry": entry}}
    [found] = reward([Rollout("q", "<answer>x</answer>", broken)])
    assert isinstance(found, Fault) and found.why.startswith("the verifier raised")


HOSTILE = [
    "__import__('os').system('touch HERE')",
    "[open('HERE', 'w')]",
    "[x for x in [1]]",
    "(lambda: open('HERE', 'w'))()",
    'exec(\'open("HERE", "w")\')',
    "().__class__.__base__.__subclasses__()",
    'f\'{open("HERE", "w")}\'',
    "print(1)",
    "9**9**9**9",
    "(((9**99)**99)**99)**99",
    "9**(50*50*50)",
    "9**1000000",
    "x.diff(x)",
    "Integer(3)",
    "-" * 900 + "1",
    "1" * 900,
    " [open('HERE', 'w')]",
]


@pytest.mark.parametrize("answer", HOSTILE)
def test_what_could_do_harm_never_reaches_a_verifier(rows, reward, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for task in sorted(guard.CALCULATED):
        assert not guard.harmless(task, answer)
        assert judged(reward, rows[task], f"<answer>{answer}</answer>") == 0.0
    for task in sorted(guard.EVALUATED):
        assert isinstance(judged(reward, rows[task], f"<answer>{answer}</answer>"), float)
    assert list(tmp_path.iterdir()) == []


def test_plain_lists_and_arithmetic_do_reach_it():
    for answer in ("[[1, 0], [0, -1]]", "['A', 'B']", "1 2 3\n4 5 6", "ABC", "[1, (2, 3)]"):
        assert all(guard.harmless(task, answer) for task in guard.EVALUATED)
    for answer in ("3*x**2 + C", "x**(1/2) - exp(-x)/2", "(8 - 3)*25 + 0.5", "sin(x)**2*cos(2*x)", "-x**-3"):
        assert all(guard.harmless(task, answer) for task in guard.CALCULATED)


def test_the_guard_knows_every_verifier_that_evaluates(rows):
    """So that a new version of the library that evaluates more is noticed."""
    import inspect

    found = set()
    for task in TASKS:
        source = inspect.getsource(DATASETS[task][0].score_answer)
        if any(f"{word}(answer" in source for word in ("eval", "exec", "parse_expr", "sympify", "literal_eval")):
            found.add(task)
    assert found == guard.EVALUATED | guard.CALCULATED
