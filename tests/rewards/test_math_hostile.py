"""Answers written to hang or to fool `math` are judged wrong, in little time."""

import logging
import random
import time

import pytest

from tunesmith import Rollout
from tunesmith_rewards.math import Math
from tunesmith_rewards.math.expressions import parse
from tunesmith_rewards.math.guards import MAX_NESTING, problem

N = MAX_NESTING
HOSTILE = {
    "300 brackets": "(" * 300 + "x" + ")" * 300,
    "nested brackets, again and again": ("(" * N + "x" + ")" * N) * (280 // (2 * N + 1)),
    "digits and spaces": "1 " * 10_000,
    "20,000 digits": "9" * 20_000,
    "a tower": "9^{9^{9^{9}}}",
    "powers of powers": "((9^{999})^{999})^{999}",
    "many large powers": "9^{999}" * 40,
    "a factorial of a factorial": "(99!)!",
    "a power of a factorial": "99!^{99}",
    "a large factorial": "10000000000!",
    "binomials": r"\binom{100}{50}" * 4,
    "a large binomial": r"\binom{99999999}{4999999}",
    "functions in functions": r"\sin(" * (N // 2) + "x" + ")" * (N // 2),
    "30 functions in functions": r"\sin(" * 30 + "x" + ")" * 30,
    "logarithms in logarithms": r"\log_{2}(" * (N // 2) + "x" + ")" * (N // 2),
    "exponents in exponents": "e^{" * N + "x" + "}" * N,
    "braces": "{" * 30 + "x" + "}" * 30,
    "roots in roots": r"\sqrt{x+" * N + "2" + "}" * N,
    "bars": "|" * 900,
    "bars that may open or close": "|x" * 400,
    "signs": "+" * 290 + "x",
    "one huge exponent": "e^{10^{300}}",
    "a sine of something huge": r"\sin(10^{999})",
    "a huge floor": r"\lfloor 10^{999} \rfloor" * 8,
    "a power of a sum": "(x+1)^{1000}",
    "many variables": "+".join("abcdfghjklmnopqrstuvwxyz") * 5,
    "a product": "".join(f"(x+{i})" for i in range(40)),
    "a determinant": r"\det\begin{pmatrix}" + r"\\".join("&".join("abcdefgh") for _ in range(8)) + r"\end{pmatrix}",
    "a power of a matrix": r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{999}",
    "a sum to a billion": r"\sum_{i=1}^{10^{9}} i",
    "an integral": r"\int_0^{10} x^x dx",
    "commas": "," * 900,
    "a long list": "1," * 400,
    "equals signs": "=" * 900,
    "a long chain": "x=" * 300 + "x",
    "carets": "x^" * 300,
    "commands without arguments": r"\frac" * 150,
    "dollars": "$ " * 400,
    "backslashes": "\\" * 900,
    "a billion zeros": "1e1000000000",
    "imaginary": "(1+i)^{999}",
    "a surrogate": "\ud800",
    "a null": "\x00",
    "superscripts": "\u00b2" * 900,
    "roots": "\u221a" * 900,
}
GOLDS = [
    "5",
    r"\sqrt{2}",
    "x^2+1",
    "f(x)",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    "2x+y=3",
    "x<3",
    "(1,2)",
    r"\{1,2\}",
]


@pytest.fixture(autouse=True, scope="module")
def warm():
    Math().warm()


def judged(gold, completion, **settings):
    return Math(**settings)([Rollout("Why?", completion, {"answer": gold})])[0]


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_is_wrong_within_a_second(answer):
    for gold in GOLDS:
        start = time.process_time()
        assert judged(gold, rf"\boxed{{{answer}}}") == 0.0
        assert judged(gold, answer, extract="whole") == 0.0
        assert time.process_time() - start < 1


def test_a_hostile_text_around_the_answer_takes_little_time():
    for piece in (r"\boxed{", "the answer is ", "#### ", "</think>", "<answer>", "**", "$"):
        start = time.process_time()
        assert judged("5", piece * 10_000) == 0.0
        assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("gold", "completion"),
    [
        ("5", r"\boxed{4=5}"),
        ("5", r"\boxed{5\%}"),
        ("5", r"<think>\boxed{5}</think> I do not know"),
        (r"\frac{1}{3}", r"\boxed{0.333333}"),
        (r"\sqrt{2}\cdot 10^{-20}", r"\boxed{\sqrt{3}\cdot 10^{-20}}"),
        ("5", r"\boxed{4 or 5}"),
        ("5", r"\boxed{\{4,5\}}"),
        ("5", "".join(rf"\boxed{{{i}}}" for i in range(1, 7))),
        ("0", r"\boxed{1 000}"),
        ("7", r"\boxed{3 4}"),
    ],
)
def test_what_fools_the_library_alone_does_not_fool_the_reward(gold, completion):
    assert judged(gold, completion) == 0.0


@pytest.mark.parametrize("digits", ["\u0665", "\uff15", "\u096b", "\u09eb"])
def test_digits_of_every_script_count(digits):
    assert judged("5", rf"\boxed{{{digits}}}") == 1.0
    assert judged(digits, r"\boxed{5}") == 1.0


def test_guessing_numbers_scores_near_zero_on_the_samples():
    reward = Math()
    golds = [row["answer"] for row in reward.samples()]
    scores = [judged(gold, rf"\boxed{{{number}}}") for gold in golds for number in range(101)]
    assert sum(scores) / len(scores) < 0.01
    assert [judged(row["answer"], row["completion"]) for row in reward.samples()] == [1.0] * len(golds)


def test_every_limit_is_one_that_a_plain_expression_keeps():
    deep = "(" * N + "x" + ")" * N
    assert problem(deep) is None
    assert problem(f"({deep})") == f"it is nested more than {N} deep"
    assert problem("9" * 100) is None
    assert "nested" in problem(r"\sin(" * (N // 2 + 1) + "x" + ")" * (N // 2 + 1))
    assert problem(r"\{x\}") is None
    assert "digits" in problem("9" * 101)
    assert "characters" in problem("x" * 301)
    assert "pair up" in problem("(x")
    assert r"\write" in problem(r"\write18{rm}")
    assert "factorials" in problem("1!+2!+3!+4!+5!")
    assert "side by side" in problem("1 2")
    assert "matrix" in problem(r"\begin{tikzpicture}x\end{tikzpicture}")


def test_random_strings_of_mathematical_pieces_never_raise():
    draw = random.Random(0)
    pieces = [*r"05xy+-*/^_=<(){}[]|,!%$\.", r"\frac", r"\sqrt", r"\le", r"\{", r"\}"]
    pieces += [
        r"\text{cm}",
        r"\cup",
        r"\infty",
        r"\pm",
        r"\sin",
        " or ",
        " ",
        r"\circ",
        "\u00bd",
        "\u00b2",
        r"\log_",
        "&",
    ]
    for _ in range(1500):
        answer = "".join(draw.choice(pieces) for _ in range(draw.randrange(1, 12)))
        assert judged("x+5", rf"\boxed{{{answer}}}") in (0.0, 1.0)
        assert judged("x+5", answer, extract="whole") in (0.0, 1.0)


def test_the_parser_does_not_talk(caplog):
    with caplog.at_level(logging.WARNING):
        assert parse(r"\frac{x}{7}") is not None
    assert caplog.text == ""
