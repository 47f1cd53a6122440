"""Finding the answer in a completion."""

import time

import pytest

from tunesmith.passages import after_thinking, boxed, final_answers, last_boxed, last_line, tagged, unwrapped


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<thinking>a</thinking> b", " b"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<THINK>a</Think >b", "b"),
        ("<think>a", None),
        ("<think>a</think>b<think>c", None),
        ("", ""),
    ],
)
def test_what_follows_the_thinking(text, rest):
    assert after_thinking(text) == rest


def test_tags_of_the_thinking_are_a_choice():
    assert after_thinking("<plan>a</plan>b", ("plan",)) == "b"
    assert after_thinking("<think>a", ("plan",)) == "<think>a"
    assert after_thinking("<think>a", ()) == "<think>a"


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (r"\boxed{5}", ["5"]),
        (r"\boxed{\frac{1}{2}} and \fbox{\{1,2\}}", [r"\frac{1}{2}", r"\{1,2\}"]),
        (r"\boxed 5. \boxed7", ["5", "7"]),
        (r"\boxed{3 \boxed{4}}", [r"3 \boxed{4}"]),
        (r"\boxed{5", []),
        (r"\boxed{\boxed{5}", ["5"]),
        (r"\boxed{}", [""]),
        ("none", []),
    ],
)
def test_boxes(text, boxes):
    assert boxed(text) == boxes
    assert last_boxed(text) == (boxes[-1] if boxes else None)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Answer: 42", ["42"]),
        ("So the answer is 42. That was easy.", ["42"]),
        ("The answer is 3.14.", ["3.14"]),
        ("**Answer:** 42", ["42"]),
        ("**Answer: 42**", ["42"]),
        ("Answer: **B**", ["B"]),
        (r"The final answer is $\frac{1}{2}$.", [r"\frac{1}{2}"]),
        ("The correct option is (B).", ["(B)"]),
        ("6 * 7 = 42\n#### 42\n", ["42"]),
        ("#### Step 1\nThe answer is 5", ["5"]),
        ("<answer> 7 </answer>", ["7"]),
        ("the answer is 4\nthe answer is 5", ["4", "5"]),
        ("<answer>a <answer>b</answer>", ["b"]),
        ("answers are hard", []),
        ("", []),
    ],
)
def test_answers_that_are_said_to_be_final(text, answers):
    assert final_answers(text) == answers


def test_tags_lines_and_marks():
    assert tagged("<a>1</a><b>2</b><A>3\n4</A>", "a") == ["1", "3\n4"]
    assert last_line("first\n**last**\n\n") == "last"
    assert last_line("  ") == ""
    assert [unwrapped(text) for text in ("**$5$**", r"\(x\)", "`a`", "$a$ and $b$", "$$")] == [
        *("5", "x", "a"),
        *("$a$ and $b$", "$$"),
    ]


@pytest.mark.parametrize(
    "piece",
    [
        r"\boxed{",
        r"\boxed a",
        "{",
        "}",
        "<answer>",
        "</answer>",
        "the answer is ",
        "answer: **",
        "#### ",
        "<think>",
        "$ ",
    ],
)
def test_long_texts_take_little_time(piece):
    text = piece * 20_000
    start = time.process_time()
    after_thinking(text), boxed(text), final_answers(text), last_line(text)
    assert time.process_time() - start < 1
