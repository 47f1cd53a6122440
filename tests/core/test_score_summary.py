"""What verdicts amount to, by hand."""

import math
import statistics

import pytest

from tunesmith import Verdict
from tunesmith.rollout.summary import NEIGHBOURS, Judged, agreement, correlation, histogram, neighbours, wins


def judged(*scores):
    return Judged("x", [Verdict("abstained") if s is None else Verdict("score", s) for s in scores], 0.5)


def test_only_scores_enter_mean_and_spread():
    found = Judged("x", [Verdict("score", 1.0), Verdict("score", 0.0), Verdict("timeout", None, "slow")] * 2, 0.6)
    facts = found.as_dict()
    assert (facts["mean"], facts["std"], facts["min"], facts["max"]) == (0.5, 0.5, 0.0, 1.0)
    assert (facts["completions"], facts["score"], facts["timeout"], facts["error"]) == (6, 4, 2, 0)
    assert facts["ms_per_completion"] == pytest.approx(100)
    assert facts["scores"] == [1.0, 0.0, None] * 2 and facts["whys"] == {"2": "slow", "5": "slow"}
    assert found.share("timeout") == pytest.approx(1 / 3) and found.first("timeout") == (2, "slow")
    assert found.first("error") is None


def test_nothing_scored_has_no_mean():
    facts = judged(None, None).as_dict()
    assert (facts["mean"], facts["std"], facts["min"], facts["abstained"]) == (None, None, None, 2)


def test_two_rewards_that_agree():
    one = agreement("a", [0.0, 1.0, None, 0.5], "b", [0.0, 2.0, 1.0, 1.0], ["p"] * 4)
    assert (one.both, one.pairs, one.same_order) == (3, 3, 1.0)
    assert one.correlation == pytest.approx(1.0) and one.equal == pytest.approx(1 / 3)


def test_two_rewards_that_disagree_in_pairs_of_one_prompt_only():
    one = agreement("a", [0.0, 1.0, 5.0], "b", [1.0, 0.0, 9.0], ["p", "p", "q"])
    assert (one.pairs, one.same_order) == (1, 0.0)
    assert one.correlation == pytest.approx(statistics.correlation([0, 1, 5], [1, 0, 9]))


def test_nothing_to_compare_is_no_number():
    one = agreement("a", [None, 1.0], "b", [1.0, None], ["p", "p"])
    assert (one.both, one.correlation, one.equal, one.pairs, one.same_order) == (0, None, None, 0, None)
    assert correlation([(1.0, 2.0), (1.0, 3.0)]) is None and correlation([(1.0, 1.0)]) is None
    tiny = correlation([(1e-320, 1.0), (0.0, 2.0)])
    assert tiny is None or math.isfinite(tiny)


def test_wins_are_counted_against_what_the_data_prefers():
    # better, worse: right; wrong; tie; unscored
    values = [1.0, 0.0] * 4
    scores = [0.9, 0.1, 0.2, 0.3, 0.5, 0.5, None, 0.0]
    found = wins(scores, values, ["a", "a", "b", "b", "c", "c", "d", "d"])
    assert found is not None
    assert (found.pairs, found.right, found.ties) == (3, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert wins(scores, [None] * 8, ["a"] * 8) is None
    assert wins(scores, [1.0] * 8, ["a"] * 8) is None


def test_large_groups_are_compared_with_neighbours_only():
    groups = ["a", "b"] * 500
    pairs = list(neighbours(groups))
    assert len(pairs) == len(set(pairs)) <= 1000 * NEIGHBOURS
    assert all(i < j and groups[i] == groups[j] for i, j in pairs)
    assert set(neighbours(["a", "b", "a", "a"])) == {(0, 2), (0, 3), (2, 3)}


@pytest.mark.parametrize(
    ("numbers", "bars"),
    [
        ([], ""),
        ([3.0], "█         "),
        ([0, 0, 1], "█        ▄"),
        ([-1, 1], "█        █"),
        ([0] * 1000 + [1], "█        ▁"),
    ],
)
def test_histogram(numbers, bars):
    assert histogram(numbers) == bars
