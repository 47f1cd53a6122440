"""Tasks, scores and refusals, with the library or its stand-in."""

import pytest
import tunesmith
from tunesmith import Fault, Rollout

from tunesmith_verifiers import VerifiersReward, VerifiersTasks


@pytest.fixture
def rows(ending):
    return [row.data for row in VerifiersTasks(environment=f"capitals-{ending}").rows()]


def test_tasks_become_chats_with_their_answers(rows):
    assert [row["answer"] for row in rows] == ["Paris", "Tokyo", "Lima"]
    assert rows[0]["prompt"] == [
        {"role": "system", "content": "Name the capital."},
        {"role": "user", "content": "France"},
    ]
    assert set(rows[0]["verifiers"]) == {"environment", "arguments", "task"}


def test_arguments_and_size(ending):
    source = VerifiersTasks(environment=f"capitals-{ending}", arguments={"reverse": True}, size=2)
    found = list(source.rows())
    assert [row.data["answer"] for row in found] == ["France", "Japan"]
    assert found[1].data["prompt"][1]["content"] == "Of what is Tokyo the capital?"
    assert [row.line for row in found] == [1, 2] and found[0].file == f"capitals-{ending}"
    (score,) = VerifiersReward()([Rollout(found[0].data["prompt"], "France", found[0].data)])
    assert score == 1.5


@pytest.mark.parametrize(
    ("said", "score"),
    [("Paris", 1.5), ("It is Paris, of course.", 1.0), ("Rome", 0.5), ("I have no idea", 0.0), ("", 0.5)],
)
def test_rewards_are_weighted_and_summed_as_the_environment_does(rows, said, score):
    # right counts 1, at most twice as long as the answer counts a half
    assert VerifiersReward()([Rollout(rows[0]["prompt"], said, rows[0])]) == [score]
    messages = [{"role": "assistant", "content": said}]
    assert VerifiersReward()([Rollout(rows[0]["prompt"], messages, rows[0])]) == [score]


def test_reward_of_the_environment_that_raises_is_a_fault_and_no_zero(rows):
    (found,) = VerifiersReward()([Rollout(rows[0]["prompt"], "Paris! panic", rows[0])])
    assert isinstance(found, Fault) and found.state == "error" and "a fault of the environment" in found.why


@pytest.mark.parametrize("column", [None, "capitals", {"environment": "capitals-v1"}])
def test_row_of_another_source_is_a_fault(column):
    (found,) = VerifiersReward()([Rollout("?", "Paris", {"verifiers": column})])
    assert isinstance(found, Fault) and "is not as the source verifiers writes it" in found.why


def test_unusable_environments_are_refused_by_the_source_and_the_reward(ending, rows):
    why = {"v0": "Several is no SingleTurnEnv", "v1": r"hook of their own \(setup\)"}[ending]
    with pytest.raises(tunesmith.ConfigError, match=why):
        list(VerifiersTasks(environment=f"tools-{ending}").rows())
    with pytest.raises(tunesmith.ConfigError, match="'nowhere-env' cannot be used"):
        list(VerifiersTasks(environment="nowhere-env").rows())
    with pytest.raises(tunesmith.ConfigError, match="revers"):
        list(VerifiersTasks(environment=f"capitals-{ending}", arguments={"revers": True}).rows())
    known = {**rows[0], "verifiers": {**rows[0]["verifiers"], "environment": "nowhere-env"}}
    (found,) = VerifiersReward()([Rollout("?", "Paris", known)])
    assert isinstance(found, Fault) and "'nowhere-env' cannot be used" in found.why


def test_word_is_claimed():
    assert VerifiersTasks.claims("verifiers:capitals-v1") == {"environment": "capitals-v1"}
    assert VerifiersTasks.claims("capitals-v1") is None
