"""What a reward may do to the process that judges with it, and what that costs."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith import ConfigError, ResourceError, Reward, RewardError, Rollout, plugins
from tunesmith.config import build
from tunesmith.rollout.panel import Panel

ODD = Path(__file__).with_name("odd_rewards.py")
REGISTRY = plugins.load(files=[ODD])


def make(name, **settings):
    return build(REGISTRY, "reward", {"name": name, **settings})


def rollouts(*words):
    return [Rollout("the prompt", word, {"answer": 4}) for word in words]


def masked(*words, name="odd", timeout=10.0, workers=2, share=1.0):
    """Verdicts of the odd reward, where nothing stops it."""
    with Panel([make(name, on_error="mask", timeout=timeout)], workers=workers, max_infrastructure=share) as panel:
        return panel.judge(rollouts(*words))[0]


def alive(process):
    """False also for a process that ended and was not collected."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# ---------------------------------------------------------------------------------------------- one at a time
CASES = {
    "sleep": ("timeout", "no score within 0.5 s"),
    "loop": ("timeout", "no score within 0.5 s"),
    "stopped": ("timeout", "no score within 0.5 s"),
    "exit": ("infrastructure", "its process ended with status 3"),
    "segfault": ("infrastructure", "its process was killed by SIGSEGV"),
    "group": ("infrastructure", "its process was killed by SIGKILL"),
    "descriptors": ("infrastructure", "its process ended with status 1"),
    "memory": ("infrastructure", "there is not enough memory"),
    "recursion": ("error", "RecursionError"),
    "error": ("error", "ValueError: two\nlines"),
    "config": ("error", "the column 'answer' is no number; it is 'x'"),
    "exits": ("error", "SystemExit: 4"),
    "interrupt": ("error", "KeyboardInterrupt"),
    "timeouts": ("error", "TimeoutError: of its own"),
    "nan": ("error", "returned nan; a score is a finite number"),
    "inf": ("error", "returned -inf"),
    "huge": ("error", "returned inf"),
    "true": ("error", "returned True"),
    "text": ("error", "returned '1'"),
    "object": ("error", "returned an object"),
    "none": ("abstained", ""),
    "down": ("infrastructure", "nobody answers"),
    "late": ("timeout", "it took too long"),
    "broken": ("error", "no gold answer"),
    "wrong-fault": ("error", "odd"),
}
HARMLESS = {"print": 1.0, "fork": 2.0, "thread": 3.0, "x": 1.0, "": 0.0}


def test_each_fault_is_the_state_of_its_own_completion_and_of_no_other():
    words = [word for case in CASES for word in (case, "good")] + list(HARMLESS)
    found = dict(zip([(i, word) for i, word in enumerate(words)], masked(*words, timeout=0.5), strict=True))
    for (_, word), verdict in found.items():
        if word in CASES:
            state, why = CASES[word]
            assert (verdict.state, verdict.score) == (state, None), word
            assert why in verdict.why
        else:
            assert (verdict.state, verdict.score) == ("score", HARMLESS.get(word, 4.0)), word


def test_a_chunk_loses_only_its_culprits():
    words = ["good"] * 130
    for position, act in ((0, "exit"), (40, "sleep"), (41, "sleep"), (99, "segfault"), (129, "error")):
        words[position] = act
    found = masked(*words, timeout=0.5)
    assert {i: v.state for i, v in enumerate(found) if v.state != "score"} == {
        0: "infrastructure", 40: "timeout", 41: "timeout", 99: "infrastructure", 129: "error",
    }  # fmt: skip


def test_one_that_hangs_is_found_without_waiting_for_the_whole_chunk():
    start = time.monotonic()
    found = masked(*["good"] * 39, "sleep", timeout=1.0, workers=1)
    assert [v.state for v in found].count("timeout") == 1
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("name", ["odd-batch", "odd-stream", "odd-async"])
def test_a_batch_is_taken_apart_when_it_fails(name):
    words = ["good", "error", "good", "exit", "sleep", "good", "nan", "none"]
    found = masked(*words, name=name, timeout=0.5)
    states = ["score", "error", "score", "infrastructure", "timeout", "score", "error", "abstained"]
    assert [v.state for v in found] == states


def test_coroutines_wait_together_and_each_has_its_own_time():
    start = time.monotonic()
    found = masked("waits", *["good"] * 100, "waits", "error", name="odd-async", timeout=1.0)
    assert [v.state for v in found] == ["timeout", *["score"] * 100, "timeout", "error"]
    assert time.monotonic() - start < 6  # one after the other: 100 * 0.05 + 2 * 1


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ([1.0], "returned 1 scores for 2 completions"),
        ([1.0, 2.0, 3.0], "returned 3 scores for 2 completions"),
        ("ab", "returned 'ab' instead of a list"),
        ({0: 1.0, 1: 1.0}, "returned a dict instead of a list"),
        (1.0, "returned a float instead of a list"),
        (None, "returned a NoneType instead of a list"),
    ],
)
def test_what_is_no_list_of_scores_is_an_error_of_all(says, why):
    with Panel([make("whole", says=says, on_error="mask")], workers=1) as panel:
        found = panel.judge(rollouts("a", "b"))[0]
    assert [v.state for v in found] == ["error", "error"]
    assert all(why in v.why for v in found)


# ---------------------------------------------------------------------------------------------- stop or go on
@pytest.mark.parametrize("name", ["odd", "odd-batch", "odd-here"])
def test_an_error_stops_and_says_which_completion_and_where(name):
    with Panel([make("odd-here"), make(name, label="mine")], workers=2) as panel:
        with pytest.raises(RewardError) as caught:
            panel.judge(rollouts("good", "error"))
        assert caught.value.exit_code == 6
        assert caught.value.what.startswith("the reward ") and "ValueError: two" in caught.value.what
        assert "'error'" in (caught.value.where or "") and "answer=4" in (caught.value.where or "")
        assert "odd_rewards.py" in (caught.value.why or "") and "raise error" in (caught.value.why or "")
        assert "judging.py" not in (caught.value.why or "")
        assert "on_error: mask" in (caught.value.fix or "")
        # and the panel can go on
        assert [v.score for v in panel.judge(rollouts("good"))[1]] == [4.0]


def test_long_completions_and_rows_are_cut_in_the_message():
    with Panel([make("whole", says=[])], workers=1) as panel, pytest.raises(RewardError) as caught:
        panel.judge([Rollout("p", "word " * 5000, {f"column{i}": "y" * 5000 for i in range(50)})])
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", ["odd", "odd-here"])
def test_what_a_completion_smuggles_into_a_message_cannot_steer_a_terminal(name):
    with Panel([make(name, on_error="mask")], workers=1) as panel:
        (found,) = panel.judge([Rollout("p", "quote \x1b]0;owned\x07 \ud800 \u202e\n", {})])[0]
    assert found.why == r"KeyError: 'quote \x1b]0;owned\x07 \ud800 \u202e\n'"
    with Panel([make(name)], workers=1) as panel, pytest.raises(RewardError) as caught:
        panel.judge([Rollout("p", "echo \x1b[2J", {"a\x1b": "\x1b"})])
    assert "\x1b" not in str(caught.value) and r"ValueError: echo \x1b[2J" in caught.value.what


def test_ctrl_c_goes_through_a_reward_in_our_process():
    with Panel([make("odd-here", on_error="mask")]) as panel, pytest.raises(KeyboardInterrupt):
        panel.judge(rollouts("interrupt"))


def test_timeouts_never_stop():
    assert {v.state for v in masked(*["late"] * 20, share=0.0)} == {"timeout"}


@pytest.mark.parametrize(
    ("down", "good", "share", "stops"),
    [(1, 9, 0.1, False), (1, 3, 0.1, False), (2, 8, 0.1, True), (2, 18, 0.1, False), (3, 17, 0.1, True),
     (1, 99, 0.0, True), (1, 0, 0.1, True), (20, 0, 1.0, False)],
)  # fmt: skip
def test_infrastructure_stops_beyond_its_share(down, good, share, stops):
    words = ["down"] * down + ["good"] * good
    if not stops:
        assert [v.state for v in masked(*words, share=share)].count("infrastructure") == down
        return
    with pytest.raises(RewardError) as caught:
        masked(*words, share=share)
    assert caught.value.why == "nobody answers"
    assert f"of {down + good} completions" in caught.value.what and caught.value.exit_code == 6


def test_what_is_masked_is_said_once(caplog):
    with (
        Panel([make("odd", on_error="mask")], workers=1) as panel,
        caplog.at_level(logging.WARNING, logger="tunesmith"),
    ):
        for _ in range(2):
            panel.judge(rollouts("error", "error", "late", "none", "good"))
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(")")[0] for text in said] == [
        "the reward odd gave no score (error", "the reward odd gave no score (timeout",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------- start-up
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("package", ResourceError, "No module named 'no_such_package'"),
        ("config", ConfigError, "there is no gold"),
        ("error", ConfigError, "ValueError: two"),
        ("exits", ConfigError, "SystemExit"),
        ("exit", ResourceError, "ended before it was ready"),
        ("segfault", ResourceError, "ended before it was ready"),
    ],
)
def test_a_reward_that_cannot_be_made_ready_is_refused_at_once(how, error, text):
    with pytest.raises(error, match=text) as caught:
        Panel([make("odd"), make("not-ready", how=how)])
    assert "not-ready" in str(caught.value) or how == "config"


def test_a_module_that_does_not_import_in_another_process_is_refused(tmp_path):
    path = tmp_path / "here_only.py"
    path.write_text(f"import os\nassert os.getpid() == {os.getpid()}, 'not here'\ndef one(completion): return 1.0\n")
    reward = build(REGISTRY, "reward", f"{path}:one")
    with pytest.raises(ConfigError, match=r"cannot (be made ready|import)") as caught:
        Panel([reward])
    assert "not here" in str(caught.value)


def test_a_class_that_no_module_holds_is_refused_but_judges_here():
    class Local(Reward):
        """Inside of a function."""

        name = "local"

        def __call__(self, rollouts):
            return [1.0 for _ in rollouts]

    with pytest.raises(ConfigError, match="cannot be handed to the processes that judge") as caught:
        Panel([Local()])
    assert "isolated" in (caught.value.fix or "")

    class Here(Local):
        """Inside of a function, and in this process."""

        isolated = False

    with Panel([Here()]) as panel:
        assert panel.totals(panel.judge(rollouts("a", "b"))) == [1.0, 1.0]


# ---------------------------------------------------------------------------------------------- processes
def children():
    """Processes that this one started and has not collected."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.add(path.parent.name)
    return found


def test_no_process_and_no_descriptor_is_left_after_many_starts():
    gc.collect()  # of what earlier tests gave up
    before, open_before = children(), len(os.listdir("/dev/fd"))
    for _ in range(5):
        with Panel([make("process"), make("odd", on_error="mask")], workers=2, max_infrastructure=1.0) as panel:
            found = panel.judge(rollouts("own", "parent", "exit", "keeper"))[0]
    judge, keeper = int(found[0].score), int(found[1].score)
    assert until(lambda: not alive(judge) and not alive(keeper))
    assert len(os.listdir("/dev/fd")) == open_before
    assert children() <= before


def test_a_process_that_a_reward_left_behind_is_ended(tmp_path):
    note = tmp_path / "pid"
    (found,) = masked(str(note))
    assert found.state == "infrastructure"
    assert until(lambda: not alive(int(note.read_text())))


def test_killing_the_keeper_costs_at_most_who_did_it():
    found = masked("good", "keeper", *["good"] * 10)
    assert [v.score for i, v in enumerate(found) if i != 1] == [4.0] * 11
    assert found[1].state == "infrastructure" and "killed" in found[1].why


def test_an_idle_process_that_was_killed_is_replaced():
    with Panel([make("process"), make("odd")], workers=1) as panel:
        judge = int(panel.judge(rollouts("own"))[0][0].score)
        os.kill(judge, signal.SIGKILL)
        assert [v.score for v in panel.judge(rollouts("abc", "abc"))[1]] == [3.0, 3.0]
        keeper = int(panel.judge(rollouts("parent"))[0][0].score)
        os.kill(keeper, signal.SIGKILL)
        assert [v.score for v in panel.judge(rollouts("abc", "abc"))[1]] == [3.0, 3.0]


SCRIPT = """
import os, sys
from pathlib import Path
from tunesmith import Rollout, plugins
from tunesmith.config import build
from tunesmith.rollout.panel import Panel

registry = plugins.load(files=[Path(sys.argv[1])])
settings = {"name": "process", "threads": sys.argv[2] == "spawned"}
panel = Panel([build(registry, "reward", settings), build(registry, "reward", "odd")], workers=1)
(found,) = [[int(v.score) for v in judged] for judged in panel.judge([Rollout("p", w) for w in ("own", "parent")])[:1]]
print(*found, flush=True)
panel.judge([Rollout("p", "loop")])
"""


@pytest.mark.parametrize("how", ["forked", "spawned"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_trainer(how, number):
    trainer = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, ODD, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with trainer:
        assert trainer.stdout is not None
        judge, keeper = map(int, trainer.stdout.readline().split())
        assert alive(judge) and alive(keeper)
        trainer.send_signal(number)
        assert trainer.wait(10) == -number
    assert until(lambda: not alive(judge) and not alive(keeper))
