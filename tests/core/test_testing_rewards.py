"""`check_reward` passes what is right, and finds every way of being wrong that it looks for."""

from pathlib import Path

import pytest

from tunesmith import DataError
from tunesmith.config import build
from tunesmith.plugins import load
from tunesmith.testing import Finding, Report, check_reward
from tunesmith.testing.answers import NUMBERS, hostile, null_policies
from tunesmith.testing.conform import checking

PLUGIN = Path(__file__).parent / "reward_plugin.py"


@pytest.fixture(scope="module")
def toys():
    """``toys(name, **settings)``: a reward of the plugin."""
    registry = load(files=[PLUGIN])
    return lambda name, **settings: build(registry, "reward", {"name": name, "timeout": 1, **settings})


def the_finding(reward, name):
    """The finding of one check, after those before it."""
    with checking(reward, {}) as made:
        return next(finding for finding in made.findings() if finding.check == name)


@pytest.mark.parametrize("name", ["toy-sums", "toy-batched-sums"])
def test_a_reward_that_keeps_its_promises_passes_every_check(toys, name):
    report = check_reward(toys(name))
    assert report.failed == [] and report.skipped == []
    assert (report.kind, report.name) == ("reward", name)


@pytest.mark.parametrize(
    ("fault", "check", "seen"),
    [
        ("no rows", "gold", "no rows"),
        ("gold is not best", "gold", "0.9 and not 1 for 'It is 123.'"),
        ("abstains on gold", "gold", "abstained for 'It is 123.'"),
        ("abstains on nothing", "null policy: empty", "no score for 3 of 3: abstained"),
        ("nothing is right", "null policy: empty", "mean 1.000 over 3, above 0.05"),
        ("the question is right", "null policy: the prompt copied", "mean 1.000"),
        ("a number is right", "null policy: a number from 0 to 100", "mean 1.000"),
        ("tags are worth something", "null policy: tags only", "0.2 for '<answer></answer>' on row 1"),
        ("the form is right", "null policy: another row's answer", "mean 1.000"),
        ("words are right", "null policy: random letters", "mean 1.000 over 3"),
        ("length is right", "null policy: very long text", "mean 1.000"),
        ("reads a column in secret", "declared columns", "with only the declared columns (none): error"),
        ("takes null for an answer", "missing columns", "total missing: the score is 0"),
        ("names no column", "missing columns", "ValueError: bad row; that does not name the column"),
        ("text only", "messages", "1 as text, error: AttributeError"),
        ("counts its calls", "the same again", ", then -"),
        ("differs in every process", "the same again", "in another process"),
        ("hangs", "hostile answers", "50,000 times a, then !: timeout: no score within 1 s"),
        ("recurses", "hostile answers", "100,000 nested JSON lists: error: RecursionError"),
        ("dies", "hostile answers", "half a surrogate pair: infrastructure: its process ended with status 3"),
        ("raises", "hostile answers", "half a surrogate pair: error: UnicodeEncodeError"),
        ("no number", "hostile answers", "NUL: error: the reward returned nan"),
        ("better than best", "range", "1.5 is above the best, 1"),
    ],
)
def test_every_fault_is_found_where_it_shows(toys, fault, check, seen):
    finding = the_finding(toys("toy-sums", fault=fault), check)
    assert finding.state == "failed" and seen in finding.seen


def test_only_the_fault_is_found(toys):
    report = check_reward(toys("toy-sums", fault="nothing is right"))
    assert [finding.check for finding in report.failed] == ["null policy: empty"]


def test_scores_that_depend_on_the_batch_are_found_where_batches_are_asked_for(toys):
    failed = {
        finding.check: finding.seen for finding in check_reward(toys("toy-sums", fault="depends on the batch")).failed
    }
    assert failed["order and batch size"].startswith("one by one: ")


def test_a_heavy_import_is_found(tmp_path):
    path = tmp_path / "heavy_reward.py"
    path.write_text(f"import numpy\n{PLUGIN.read_text().replace('from __future__ import annotations', '')}")
    reward = build(load(files=[path]), "reward", "toy-tone")
    assert the_finding(reward, "imports") == Finding(
        "imports", "failed", "importing heavy_reward.py loads numpy; import it inside functions"
    )


def test_what_cannot_be_checked_is_said(toys):
    skipped = {finding.check: finding.seen for finding in check_reward(toys("toy-tone")).skipped}
    assert skipped["gold"] == "samples() gives no rows, and no others were given"
    assert skipped["missing columns"] == "it declares no columns"
    assert [f.seen for f in check_reward(toys("toy-elsewhere")).skipped if f.check == "judging"] == [
        "what it relies on is not there: nobody answers on port 9"
    ]
    assert [f.seen for f in check_reward(toys("toy-absent")).skipped if f.check == "loading"] == [
        "the toy box is not installed"
    ]
    assert not check_reward(toys("toy-elsewhere")).failed


def test_rows_can_be_given(toys):
    row = {"prompt": "700+1?", "total": 701, "completion": "701", "hint": "add"}
    report = check_reward(toys("toy-sums"), [row, {**row, "total": 702, "completion": "702"}])
    assert report.failed == []
    seen = {finding.check: finding.seen for finding in report.findings}
    assert seen["declared columns"] == "reads total; does without hint"
    wrong = check_reward(toys("toy-sums"), [row, {**row, "total": 702}])
    assert [finding.seen for finding in wrong.failed] == ["row 2: 0 and not 1 for '701'"]
    with pytest.raises(DataError, match="row 2 lacks total"):
        check_reward(toys("toy-sums"), [row, {"prompt": "a", "completion": "b"}])


# ---------------------------------------------------------------------------------------------- answers and reports
def test_null_policies_are_what_they_are_called():
    rows = [{"prompt": f"{i}?", "completion": f"right {i}", "answer": i} for i in range(3)]
    found = null_policies(rows, ["answer"])
    assert [{text for _, text in variant} for variant in found["empty"]] == [{""}, {" \n\t "}]
    assert found["the prompt copied"] == [[(0, "0?"), (1, "1?"), (2, "2?")]]
    assert found["another row's answer"] == [[(0, "right 1"), (1, "right 2"), (2, "right 0")]]
    for index in range(3):
        texts = [text for i, text in found["a number from 0 to 100"][0] if i == index]
        assert len(texts) == len(NUMBERS) and all(str(k) in text for k, text in zip(NUMBERS, texts, strict=True))
    assert found == null_policies(rows, ["answer"]), "a check must say the same every time"


def test_another_answer_comes_from_a_row_that_differs_in_all_that_is_compared():
    rows = [
        {"prompt": "p", "completion": "B", "answer": "b", "choices": 1},
        {"prompt": "p", "completion": "(B)", "answer": "b", "choices": 2},
        {"prompt": "p", "completion": "C", "answer": "c", "choices": 3},
    ]
    found = null_policies(rows, ["answer", "choices"])["another row's answer"]
    assert found == [[(0, "C"), (1, "C"), (2, "B")]]
    same = [{"prompt": "p", "completion": "B", "answer": "b"}, {"prompt": "q", "completion": "(B)", "answer": "b"}]
    assert "another row's answer" not in null_policies(same, ["answer"])


def test_hostile_answers_are_tried_where_verifiers_look():
    found = hostile()
    assert found["a huge factorial"] == "100000000!"
    assert found["a huge factorial, in '\\\\boxed{...}'"] == "\\boxed{100000000!}"
    assert max(map(len, found.values())) == 2**20
    assert sum("\x00" in text for text in found.values()) == 4


def test_a_report_is_text_and_json():
    report = Report("reward", "x", [Finding("gold", "ok", "fine"), Finding("range", "failed", "2 is above 1")])
    assert str(report) == "gold: ok: fine\nrange: failed: 2 is above 1"
    assert report.as_dict()["ok"] is False and report.as_dict()["checks"][0]["check"] == "gold"
    assert [finding.check for finding in report.failed] == ["range"] and report.skipped == []
