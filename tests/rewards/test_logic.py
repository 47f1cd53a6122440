"""Assignments and formulas, checked by a solver: the syntax, what counts as an answer, what is an error of the row."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from itertools import product
from typing import Any

import pytest

from tunesmith import Fault, Rollout
from tunesmith.testing import check_reward
from tunesmith_rewards.logic import Logic
from tunesmith_rewards.logic.puzzles import Domain, assignment, puzzle
from tunesmith_rewards.logic.solver import Solver
from tunesmith_rewards.logic.syntax import MAX_DEPTH, Node, parse

PUZZLE = {
    "variables": {"p": "boolean", "x": [1, 5], "Hat": ["red", "blue"]},
    "constraints": ["p -> x > 3", "Hat = red", "p"],
}


def judged(answer: str, given: Any = PUZZLE, **settings: Any) -> Any:
    [found] = Logic(**settings)([Rollout("q", answer, {settings.get("column", "puzzle"): given})])
    return found


@pytest.mark.parametrize("mode", ["solution", "equivalence"])
def test_it_holds_up_to_what_is_asked_of_every_reward(mode: Any) -> None:
    report = check_reward(Logic(mode=mode))
    assert not report.failed, report


# ---------------------------------------------------------------------------------------------- answers
RIGHT = [
    "Answer: p=true, x=4, hat=red",
    "I think so.\n\n**Answer:** p = True, x = 5, Hat = Red.",
    "Answer: p: yes; x: 4; hat: red",
    "Answer: p is true and x is 4 and hat is red",
    "Answer: x=4, x=4, p=1, hat=red",
    r"\boxed{p=\text{true},\; x=4,\ \text{Hat}=\mathrm{red}}",
    'Answer: {"p": true, "x": 4, "Hat": "red"}',
    '\\boxed{{"p": "true", "x": "5", "hat": "red"}}',
    "<think>Answer: p=false</think>Answer: p=true, x=4, hat=red",
    "Answer: p=false, x=1, hat=red. Wait.\nAnswer: p=true, x=4, hat=red",
    "<answer>\np=true\nx=4\nhat=red\n</answer>",
]
WRONG = [
    "",
    "p=true, x=4, hat=red",
    "Answer:",
    "Answer: p=..., x=...",
    "Answer: p=true, x=3, hat=red",
    "Answer: p=false, x=4, hat=red",
    "Answer: p=true, x=6, hat=red",
    "Answer: p=true, x=4, hat=green",
    "Answer: p=true, x=4",
    "Answer: p=true, x=4, hat=red, y=1",
    "Answer: p=true, p=false, x=4, hat=red",
    "Answer: p=true, x=4.0, hat=red",
    "Answer: p=maybe, x=4, hat=red",
    "Answer: p=true or x=4 or hat=red",
    "Answer: p=true, x=2+2, hat=red",
    "Answer: p=true, x=99999999999999999999, hat=red",
    "Answer: p=true, x=\u0664, hat=red",
    'Answer: {"p": true, "p": false, "x": 4, "hat": "red"}',
    'Answer: {"p": true, "x": {"x": 4}, "hat": "red"}',
    'Answer: {"p": true, "x": 4, "hat": null}',
    'Answer: {"p": true, "x": 4, "hat": "red"',
    "<think>Answer: p=true, x=4, hat=red</think>",
    "<think>Answer: p=true, x=4, hat=red",
    "Answer: p=true, x=4, hat=red\nAnswer: I do not know",
    "Answer: unsatisfiable",
    "Answer: " + "p=true, " * 5000 + "x=4, hat=red",
    "Answer: " + '{"p":' * 3000,
    "Answer: p=__import__('os').getpid(), x=4, hat=red",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_a_complete_assignment_that_satisfies_everything_is_right(answer: str) -> None:
    assert judged(answer) == 1.0


@pytest.mark.parametrize("answer", WRONG)
def test_anything_else_is_wrong(answer: str) -> None:
    assert judged(answer) == 0.0


def test_every_satisfying_assignment_is_right() -> None:
    for p, x, hat in product(("true", "false"), range(7), ("red", "blue")):
        wanted = p == "true" and x in (4, 5) and hat == "red"
        assert judged(f"Answer: p={p}, x={x}, hat={hat}") == wanted


def test_that_there_is_no_solution_is_an_answer_too() -> None:
    for said in ("unsatisfiable", "No solution.", "UNSAT"):
        assert judged(f"Answer: {said}", ["a", "a -> b", "!b"]) == 1.0
        assert judged(f"Answer: {said}", ["a", "a -> b"]) == 0.0
    assert judged("Answer: a=true, b=false", ["a", "a -> b", "!b"]) == 0.0


def test_puzzles_are_written_in_several_ways() -> None:
    for given in ("a & !b", ["a", "!b"], {"constraints": ["a & !b"]}, '{"constraints": ["a", "!b"]}', '["a", "!b"]'):
        assert judged("Answer: a=true, b=false", given) == 1.0
        assert judged("Answer: a=true, b=true", given) == 0.0
        assert judged("Answer: a=true, b=false", given, column="rules") == 1.0


def test_names_of_other_rows_that_a_table_filled_in_are_left_out() -> None:
    given = {"variables": {"a": "boolean", "b": None}, "constraints": ["a"]}
    assert judged("Answer: a=true", given) == 1.0
    assert judged("Answer: a=true, b=true", given) == 0.0


# ---------------------------------------------------------------------------------------------- syntax
TABLES = [
    ("a & b | c", lambda a, b, c: (a and b) or c),
    ("a | b & c", lambda a, b, c: a or (b and c)),
    ("!a | b", lambda a, b, c: (not a) or b),
    ("not a and b", lambda a, b, c: (not a) and b),
    ("~(a | b)", lambda a, b, c: not (a or b)),
    ("a -> b -> c", lambda a, b, c: (not a) or (not b) or c),
    ("(a -> b) -> c", lambda a, b, c: not ((not a) or b) or c),
    ("a | b -> c", lambda a, b, c: not (a or b) or c),
    ("a <-> b <-> c", lambda a, b, c: (a == b) == c),
    ("a iff b implies c", lambda a, b, c: a == ((not b) or c)),
    ("a xor b xor c", lambda a, b, c: (a != b) != c),
    ("a ^ b & c", lambda a, b, c: a != (b and c)),
    ("a = b", lambda a, b, c: a == b),
    ("a != b | c", lambda a, b, c: a != b or c),
    ("a && b || true", lambda a, b, c: True),
    ("\u00aca \u2227 (b \u2228 c)", lambda a, b, c: not a and (b or c)),
    ("a \u2192 b", lambda a, b, c: (not a) or b),
    ("a => b <=> c", lambda a, b, c: ((not a) or b) == c),
    ("a & FALSE", lambda a, b, c: False),
]


@pytest.mark.parametrize(("text", "meaning"), TABLES)
def test_connectives_mean_and_bind_as_they_should(text: str, meaning: Any) -> None:
    variables = dict.fromkeys("abc", "boolean")
    solver = Solver(puzzle({"variables": variables, "constraints": [text]}))
    for a, b, c in product([False, True], repeat=3):
        assert solver.satisfied({"a": a, "b": b, "c": c}) == meaning(a, b, c), (a, b, c)


NUMBERS = [
    ("x + 2 * y = 7", lambda x, y: x + 2 * y == 7),
    ("(x + 2) * y >= 6", lambda x, y: (x + 2) * y >= 6),
    ("x - y - 1 < 0", lambda x, y: x - y - 1 < 0),
    ("x - (y - 1) <= 0", lambda x, y: x - (y - 1) <= 0),
    ("-x * y != -4", lambda x, y: -x * y != -4),
    ("abs(x - y) > 1", lambda x, y: abs(x - y) > 1),
    ("distinct(x, y, 3)", lambda x, y: len({x, y, 3}) == 3),
    ("x * x == y | x = 0", lambda x, y: x * x == y or x == 0),
    ("!(x < y) & y > 0 - 2", lambda x, y: not x < y and y > -2),
]


@pytest.mark.parametrize(("text", "meaning"), NUMBERS)
def test_numbers_are_calculated_with_as_they_should(text: str, meaning: Any) -> None:
    solver = Solver(puzzle({"variables": {"x": [-4, 4], "y": [-4, 4]}, "constraints": [text]}))
    for x, y in product(range(-4, 5), repeat=2):
        assert solver.satisfied({"x": x, "y": y}) == meaning(x, y), (x, y)


def random_formula(rng: random.Random, depth: int) -> tuple[str, Any]:
    if depth == 0 or rng.random() < 0.15:
        name = rng.choice("abc")
        return name, lambda v: v[name]
    kind = rng.choice(["!", "&", "|", "->", "<->", "xor"])
    left, left_holds = random_formula(rng, depth - 1)
    if kind == "!":
        return f"!({left})", lambda v: not left_holds(v)
    right, right_holds = random_formula(rng, depth - 1)
    holds = {
        "&": lambda v: left_holds(v) and right_holds(v),
        "|": lambda v: left_holds(v) or right_holds(v),
        "->": lambda v: not left_holds(v) or right_holds(v),
        "<->": lambda v: left_holds(v) == right_holds(v),
        "xor": lambda v: left_holds(v) != right_holds(v),
    }
    return f"({left}) {kind} ({right})", holds[kind]


def test_equivalence_is_equality_of_truth_tables() -> None:
    rng = random.Random(0)
    assignments = [dict(zip("abc", values, strict=True)) for values in product([False, True], repeat=3)]
    found = []
    for _ in range(150):
        one, one_holds = random_formula(rng, 2)
        other, other_holds = random_formula(rng, 2)
        same = all(one_holds(v) == other_holds(v) for v in assignments)
        given = {"variables": dict.fromkeys("abc", "boolean"), "constraints": [one]}
        assert judged(f"Answer: {other}", given, mode="equivalence") == same, (one, other)
        found.append(same)
    assert 5 < sum(found) < 145


@pytest.mark.parametrize(
    "answer",
    [
        "!p | q",
        "`not p or q`",
        r"$\neg p \lor q$",
        "\u00acq \u2192 \u00acp",
        r"\boxed{\lnot q \to \lnot p}",
        "p implies q.",
    ],
)
def test_formulas_are_read_as_models_write_them(answer: str) -> None:
    assert judged(answer if "boxed" in answer else f"Answer: {answer}", "p -> q", mode="equivalence") == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        *("", "p & q", "q -> p", "p -> r", "p ->", "p -> 3", "1", "p q", "true", "p=true, q=true", "p -> q; import os"),
        *("not " * 500 + "p", "(" * 900, "p xor " * 600 + "p"),
    ],
)
def test_formulas_that_say_something_else_or_nothing_are_wrong(answer: str) -> None:
    assert judged(f"Answer: {answer}", "p -> q", mode="equivalence") == 0.0


def test_the_domains_belong_to_what_a_formula_means() -> None:
    given = {"variables": {"x": [0, 3]}, "constraints": ["x > 1"]}
    assert judged("Answer: x = 2 | x = 3", given, mode="equivalence") == 1.0
    assert judged("Answer: x = 2 | x = 4", given, mode="equivalence") == 0.0
    assert judged("Answer: Hat = red & p & x != 1 & x - 2 > 1", PUZZLE, mode="equivalence") == 1.0


def test_long_lists_are_not_deep() -> None:
    long = " | ".join(["a"] * 900)
    assert parse(long) == Node("|", (Node("name", text="a"),) * 900, depth=1)
    assert judged("Answer: a=true", long) == 1.0
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} deep"):
        parse(" xor ".join(["a"] * 100))


# ---------------------------------------------------------------------------------------------- faults of the row
BAD = [
    (None, "should be an object with constraints"),
    (7, "should be an object with constraints"),
    ({}, "should be an object with constraints"),
    ({"constraints": ["a"], "extra": 1}, "should be an object with constraints"),
    ({"constraints": []}, "constraints should be a list of formulas"),
    ({"constraints": ["a", 3]}, "constraints should be a list of formulas"),
    ("[", "begins like JSON and is none"),
    ("a +", "a name or number is expected at the end"),
    ("(a", "')' is expected at the end"),
    ("a b", "'b' is not expected there"),
    ("a < b < c", "cannot follow each other"),
    ("a @ b", "'@' has no meaning"),
    ("distinct(a)", "distinct has two or more arguments, not 1"),
    ("abs(1, 2) = 1", "abs has 1 arguments, not 2"),
    ("a = 1", "compares a truth value with a number"),
    ("a + 1 = 2", "a truth value stands where a number is expected"),
    ({"variables": {"x": [1, 2]}, "constraints": ["x"]}, "a number stands where a truth value is expected"),
    ({"variables": {"x": [1, 2]}, "constraints": ["y = 1"]}, "names 'y', and variables does not"),
    ({"variables": [], "constraints": ["a"]}, "variables should be an object"),
    (
        {"variables": {"x": "bool"}, "constraints": ["x"]},
        "x should be 'boolean', [lowest, highest], or a list of words",
    ),
    ({"variables": {"x": [3, 1]}, "constraints": ["x = 1"]}, "x should be 'boolean'"),
    ({"variables": {"x": [True, 1]}, "constraints": ["x = 1"]}, "x should be 'boolean'"),
    ({"variables": {"x": ["a", "A"]}, "constraints": ["x = a"]}, "a value of x stands there twice"),
    ({"variables": {"x y": "boolean"}, "constraints": ["x"]}, "'x y' is no name"),
    ({"variables": {"not": "boolean"}, "constraints": ["true"]}, "'not' is no name"),
    ({"variables": {"x": "boolean", "X": "boolean"}, "constraints": ["x"]}, "differ in upper and lower case only"),
    ({"variables": {"x": ["a", "b"], "y": ["b", "a"]}, "constraints": ["x = a"]}, "stands for two things"),
    ({"constraints": ["a" * 5000]}, "5,000 characters, more than 4,000"),
    ({"constraints": ["x = 1234567890123"]}, "more than 12 digits"),
    ({"constraints": ["a"] * 2001}, "2,001 constraints, more than 2,000"),
    ({"variables": {f"v{i}": "boolean" for i in range(201)}, "constraints": ["v1"]}, "201 variables, more than 200"),
]


@pytest.mark.parametrize(("given", "why"), BAD)
@pytest.mark.parametrize("mode", ["solution", "equivalence"])
def test_a_puzzle_that_cannot_be_read_is_an_error_that_names_the_column(given: Any, why: str, mode: Any) -> None:
    for answer in ("Answer: a=true", ""):
        found = judged(answer, given, mode=mode)
        assert isinstance(found, Fault) and found.state == "error"
        assert found.why.startswith("column 'puzzle': ") and why in found.why


def test_one_bad_row_does_not_spoil_the_others() -> None:
    rows = [("Answer: a=true", "a"), ("Answer: a=true", "a +"), ("Answer: a=false", "a")]
    found = Logic()([Rollout("q", answer, {"puzzle": given}) for answer, given in rows])
    assert [found[0], type(found[1]), found[2]] == [1.0, Fault, 0.0]


def test_puzzles_with_several_solutions_are_refused_where_that_is_wanted() -> None:
    assert judged("Answer: p=true, x=4, hat=red") == 1.0
    found = judged("Answer: p=true, x=4, hat=red", unique=True)
    assert isinstance(found, Fault) and "the puzzle has several solutions" in found.why
    one = {**PUZZLE, "constraints": [*PUZZLE["constraints"], "x != 5"]}
    assert judged("Answer: p=true, x=4, hat=red", one, unique=True) == 1.0
    assert judged("Answer: p=true, x=5, hat=red", one, unique=True) == 0.0


# ---------------------------------------------------------------------------------------------- bounds
FACTORS = {"variables": {"x": [2, 10**11], "y": [2, 10**11]}, "constraints": ["x * y = 99999999977"]}


def test_what_the_solver_cannot_find_out_in_its_steps_is_no_score() -> None:
    started = time.monotonic()
    assert judged("Answer: unsatisfiable", FACTORS) is None
    assert judged("Answer: x=3, y=5", FACTORS) == 0.0
    found = judged("Answer: x=3, y=5", FACTORS, unique=True)
    assert isinstance(found, Fault) and "too hard" in found.why
    assert time.monotonic() - started < 30


def test_checking_an_assignment_is_quick_however_hard_the_puzzle_is() -> None:
    rng = random.Random(1)
    values = {f"v{i}": rng.random() < 0.5 for i in range(200)}
    constraints = []
    while len(constraints) < 850:
        literals = [(name, rng.random() < 0.5) for name in rng.sample(sorted(values), 3)]
        if any(values[name] == sign for name, sign in literals):
            constraints.append(" | ".join(f"{'' if sign else '!'}{name}" for name, sign in literals))
    given = {"variables": dict.fromkeys(values, "boolean"), "constraints": constraints}
    text = ", ".join(f"{name}={str(value).lower()}" for name, value in values.items())
    judged("Answer: v0=true", given)
    started = time.monotonic()
    assert judged(f"Answer: {text}", given) == 1.0
    assert time.monotonic() - started < 2


def test_domains_read_values_as_they_are_written() -> None:
    assert Domain(boolean=True).value(" YES ") == 1 and Domain(boolean=True).value("2") is None
    assert Domain(-3, 3).value("-3") == -3 and Domain(-3, 3).value("- 3") is None
    assert assignment("a=1", {"a": Domain(boolean=True), "b": Domain(boolean=True)}) is None


def test_the_solver_is_loaded_when_it_is_needed() -> None:
    code = (
        "import sys, json; from tunesmith_rewards.logic import Logic; from tunesmith import Rollout;"
        "assert 'z3' not in sys.modules; Logic().warm(); assert 'z3' in sys.modules;"
        "print(json.dumps(Logic()([Rollout('q', 'Answer: a=true', {'puzzle': 'a'})])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [1.0]
