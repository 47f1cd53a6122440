"""Letters and texts of choices."""

import pytest

from tunesmith import Fault, Rollout
from tunesmith_rewards.multiple_choice import MultipleChoice

CHOICES = ["red apple", "blue sky", "a green leaf", "yellow"]


def judged(completion, gold="B", given=CHOICES, **settings):
    columns = {"answer": gold, "choices": given}
    return MultipleChoice(**{"choices": "choices", **settings})([Rollout("Which?", completion, columns)])[0]


@pytest.mark.parametrize(
    "completion",
    [
        *(
            "B",
            "(B)",
            "B.",
            "b",
            "**B**",
            "Option B",
            r"\boxed{B}",
            r"\boxed{\text{B}}",
            r"\boxed{(B)}",
            r"\boxed{\textbf{B}}",
        ),
        *(
            "The answer is B",
            "The answer is (B).",
            "The answer is **B**.",
            "Answer: B",
            "**Answer: B**",
            "Final answer: B",
        ),
        *(
            "The correct option is B.",
            "The answer is B because it is.",
            "The answer is: B",
            r"The answer is $\boxed{B}$.",
        ),
        *("The correct choice is (B) blue sky", "<think>A</think>B", "A</think>B", "<answer>B</answer>", "I see.\nB"),
        "A is tempting, since apples are red. The answer is B.",
    ],
)
@pytest.mark.parametrize("settings", [{}, {"choices": None}])
def test_the_right_letter_is_found(completion, settings):
    assert judged(completion, **settings) == 1.0


@pytest.mark.parametrize(
    "completion",
    ["blue sky", "The answer is blue sky.", "B) blue sky", "Answer: B. Blue  Sky", r"\boxed{\text{blue sky}}"],
)
def test_the_right_text_is_found(completion):
    assert judged(completion) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        *("", "A", "C", "q", "B2", "bold", "Be quick", "ABCD", "A B C D", "B, C", "B/C", "Not B", "I am not sure"),
        *(
            "The answer is A or B",
            "The answer is B or C",
            "The answer is both A and B",
            "Answer: A\nAnswer: B",
            "(A) (B)",
        ),
        *(
            r"\boxed{A} \boxed{B}",
            "<think>B</think>",
            "<think>B",
            "The answer is not B",
            "The answer is between B and C",
        ),
        *("A. blue sky is wrong, B. is right", "The answer is B, but C works too: (C)", "A. red apple\nB. blue sky"),
        "A. red apple\nB. blue sky\nC. a green leaf\nD. yellow",
    ],
)
@pytest.mark.parametrize("settings", [{}, {"choices": None}])
def test_anything_else_is_wrong(completion, settings):
    assert judged(completion, **settings) == 0.0


def test_a_letter_with_the_text_of_another_choice_is_wrong():
    assert judged("B. red apple") == 0.0


@pytest.mark.parametrize(
    "completion",
    ["A plain sentence.", "The answer is a matter of taste", "The answer is A good one", "I saw a cat.", "A", "a"],
)
def test_the_article_is_no_letter(completion):
    assert judged(completion, gold="A") == float(completion in ("A", "a"))


@pytest.mark.parametrize("gold", ["B", "(b)", "B.", 1, "blue sky", "Blue sky"])
def test_a_gold_answer_is_a_letter_a_place_or_a_text(gold):
    assert judged("B", gold) == 1.0
    assert judged("C", gold) == 0.0


@pytest.mark.parametrize("gold", [None, "", "E", "Z", 4, -1, True, "grey", ["B"], 1.0])
def test_a_gold_answer_that_is_no_choice_is_an_error(gold):
    for completion in ("B", ""):
        verdict = judged(completion, gold)
        assert isinstance(verdict, Fault)
        assert "column 'answer'" in verdict.why


@pytest.mark.parametrize("choices", [None, [], ["one"], "red, blue", list("abcdefghijk")])
def test_choices_that_are_none_are_an_error(choices):
    verdict = judged("B", given=choices)
    assert isinstance(verdict, Fault)
    assert "column 'choices'" in verdict.why


def test_choices_may_be_a_mapping_of_texts():
    assert judged("blue sky", given={"text": CHOICES, "label": list("ABCD")}) == 1.0


def test_where_to_look_is_a_setting():
    assert judged("B", extract="boxed") == 0.0
    assert judged(r"\boxed{B}", extract="boxed") == 1.0
    assert judged("The answer is A.\nB", extract="last-line") == 1.0
    assert judged(r"\boxed{A} The answer is B", extract="final") == 1.0
    assert judged("Answer: A\nAnswer: B", several="last") == 1.0
    assert judged("<plan>The answer is A</plan>The answer is B", thinking=("plan",)) == 1.0
    assert judged("It is B here", extract="whole") == 0.0


def test_columns_follow_the_settings():
    assert list(MultipleChoice().columns()) == ["answer"]
    assert list(MultipleChoice(answer="key", choices="options").columns()) == ["key", "options"]


@pytest.mark.parametrize("extract", ["auto", "boxed", "final", "last-line", "whole"])
def test_samples_are_right_and_all_different(extract):
    reward = MultipleChoice(extract=extract, choices="choices")
    rows = list(reward.samples())
    assert reward([Rollout(row["prompt"], row["completion"], row) for row in rows]) == [1.0] * len(rows)
    assert len({row["answer"] for row in rows}) == len(rows)
    assert reward([Rollout(row["prompt"], row["prompt"], row) for row in rows]) == [0.0] * len(rows)
