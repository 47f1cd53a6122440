"""Functions as rewards: the fields they name, settings, batches, coroutines, and what is wrong with them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from typing import Any, Literal

import pytest

import tunesmith
from tunesmith import ConfigError, ResourceError, Rollout, plugins
from tunesmith.config import Layers, build, resolve
from tunesmith.fieldtypes import help_texts, plain
from tunesmith.function_rewards import FunctionReward
from tunesmith.rollout.panel import Panel
from tunesmith.runfile import dump, read_run_file

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
SAID = [{"role": "assistant", "content": "4"}]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that commands are run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def score(cls, *rollouts, **settings):
    return list(cls(**settings)(rollouts))


# ---------------------------------------------------------------------------------------------- fields
def test_a_function_is_called_with_the_fields_it_names():
    @tunesmith.reward
    def five_fields(prompt, completion, answer, truncated, completion_ids) -> tuple:
        return prompt, completion, answer, truncated, completion_ids

    (found,) = score(five_fields, Rollout(CHAT, SAID, {"answer": None, "other": 1}, [7, 8], True))
    assert found == (CHAT, "4", None, True, [7, 8])
    assert five_fields.function("p", "c", "a", False, []) == ("p", "c", "a", False, [])
    assert list(five_fields().columns()) == ["answer"]


def test_annotations_choose_between_text_and_messages():
    @tunesmith.reward
    def as_text(prompt: str, completion: str):
        return prompt, completion

    @tunesmith.reward
    def as_messages(completion: list[dict[str, Any]]):
        return completion

    @tunesmith.reward
    def as_list(completion: list):
        return completion

    assert score(as_text, Rollout(CHAT, SAID), Rollout("p", "c")) == [("Be brief.\n\n2+2?", "4"), ("p", "c")]
    assert score(as_messages, Rollout(CHAT, SAID), Rollout("p", "4")) == [SAID, SAID]
    assert score(as_list, Rollout("p", "4")) == [SAID]


def test_the_whole_row_under_either_name():
    @tunesmith.reward
    def whole(row, columns):
        return row is columns and row["a"]

    assert score(whole, Rollout("p", "c", {"a": 3})) == [3]


def test_a_column_with_a_default_may_be_missing_and_others_may_not():
    @tunesmith.reward(columns={"gold": "answer"})
    def graded(completion, gold, level=7):
        return gold, level

    assert list(graded().columns()) == ["answer"]
    found = score(graded, Rollout("p", "c", {"answer": 1}), Rollout("p", "c", {"answer": 1, "level": None}))
    assert found == [(1, 7), (1, None)]
    with pytest.raises(ConfigError, match=r"needs the column 'answer'; this row has 'gold'"):
        score(graded, Rollout("p", "c", {"gold": 1}))


def test_token_ids_exist_only_where_completions_were_sampled():
    @tunesmith.reward
    def counted(completion_ids):
        return len(completion_ids)

    @tunesmith.reward
    def either(completion_ids=None):
        return completion_ids is None

    with pytest.raises(ConfigError, match="needs token ids"):
        score(counted, Rollout("p", "c"))
    assert score(either, Rollout("p", "c"), Rollout("p", "c", ids=[])) == [1.0, 0.0]


def test_true_and_false_count_as_one_and_zero_and_none_abstains():
    @tunesmith.reward
    def said(completion):
        return {"y": True, "n": False}.get(completion)

    found = score(said, Rollout("p", "y"), Rollout("p", "n"), Rollout("p", "?"))
    assert found == [1.0, 0.0, None] and type(found[0]) is float


def test_positional_only_parameters_are_fields_too():
    @tunesmith.reward
    def first(completion, answer, /, *, limit: int = 2):
        return completion, answer, limit

    assert score(first, Rollout("p", "c", {"answer": 1}), limit=5) == [("c", 1, 5)]


# ---------------------------------------------------------------------------------------------- settings and facts
def documented(completion, *, limit: int = 80, mode: Literal["soft", "hard"] = "soft", names: tuple[str, ...] = ()):
    """1 for a short completion.

    Args:
        completion: what was said.
        limit (int): Longest length
            in characters.
        names: Whatever.
    """
    return limit


def test_keyword_only_parameters_are_typed_settings_with_their_help():
    cls = tunesmith.reward("brief")(documented)
    assert issubclass(cls, tunesmith.Reward) and cls.name == "brief" and cls.__doc__.startswith("1 for a short")
    assert help_texts(cls)["limit"] == "Longest length in characters." and help_texts(cls)["mode"] == ""
    assert help_texts(cls)["timeout"].startswith("Seconds")
    assert plain(cls(limit="5", names=["a"])) == {
        "name": "brief", "weight": 1.0, "label": None, "timeout": 10.0, "on_error": "stop",
        "limit": 5, "mode": "soft", "names": ["a"],
    }  # fmt: skip
    for wrong in ({"limit": "x"}, {"mode": "medium"}, {"lmit": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            cls(**wrong)


def test_a_setting_without_a_default_must_be_given():
    @tunesmith.reward
    def strict(completion, *, limit: int):
        return limit

    with pytest.raises(ValueError, match="limit"):
        strict()
    assert score(strict, Rollout("p", "c"), limit=3) == [3]


def test_what_else_a_reward_declares():
    rows = [{"prompt": "p", "completion": "c"}]

    @tunesmith.reward("facts", verifies=True, best=2.0, needs=("json",), samples=rows, isolated=False)
    def facts(completion):
        return 2.0

    @tunesmith.reward(samples=lambda: iter(rows))
    def lazy(completion):
        return 2.0

    assert (facts.verifies, facts.best, facts.needs, facts.isolated) == (True, 2.0, ("json",), False)
    assert facts().samples() == rows == list(lazy().samples())
    assert (lazy.name, lazy.verifies, lazy.best, lazy.isolated) == ("lazy", False, None, True)


# ---------------------------------------------------------------------------------------------- batches
def test_a_batch_gets_lists_and_only_what_it_names():
    @tunesmith.reward(batched=True)
    def lists(completion_ids, answer, level="low", missing=3, *, limit: int = 1):
        assert missing == 3
        return [(i, a, x, limit) for i, a, x in zip(completion_ids, answer, level, strict=True)]

    rows = [Rollout("p", "a", {"answer": 1, "level": "x"}, [1]), Rollout("p", "b", {"answer": 2})]
    assert list(lists().columns()) == ["answer"] and lists.batched
    assert score(lists, *rows, limit=9) == [([1], 1, "x", 9), (None, 2, None, 9)]
    with pytest.raises(ConfigError, match="needs the column 'answer'"):
        score(lists, rows[0], Rollout("p", "c"))


def test_a_function_of_the_trl_family_gets_what_its_trainer_passes():
    seen: dict[str, Any] = {}

    @tunesmith.reward
    def family(prompts, completions, solution, **kwargs):
        seen.update(kwargs, prompts=prompts, completions=completions, solution=solution)
        kwargs["log_extra"]("solution", solution)
        kwargs["log_metric"]("accuracy", 1.0)
        return [True, None]

    rows = [Rollout(CHAT, "4", {"solution": "4", "prompt": 1, "level": 2}, [5]), Rollout(CHAT, SAID, {"solution": "5"})]
    assert list(family().columns()) == ["solution"]
    assert score(family, *rows) == [1.0, None]
    assert seen["prompts"] == [CHAT, CHAT] and seen["completions"] == [SAID, SAID] and seen["solution"] == ["4", "5"]
    assert seen["completion_ids"] == [[5], None] and seen["level"] == [2, None]
    assert set(seen) == {
        "prompts", "completions", "solution", "completion_ids", "level", "trainer_state", "log_extra", "log_metric",
    }  # fmt: skip
    score(family, Rollout("p", "4", {"solution": "4"}), Rollout("p", "4", {"solution": "4"}))
    assert seen["prompts"] == ["p", "p"] and seen["completions"] == ["4", "4"]


def test_the_step_of_a_trainer_is_no_field():
    @tunesmith.reward
    def shaped(completions, trainer_state):
        return [1.0 + 0 * trainer_state.global_step for _ in completions]

    with pytest.raises(ConfigError, match=r"a reward has no trainer_state\.global_step"):
        score(shaped, Rollout("p", "c"))


def test_annotated_batches_choose_between_text_and_messages():
    @tunesmith.reward
    def texts(prompts: list[str], completions: list[str]):
        return [(p, c) for p, c in zip(prompts, completions, strict=True)]

    @tunesmith.reward
    def messages(completions: list[list[dict[str, str]]], **kwargs):
        return completions

    assert score(texts, Rollout(CHAT, SAID)) == [("Be brief.\n\n2+2?", "4")]
    assert score(messages, Rollout("p", "4")) == [SAID]


def test_arrays_are_lists_of_scores():
    import numpy as np

    @tunesmith.reward
    def array(completions):
        return np.arange(len(completions), dtype=np.float32) / 2

    assert score(array, Rollout("p", "a"), Rollout("p", "b")) == [0.0, 0.5]


def test_numbers_of_arrays_and_tensors_are_numbers():
    import numpy as np
    import torch

    given = {"a": torch.tensor(0.25), "b": np.float32(0.5), "c": np.float64(1) > 0, "d": torch.tensor(False)}

    @tunesmith.reward
    def one(completion):
        return given[completion]

    found = score(one, *(Rollout("p", name) for name in given))
    assert found == [0.25, 0.5, 1.0, 0.0] and {type(each) for each in found} == {float}


TRL = """
import re

def think_format_reward(completions: list[list[dict[str, str]]], **kwargs) -> list[float]:
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(r"^<think>.*</think>", content, re.DOTALL) else 0.0 for content in contents]

class _Penalty:
    __name__ = "penalty_reward"
    def __init__(self, most):
        self.most = most
    def __call__(self, completion_ids: list[list[int]], **kwargs) -> list[float]:
        return [-min(len(ids), self.most) for ids in completion_ids]

penalty = _Penalty(2)

async def waits(prompts, completions, completion_ids, trainer_state, **kwargs):
    import asyncio
    await asyncio.sleep(0)
    return [float(len(c)) for c in completions]
"""


def test_functions_objects_and_coroutines_of_the_family_run_as_they_are(here, registry):
    (here / "trl_like.py").write_text(TRL)
    words = [f"trl_like.py:{name}" for name in ("think_format_reward", "penalty", "waits")]
    with Panel([build(registry, "reward", word) for word in words], workers=1) as panel:
        assert panel.labels == ["think-format-reward", "penalty", "waits"]
        verdicts = panel.judge([Rollout("p", "<think>a</think>b", {}, [1]), Rollout("p", "no", {}, [1, 2, 3])])
    assert [[v.score for v in found] for found in verdicts] == [[1, 0], [-1, -2], [17, 2]]


@pytest.mark.bench
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra `bench`")
def test_rewards_of_trl_run_unchanged(registry):
    word = "trl.rewards:think_format_reward"
    with Panel([build(registry, "reward", word)], workers=1) as panel:
        (found,) = panel.judge([Rollout(CHAT, "<think>a</think>b"), Rollout("p", "b")])
    assert [v.score for v in found] == [1.0, 0.0]


# ---------------------------------------------------------------------------------------------- coroutines
def test_coroutines_overlap():
    running, most = 0, 0

    @tunesmith.reward
    async def waits(completion, *, seconds: float = 0.01):
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(seconds)
        running -= 1
        return len(completion)

    assert score(waits, *[Rollout("p", "x" * i) for i in range(200)]) == list(range(200))
    assert 10 < most <= 64


def test_a_coroutine_that_takes_too_long_is_a_timeout_and_its_own_is_an_error():
    @tunesmith.reward
    async def waits(completion):
        if completion == "mine":
            raise TimeoutError("mine")
        await asyncio.sleep(300 if completion == "long" else 0)
        return 1.0

    short, long = score(waits, Rollout("p", "short"), Rollout("p", "long"), timeout=0.1)
    assert short == 1.0 and (long.state, long.why) == ("timeout", "no score within 0.1 s")
    with pytest.raises(TimeoutError, match="mine"):
        score(waits, Rollout("p", "mine"))


# ---------------------------------------------------------------------------------------------- what is wrong
def wrong(**made):
    """The error of making a reward of the one function."""
    ((name, function),) = made.items()
    with pytest.raises(ConfigError) as caught:
        tunesmith.reward(function)
    assert caught.value.what.startswith(f"the function {name!r} cannot be a reward: it ")
    return caught.value


def test_a_wrong_function_is_refused_with_file_and_line():
    def nothing():
        return 1.0

    error = wrong(nothing=nothing)
    assert "names no field" in error.what
    assert error.where == f"{__file__}, line {nothing.__code__.co_firstlineno}"


def test_what_cannot_be_a_reward():
    def stars(*completion): ...
    def untyped(completion, *, limit=3): ...
    def odd_type(completion, *, limit: asyncio.Future): ...
    def odd_default(completion, *, limit: int = "many"): ...  # type: ignore[assignment]
    def unknown(completion, *, limit: Nowhere = 3): ...  # type: ignore[name-defined]  # noqa: F821
    def taken(completion, *, weight: float = 1.0): ...
    def hidden(completion, *, columns: int = 1): ...
    def mixed(completions, prompt): ...

    assert "takes *args" in wrong(stars=stars).what
    assert "setting 'limit' without a type" in wrong(untyped=untyped).what
    assert "annotates 'limit' with what no setting can be" in wrong(odd_type=odd_type).what
    assert "default that does not fit" in wrong(odd_default=odd_default).what
    assert "Nowhere" in (wrong(unknown=unknown).fix or "")
    assert "setting 'weight', which every reward has" in wrong(taken=taken).what
    assert "setting 'columns', which every reward has" in wrong(hidden=hidden).what
    assert (wrong(mixed=mixed).fix or "") == "write 'prompts'"
    with pytest.raises(ConfigError, match="is not a function"):
        tunesmith.reward(int)
    with pytest.raises(ConfigError, match="has no parameter 'gold', which `columns` renames"):
        tunesmith.reward(columns={"gold": "answer"})(documented)
    with pytest.raises(ConfigError, match="takes 'completions', which is a list"):
        tunesmith.reward(batched=False)(lambda completions: 1.0)


# ---------------------------------------------------------------------------------------------- named by their file
MINE = '''
import tunesmith

def length_under(completion: str, *, limit: int = 80) -> bool:
    """Short enough."""
    return len(completion) <= limit

@tunesmith.reward("right", best=1.0)
def is_right(completion, answer):
    """The answer."""
    return completion == answer

class Always(tunesmith.Reward):
    """One."""
    name = "always"
    def __call__(self, rollouts):
        return [1.0 for _ in rollouts]

NUMBER = 5
'''


def test_a_function_of_a_file_needs_no_package(here, registry):
    (here / "mine.py").write_text(MINE)
    specs = ["mine.py:length_under", {"name": "mine.py:length_under", "limit": 1}, "mine.py:is_right", "mine.py:Always"]
    rewards = [build(registry, "reward", spec) for spec in specs]
    assert [reward.name for reward in rewards] == ["length-under", "length-under", "right", "always"]
    assert [plain(reward)["name"] for reward in rewards] == [
        "mine.py:length_under", "mine.py:length_under", "mine.py:is_right", "mine.py:Always",
    ]  # fmt: skip
    assert type(rewards[0]) is type(rewards[1])
    with Panel(rewards, workers=1) as panel:
        verdicts = panel.judge([Rollout("p", "ab", {"answer": "ab"})])
    assert [found[0].score for found in verdicts] == [1.0, 0.0, 1.0, 1.0]
    # what is written down builds the same rewards again
    again = [build(registry, "reward", json.loads(json.dumps(plain(reward)))) for reward in rewards]
    assert [plain(reward) for reward in again] == [plain(reward) for reward in rewards]


def test_an_edited_file_is_read_again_but_not_by_a_panel_that_is_open(here, registry):
    path = here / "mine.py"
    path.write_text("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
                    "def one(completion):\n    return 1.0\n")  # fmt: skip
    given = [Rollout("p", "a")] * 2
    first = build(registry, "reward", "mine.py:one")
    with Panel([first], workers=1) as panel:  # threads: every process that judges imports the module by itself
        path.write_text("def one(completion, *, factor: int = 2):\n    return factor\n")
        os.utime(path, ns=(1, 1))
        assert panel.totals(panel.judge(given)) == [1.0, 1.0]
    with Panel([build(registry, "reward", "mine.py:one")], workers=1) as panel:
        assert panel.totals(panel.judge(given)) == [2.0, 2.0]


def test_a_function_of_a_module(here, registry, monkeypatch):
    (here / "my_package").mkdir()
    (here / "my_package" / "scores.py").write_text(MINE)
    monkeypatch.syspath_prepend(here)
    reward = build(registry, "reward", {"name": "my_package.scores:length_under", "limit": 1})
    with Panel([reward], workers=1) as panel:
        assert panel.totals(panel.judge([Rollout("p", "ab"), Rollout("p", "")])) == [0.0, 1.0]
    sys.modules.pop("my_package.scores")


@pytest.mark.parametrize(
    ("word", "error", "what", "fix"),
    [
        ("mine.py:lenght_under", ConfigError, "mine.py has no 'lenght_under'; did you mean 'length_under'?",
         "one of: mine.py:length_under, mine.py:is_right, mine.py:Always"),
        ("mine.py:NUMBER", ConfigError, "'NUMBER' is an int, not a function or a tunesmith.Reward", "one of: mine"),
        ("mine.py", ConfigError, "which function of mine.py?", "one of: mine.py:length_under"),
        ("nine.py:f", ConfigError, "there is no file 'nine.py'; did you mean 'mine.py'?", "the folder that"),
        ("no/mine.py:f", ConfigError, "there is no file 'no/mine.py'", "the folder that"),
        ("no_module.here:f", ConfigError, "there is no module 'no_module.here'", "tunesmith list reward"),
        ("json:dumpz", ConfigError, "json has no 'dumpz'; did you mean 'dump", "json:loads"),
        ("broken.py:f", ConfigError, "cannot import ", ""),
        ("needs.py:f", ResourceError, "needs a package that is not installed: not_a_package", "pip install"),
        ("wrong.py:f", ConfigError, "the function 'f' cannot be a reward: it names no field", ""),
    ],
)  # fmt: skip
def test_a_wrong_pointer_says_what_there_is(here, registry, word, error, what, fix):
    (here / "mine.py").write_text(MINE)
    (here / "broken.py").write_text("1 +")
    (here / "needs.py").write_text("import not_a_package.inside")
    (here / "wrong.py").write_text("\n\ndef f():\n    return 1.0\n")
    with pytest.raises(error) as caught:
        build(registry, "reward", word)
    assert what in caught.value.what
    assert fix in (caught.value.fix or "")
    if word == "wrong.py:f":
        assert caught.value.where == f"{here / 'wrong.py'}, line 3"
    if word == "broken.py:f":
        assert "line 1" in (caught.value.why or "")


def test_settings_of_a_function_are_checked_like_any_other(here, registry):
    (here / "mine.py").write_text(MINE)
    with pytest.raises(ConfigError, match="unknown setting 'limt'; did you mean 'limit'"):
        build(registry, "reward", {"name": "mine.py:length_under", "limt": 3})
    with pytest.raises(ConfigError, match="limit should be a valid integer"):
        build(registry, "reward", {"name": "mine.py:length_under", "limit": "x"})


def test_a_decorated_function_is_registered_like_a_class(here):
    text = MINE + "\n@tunesmith.hookimpl\ndef tunesmith_register_rewards():\n    return [is_right]\n"
    (here / "mine.py").write_text(text)
    registry = plugins.load(files=[here / "mine.py"])
    assert registry.plugins[-1].status == "ok", registry.plugins[-1].cause
    reward = build(registry, "reward", "right")
    assert isinstance(reward, FunctionReward) and reward.selector == "right"
    with Panel([reward], workers=1) as panel:
        assert panel.totals(panel.judge([Rollout("p", "4", {"answer": "4"})])) == [1.0]


def test_a_wrong_function_is_the_cause_why_its_plugin_is_broken(here):
    (here / "mine.py").write_text("import tunesmith\n@tunesmith.reward\ndef f():\n    return 1.0\n")
    plugin = plugins.load(files=[here / "mine.py"]).plugins[-1]
    assert plugin.status == "broken"
    assert (
        "the function 'f' cannot be a reward: it names no field" in plugin.cause and "mine.py, line 2" in plugin.cause
    )


def test_a_run_file_names_the_function_and_its_settings(here, registry):
    (here / "mine.py").write_text(MINE)
    (here / "rows.jsonl").write_text('{"prompt": "p", "answer": "4"}\n')
    rewards = ["mine.py:is_right", {"name": "mine.py:length_under", "limit": 1, "weight": 0.5}]
    run = resolve(registry, "grpo", Layers(flags={"model": "m", "data": "rows.jsonl", "rewards": rewards}))
    (here / "run.yaml").write_text(dump(run.dump()))
    written = read_run_file(here / "run.yaml")
    assert [(r["name"], r.get("limit")) for r in written["rewards"]] == [
        ("mine.py:is_right", None), ("mine.py:length_under", 1),
    ]  # fmt: skip
    assert resolve(registry, "grpo", Layers(file=written)).dump() == run.dump()
