"""Programs against tests: shapes of tests, what is the same, languages, and what is nobody's fault."""

import json
from itertools import product

import pytest

from tunesmith import ConfigError, Fault, ResourceError, Rollout
from tunesmith.sandbox import Outcome, Sandbox, probes
from tunesmith_rewards import code
from tunesmith_rewards.code import Code, languages
from tunesmith_rewards.code.cases import Called, Printed, read_cases
from tunesmith_rewards.code.compare import same_text, same_value

TIERS = [probe.tier for probe in probes() if probe.works]
needs_sandbox = pytest.mark.skipif(not TIERS, reason="; ".join(probe.detail for probe in probes() if not probe.works))
DOUBLE = "```python\nprint(int(input()) * 2)\n```"
DOUBLE_TESTS = [{"input": "21\n", "output": "42\n"}, {"input": "-3\n", "output": "-6\n"}]


def judge(completion, tests, truncated=False, **settings):
    columns = settings.pop("columns", {})
    return Code(**settings)([Rollout("", completion, {"tests": tests, **columns}, truncated=truncated)])[0]


# ---------------------------------------------------------------------------------------------- tests of a row
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"input": "1\n", "output": "2"}], [Printed("1\n", "2")]),
        ([{"input": ["1", "2"], "output": "2", "call": None, "args": None}], [Printed("1\n2", "2")]),
        ([{"call": "f", "args": [1, [2]], "expected": None}], [Called("f", [1, [2]], {}, (None,))]),
        ([{"fn_name": "A.f", "kwargs": {"x": 1, "y": None}, "expected": 2}], [Called("A.f", [], {"x": 1}, (2,))]),
        ([{"args": [1], "expected": 2}], [Called("g", [1], {}, (2,))]),
        ([{"input": "1\n[2]", "output": "true", "testtype": "functional"}], [Called("g", [1, [2]], {}, (True,))]),
        ({"inputs": ["1"], "outputs": ["2"]}, [Printed("1", "2")]),
        ({"inputs": [[1]], "outputs": [[2]], "fn_name": "f"}, [Called("f", [1], {}, ([2], 2))]),
        (["assert f(1, y={2}) == (3, 'a')"], [Called("f", [1], {"y": {2}}, ((3, "a"),))]),
        (["assert f('x')"], [Called("f", ["x"], {}, (True,))]),
    ],
)
def test_shapes_of_tests(value, expected, as_json):
    assert read_cases(json.dumps(value) if as_json else value, "g") == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "not NoneType"),
        ([], "no tests"),
        ("[1", "no JSON"),
        ([3], "test 0 is a int"),
        ([{"input": "1"}], "neither `input` and `output`"),
        ([{"call": "f", "args": [1]}], "no `expected`"),
        ([{"call": "f(1)", "args": [], "expected": 1}], "does not name the function"),
        ([{"args": [], "expected": 1}], "does not name the function"),
        ([{"call": "f", "args": "ab", "expected": 1}], "`args` is a list"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        (["assert f(open('x')) == 1"], "plain values"),
        (["import os"], "plain values"),
        ([{"input": "1", "output": 2}], "not int"),
        ([{"input": "\ud800", "output": "2"}], "surrogates not allowed"),
        ([{"call": "f", "args": [object()], "expected": 2}], "something else than texts"),
        ([{"call": "f", "args": [], "expected": b"2"}], "something else than texts"),
    ],
)
def test_tests_that_cannot_be_read_are_an_error_of_the_row(value, why):
    found = judge(DOUBLE, value)
    assert isinstance(found, Fault) and found.state == "error"
    assert found.why.startswith("column 'tests': ") and why in found.why


# ---------------------------------------------------------------------------------------------- what is the same
@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        (b"1 2 \n3\n\n", "1 2\n3", True),
        (b"1 2\r\n3", "1 2\n3\n", True),
        (b"1 2 3", "1 2\n3", False),
        (b" 1", "1", False),
        (b"1  2", "1 2", False),
        (b"\n1", "1", False),
        (b"yes", "Yes", False),
        (b"", "", True),
        (b"\xff", "", False),
        (b"0.30000000000000004", "0.3", True),
        (b"1", "1.0", True),
        (b"1.0", "1", False),
        (b"3.1416", "3.14159", False),
        (b"nan", "1.5", False),
        (b"1e400", "1.5", False),
        (b"1.5 extra", "1.5", False),
    ],
)
def test_printed_text(printed, expected, same):
    assert same_text(printed, expected, 1e-6) is same


def test_without_tolerance_text_is_text():
    assert not same_text(b"0.30", "0.3", 0.0)


@needs_sandbox
@pytest.mark.parametrize(
    ("returned", "expected", "same"),
    [
        ("(1, [2])", [1, [2]], True),
        ("1.0", 1, True),
        ("1", 1.0, True),
        ("True", 1, False),
        ("1", True, False),
        ("'1'", 1, False),
        ("0.1 + 0.2", 0.3, True),
        ("10 ** 400", 1.5, False),
        ("float('nan')", 1.5, False),
        ("None", None, True),
        ("[]", None, False),
        ("{1: 'a', 'b': None}", {"1": "a", "b": None}, True),
        ("{1: 'a', '1': 'a'}", {"1": "a", "2": "a"}, False),
        ("{(1, 2): 3}", {(1, 2): 3}, True),
        ("{1, 2}", {2, 1}, True),
        ("[1, 2]", {2, 1}, False),
        ("{1, 2}", [1, 2], False),
        ("'\\ud800\\x00\"'", '\ud800\x00"', True),
        ("range(2)", [0, 1], False),
        ("[[1, 2], [3]]", [[1, 2], [3, 4]], False),
    ],
)
def test_returned_values(returned, expected, same):
    from tunesmith.sandbox import Calls

    outcome = Sandbox().run(Calls(f"def f():\n    return {returned}\n", "f", [([], {})]))
    report = outcome.reports[0]
    assert (report.error is None and same_value(report.value, expected, 1e-6)) is same


# ---------------------------------------------------------------------------------------------- scores
@needs_sandbox
@pytest.mark.parametrize("tier", TIERS)
def test_all_tests_or_nothing_or_their_share(tier):
    tests = [*DOUBLE_TESTS, {"input": "x", "output": "0"}, {"input": "1", "output": "3"}]
    assert judge(DOUBLE, DOUBLE_TESTS, sandbox=tier) == 1.0
    assert judge(DOUBLE, tests, sandbox=tier) == 0.0
    assert judge(DOUBLE, tests, sandbox=tier, score="fraction") == 0.5
    assert judge(DOUBLE, json.dumps(tests), sandbox=tier, score="fraction", concurrency=3) == 0.5


@needs_sandbox
def test_verdicts_name_what_became_of_each_test():
    source = "import sys\nn = int(input())\n[print, exit, lambda n: sys.exit(3)][n % 3](n) if n < 9 else print('x' * n)"
    cases = [Printed(text, "0\n") for text in ("0", "3", "2", "1", "2000000", "")]
    reward = Code(score="fraction", output=100)
    assert reward.verdicts(source, cases) == [
        "pass",
        "wrong",
        "runtime_error",
        "runtime_error",
        "output_limit",
        "runtime_error",
    ]
    assert Code().verdicts(source, cases) == ["pass", "wrong"]


@needs_sandbox
def test_functions_are_called_and_programs_are_run():
    block = (
        "```python\ndef f(a, b=1):\n    return [a, b]\nif __name__ == '__main__':\n    print(sum(f(int(input()))))\n```"
    )
    tests = [{"call": "f", "args": [1], "kwargs": {"b": 2}, "expected": [1, 2]}, {"input": "4", "output": "5"}]
    assert judge(block, tests) == 1.0
    assert judge(block, ["assert f(3) == (3, 1)", "assert f(3) == (3, 2)"], score="fraction") == 0.5
    assert judge(block, [{"args": [1], "expected": [1, 1]}], columns={"entry_point": "f"}) == 1.0
    assert judge(block, [{"call": "g", "args": [1], "expected": None}]) == 0.0


@needs_sandbox
def test_hidden_tests_count_too():
    table = "```python\nprint({'21': 42, '-3': -6}[input()])\n```"
    hidden = {"hidden_tests": [{"input": "5", "output": "10"}]}
    assert judge(table, DOUBLE_TESTS) == 1.0
    assert judge(table, DOUBLE_TESTS, columns=hidden) == 0.0
    assert judge(DOUBLE, DOUBLE_TESTS, columns=hidden) == 1.0
    assert judge(DOUBLE, DOUBLE_TESTS, columns={"hidden_tests": None}) == 1.0
    assert "column 'hidden_tests'" in judge(DOUBLE, DOUBLE_TESTS, columns={"hidden_tests": "x"}).why


@needs_sandbox
@pytest.mark.parametrize(
    "completion",
    [
        "",
        "print(int(input()) * 2)",
        f"<think>{DOUBLE}</think> I do not know",
        f"<think>{DOUBLE}",
        DOUBLE.removesuffix("```"),
        DOUBLE.replace("python", "ruby"),
        DOUBLE + "\n```python\nprint(1)\n```",
        DOUBLE.replace("print", "pass; #"),
        DOUBLE.replace("print", "'\ud800'; print"),
    ],
)
def test_answers_without_the_program_get_nothing(completion):
    assert judge(completion, DOUBLE_TESTS) == 0.0


@needs_sandbox
def test_the_last_block_counts():
    assert (
        judge(
            f"<think>x</think>```python\n1/0\n```\nbetter:\n{DOUBLE}\nRun it:\n```bash\npython main.py\n```",
            DOUBLE_TESTS,
        )
        == 1.0
    )


@needs_sandbox
def test_limits_are_the_programs_fault():
    for source in ("while True: pass", "import time; time.sleep(9)", "x = 'x' * 10**9", "print('x' * 10**7)"):
        assert judge(f"```python\n{source}\n```", DOUBLE_TESTS, seconds=0.3) == 0.0
    # the limit of time is for all tests of a completion together too
    slow = "```python\nimport time\ntime.sleep(0.4)\nprint(int(input()) * 2)\n```"
    assert judge(slow, DOUBLE_TESTS * 3, timeout=1.0, score="fraction") < 1.0
    assert judge(slow, DOUBLE_TESTS * 3, concurrency=6) == 1.0


def test_a_sandbox_that_fails_is_no_low_score(monkeypatch):
    class Broken:
        tier, concurrency, runs = "bubblewrap", 1, 0

        def run(self, *_):
            self.runs += 1
            return Outcome("infrastructure", "the disk is full")

        def run_all(self, jobs):
            return [self.run(*job) for job in jobs]

    broken = Broken()
    monkeypatch.setattr(code, "_sandbox", lambda *_: broken)
    assert judge(DOUBLE, DOUBLE_TESTS) == Fault("infrastructure", "the disk is full")
    assert judge("```python\ndef f(): 1\n```", ["assert f()"]) == Fault("infrastructure", "the disk is full")
    assert broken.runs == 4  # each was tried again once
    with pytest.raises(ResourceError, match="programs in python do not work in the sandbox"):
        Code().warm()


# ---------------------------------------------------------------------------------------------- languages
@needs_sandbox
@pytest.mark.parametrize(("name", "tier"), [*product(["python", "c"], TIERS), *product(["c++"], TIERS[:1])])
def test_samples_are_best(name, tier):
    reward = Code(language=name, sandbox=tier)
    try:
        reward.warm()
    except ResourceError as error:
        pytest.skip(f"{error.what}; {error.fix}")
    for row in reward.samples():
        assert reward([Rollout(row["prompt"], row["completion"], row)]) == [1.0]


@needs_sandbox
def test_a_compiled_program_fails_as_others_do():
    if "c" not in available():
        pytest.skip("no C compiler is installed")
    loop = "int main(void) { for (volatile int i = 0;; i++); }"
    tests = [Printed("", "1")]
    for source, verdict in (("int main(void) { return", "compile_error"), (loop, "timeout"),
                            ("int main(void) { return *(int *)0; }", "runtime_error"), ("int main(void) {}", "wrong"),
                            ('#include <stdio.h>\nint main(void) { puts("1"); }', "pass")):  # fmt: skip
        assert Code(language="c", seconds=0.5).verdicts(source, tests) == [verdict], source


def available():
    found = []
    for name in languages.LANGUAGES:
        try:
            languages.find(name)
        except ResourceError:
            continue
        found.append(name)
    return found


def test_a_language_without_compiler_is_refused_with_the_fix(monkeypatch):
    monkeypatch.setattr(languages.shutil, "which", lambda _: None)
    languages.find.cache_clear()
    with pytest.raises(ResourceError, match="programs in c need gcc or clang or cc, and none is installed") as caught:
        Code(language="c").warm()
    assert caught.value.fix == "apt-get install gcc"
    languages.find.cache_clear()


def test_functions_are_python_only():
    found = judge("```c\n```", ["assert f()"], language="c")
    assert isinstance(found, Fault) and "in python only, not in c" in found.why


def test_a_tier_that_is_missing_is_refused_not_replaced(monkeypatch):
    def refuse(tier):
        raise ResourceError(f"the sandbox {tier} does not work here")

    monkeypatch.setattr("tunesmith.sandbox.pool.probes.require", refuse)
    code._sandbox.cache_clear()
    with pytest.raises(ResourceError, match="landlock does not work here"):
        Code(sandbox="landlock").warm()
    code._sandbox.cache_clear()


def test_no_setting_does_without_a_sandbox():
    with pytest.raises((ConfigError, ValueError)):
        Code(sandbox="none")
