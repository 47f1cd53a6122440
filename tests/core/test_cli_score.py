"""`tunesmith score` and `tunesmith check` as their users meet them."""

import json
from pathlib import Path

import pytest

from tunesmith.cli.check import NAME_WIDTH

PLUGIN = ("--plugin", str(Path(__file__).parent / "reward_plugin.py"))
SUMS = "{name: toy-sums, timeout: 1, fault: %s}"
NASTY = {3: "a" * 50_000, 5: "It is \ud800", 7: "\x1b[31mIt is red\x1b]0;title\x07", 9: ""}


@pytest.fixture
def rows(tmp_path):
    """Twelve answers to sums: every third is wrong, some are nasty."""
    path = tmp_path / "rows.jsonl"
    made = [
        {"prompt": f"{i} + 100?", "total": i + 100, "completion": NASTY.get(i, f"It is {i + 100 - (i % 3 == 0)}.")}
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return "rows.jsonl"


def table(text):
    """The cells of the first table by its header."""
    header, *lines = text.split("\n\n")[0].splitlines()
    names = [name for name in header.replace("ms each", "ms_each").split()]
    return [dict(zip(names, line.split(), strict=False)) for line in lines]


# ---------------------------------------------------------------------------------------------- score
def test_table(cli, rows):
    result = cli("score", "toy-sums", "toy-tone", "--data", rows, *PLUGIN)
    assert (result.code, result.err) == (0, "")
    sums, tone = table(result.out)
    assert (sums["reward"], sums["completions"], sums["mean"], sums["abstained"]) == ("toy-sums", "12", "0.500", "0%")
    assert (tone["reward"], tone["max"]) == ("toy-tone", "0.000")
    assert "toy-sums, toy-tone  12" in result.out


@pytest.mark.parametrize(
    ("fault", "state", "where", "why"),
    [
        ("hangs", "timeout", "row 4", "no score within 1 s"),
        ("dies", "infrastructure", "row 6", "its process ended with status 3"),
        ("raises", "error", "row 6", "UnicodeEncodeError"),
        ("abstains on nothing", "abstained", "", ""),
    ],
)
def test_failures_are_counted_and_stop_nothing(cli, rows, fault, state, where, why):
    result = cli("score", SUMS % fault, "toy-tone", "--data", rows, *PLUGIN)
    assert (result.code, result.err) == (0, "")
    assert table(result.out)[0][state] == "8%"
    assert table(result.out)[1][state] == "0%"
    told = [line for line in result.out.splitlines() if line.startswith(f"toy-sums: {state}")]
    assert [line for line in told if f"on 1 completion at {rows}, {where}: {why}" in line] == told
    assert len(told) == (state != "abstained")


def test_json_has_every_score_and_state(cli, rows):
    result = cli("score", SUMS % "hangs", "toy-sums", "--data", rows, "--json", *PLUGIN)
    found = json.loads(result.out)
    first, second = found["rewards"]
    assert (found["schema"], first["reward"], second["reward"]) == (1, "toy-sums", "toy-sums-2")
    assert first["timeout"] == 1 and first["states"][3] == "timeout" and first["scores"][3] is None
    assert first["whys"] == {"3": "no score within 1 s"}
    assert second["mean"] == pytest.approx(sum(second["scores"]) / 12)
    assert found["where"][3] == f"{rows}, row 4"
    [agreement] = found["agreement"]
    assert agreement["both"] == 11 and agreement["equal"] < 1


def test_pairs_say_how_often_the_better_answer_wins(cli, tmp_path):
    made = [
        {"prompt": "1 + 100?", "total": 101, "chosen": "It is 101.", "rejected": "It is 99."},
        {"prompt": "2 + 100?", "total": 102, "chosen": "It is 100, please.", "rejected": "It is 102."},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    result = cli("score", "toy-sums", "toy-tone", "--data", "pairs.jsonl", *PLUGIN)
    assert "toy-sums  2      50%                     0%" in result.out
    assert "toy-tone  2      50%                     50%" in result.out
    found = json.loads(cli("score", "toy-sums", "--data", "pairs.jsonl", "--json", *PLUGIN).out)
    assert found["preferences"] == {"toy-sums": {"pairs": 2, "right": 0.5, "ties": 0.0}}


def test_samples_of_a_run_are_judged_anew(cli, tmp_path):
    (tmp_path / "run").mkdir()
    sample = {"step": 1, "prompt": "1 + 100?", "columns": {"total": 101}, "reward": 1.0, "length": 4, "stop": "eos"}
    made = [
        {**sample, "completion": "101", "rewards": {"toy-sums": 1.0}},
        {**sample, "completion": "102", "rewards": {"toy-sums": 1.0}},
        {**sample, "completion": "103", "rewards": {"toy-sums": None}},
    ]
    (tmp_path / "run" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    result = cli("score", "toy-sums", "--data", "run", *PLUGIN)
    told = "toy-sums: 1 of 2 scores are those that the run recorded; another one first at run/samples.jsonl, row 2"
    assert result.code == 0 and told in result.out


def test_examples_are_shown_with_their_control_characters_written_out(cli, rows):
    result = cli("score", "toy-sums", "--data", rows, "--worst", 5, "--best", 1, *PLUGIN)
    worst, best = result.out.partition("least reward\n")[2].split("most reward\n")
    assert worst.count("toy-sums 0.000") == 5 and best.count("toy-sums 1.000") == 1
    assert "\x1b" not in result.out and "\\x1b[31mIt is red" in worst
    assert "answer  It is 101." in best


def test_a_function_in_a_file_is_a_reward(cli, rows, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def short(completion, *, limit: int = 20):\n    return len(completion) <= limit\n"
    )
    result = cli("score", "mine.py:short", '{name: "mine.py:short", limit: 4}', "--data", rows)
    assert [(row["reward"], row["mean"]) for row in table(result.out)] == [("short", "0.833"), ("short-2", "0.083")]


def test_what_a_reward_says_of_a_failure_is_printed_safely(cli, rows, tmp_path):
    (tmp_path / "mine.py").write_text("def picky(completion):\n    raise ValueError(completion)\n")
    words = ("score", "mine.py:picky", "--data", rows)
    result, found = cli(*words), json.loads(cli(*words, "--json").out)
    assert (result.code, found["rewards"][0]["error"]) == (6, 12)
    assert found["rewards"][0]["whys"]["5"] == "ValueError: It is \\ud800"
    assert found["rewards"][0]["whys"]["7"].startswith("ValueError: \\x1b[31m")


def test_a_reward_that_judges_nothing_has_the_exit_code_of_rewards(cli, rows):
    result = cli("score", "toy-elsewhere", "toy-tone", "--data", rows, *PLUGIN)
    assert result.code == 6
    assert result.err == "no completion could be judged by: toy-elsewhere\n"
    assert "infrastructure on 12 completions, first at rows.jsonl, row 1: nobody answers on port 9" in result.out
    assert table(result.out)[1]["mean"] == "0.000"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["toy-sums"], 2, "the option --data is missing"),
        (["--data", "rows.jsonl"], 2, "the argument REWARD... is missing"),
        (["toy-sum", "--data", "rows.jsonl"], 2, "there is no reward 'toy-sum'; did you mean 'toy-sums'?"),
        (["{name: toy-sums, fualt: x}", "--data", "rows.jsonl"], 2, "unknown setting 'fualt'; did you mean 'fault'?"),
        (["{name: toy-sums", "--data", "rows.jsonl"], 2, "'{name: toy-sums' is not valid YAML"),
        (["toy-absent", "--data", "rows.jsonl"], 4, "the toy box is not installed"),
        (["toy-sums", "--data", "row.jsonl"], 2, "no source knows what 'row.jsonl' is; did you mean 'rows.jsonl'?"),
        (["toy-sums", "--data", "rows.jsonl", "--map", "total=sum"], 2, "there is no column 'sum' to use as 'total'"),
        (["toy-sums", "--data", "rows.jsonl", "--map", "x"], 2, "--map 'x': write NAME=YOURS"),
        (["toy-sums", "--data", "rows.jsonl", "--format", "txt"], 2, "there is no format 'txt'; did you mean 'text'?"),
        (["toy-sums", "--data", "none.jsonl"], 3, "none has no rows"),
        (["toy-sums", "--data", "texts.jsonl"], 3, "a row cannot be judged"),
        (["toy-sums", "--data", "totals.jsonl"], 2, "the reward 'toy-sums' needs the column 'total'"),
        (["toy-sums", "--data", "rows.jsonl", "--limit", "0"], 2, "0 is not in the range x>=1"),
    ],
)
def test_mistakes_of_score(cli, rows, tmp_path, words, code, message):
    (tmp_path / "none.jsonl").touch()
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "totals.jsonl").write_text('{"prompt": "a", "completion": "b", "totals": 4}\n')
    result = cli("score", *words, *PLUGIN)
    assert (result.code, result.out) == (code, "")
    assert message in result.err and result.err.startswith("error: ")


# ---------------------------------------------------------------------------------------------- check
def test_check_prints_a_line_per_check(cli):
    result = cli("check", "reward", "toy-sums", *PLUGIN)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("toy-sums  reward\n  ok       declaration  ")
    assert result.out.endswith(" ok\n") and "failed" not in result.out and "skipped" not in result.out


def test_names_of_checks_fit_their_column(cli):
    lines = cli("check", "reward", "toy-sums", *PLUGIN).out.splitlines()[1:-1]
    assert all(line[: NAME_WIDTH + 13].endswith("  ") and line[NAME_WIDTH + 13] != " " for line in lines)


def test_a_failed_check_is_told_by_the_exit_code(cli):
    result = cli("check", "rewards", "toy-sums", "--set", "fault=nothing is right", "--json", *PLUGIN)
    found = json.loads(result.out)
    assert (result.code, found["ok"], found["kind"], found["name"]) == (3, False, "reward", "toy-sums")
    [failed] = [one for one in found["checks"] if one["state"] == "failed"]
    assert failed["check"] == "null policy: empty" and "1 for ''" in failed["seen"]


@pytest.mark.parametrize("name", ["toy-absent", "toy-elsewhere"])
def test_what_could_not_be_checked_at_all_has_an_exit_code_of_its_own(cli, name):
    result = cli("check", "reward", name, *PLUGIN)
    assert result.code == 4 and result.err == f"{name} was not checked: it could judge nothing\n"


def test_check_takes_rows_and_functions(cli, rows, tmp_path):
    made = [{"prompt": f"{i}?", "completion": f"It is {i + 400}.", "sum": i + 400} for i in range(3)]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    result = cli("check", "reward", "toy-sums", "--data", "gold.jsonl", "--map", "total=sum", *PLUGIN)
    assert result.code == 0 and "3 answers: 1 each" in result.out
    result = cli("check", "reward", "toy-sums", "--data", rows, "--set", "timeout=5", *PLUGIN)
    assert result.code == 3 and "row 1: 0 and not 1 for 'It is 99.'" in result.out
    (tmp_path / "mine.py").write_text(
        'def short(completion, *, limit: int = 20):\n    """Short.\n\n    Args:\n        limit: characters.\n    """\n'
        "    return len(completion) / limit\n"
    )
    result = cli("check", "mine.py:short", "--set", "limit=4")
    assert result.code == 0 and "importing mine.py loads nothing heavy" in result.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["reward"], 2, "the argument NAME is missing"),
        (["rewrad", "toy-sums"], 2, "there is no kind of component 'rewrad'; did you mean 'reward'?"),
        ([], 2, "the argument NAME is missing\n  fix   tunesmith check NAME"),
        (["no-such-thing"], 2, "there is no component 'no-such-thing'"),
        (["toy-sum"], 2, "there is no component 'toy-sum'; did you mean 'toy-sums'?"),
        (["reward", "toy-sums", "more"], 2, "one component at a time"),
        (["--all", "reward", "toy-sums"], 2, "--all takes a kind or nothing"),
        (["--all", "--set", "a=1"], 2, "--set belongs to one component"),
        (["scheduler", "cosine", "--data", "texts.jsonl"], 2, "a scheduler is checked without rows"),
        (["reward", "toy-sum"], 2, "there is no reward 'toy-sum'; did you mean 'toy-sums'?"),
        (["reward", "toy-sums", "--set", "fault"], 2, "--set 'fault': write KEY=VALUE"),
        (["reward", "toy-sums", "--set", "fualt=x"], 2, "unknown setting 'fualt'; did you mean 'fault'?"),
        (["reward", "toy-sums", "--set", "timeout=0"], 2, "timeout should be greater than 0"),
        (["reward", "toy-marked"], 2, "cannot be checked without mark\n  fix   add --set mark=..."),
        (["reward", "toy-sums", "--data", "gone.jsonl"], 2, "no source knows what 'gone.jsonl' is"),
        (["reward", "toy-sums", "--data", "texts.jsonl"], 3, "row 1 lacks total"),
        (["reward", "mine.py:gone"], 2, "there is no file"),
    ],
)
def test_mistakes_of_check(cli, tmp_path, words, code, message):
    (tmp_path / "texts.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    result = cli("check", *words, *PLUGIN)
    assert (result.code, result.out) == (code, "")
    assert message in result.err and result.err.startswith("error: ")


# ---------------------------------------------------------------------------------------------- list, show
def test_a_function_in_a_file_is_shown_like_any_reward(cli, tmp_path):
    (tmp_path / "mine.py").write_text('def short(completion, answer, *, limit: int = 4):\n    """Is it short?"""\n')
    out = cli("show", "mine.py:short").out
    assert out.startswith("short  reward, from mine.py\n  Is it short?\n")
    assert "  columns   answer\n" in out and "  limit  integer  [default 4]" in out
    assert json.loads(cli("show", "mine.py:short", "--json").out)["selector"] == "mine.py:short"
    assert "mine.py has no 'shrt'; did you mean 'short'?" in cli("show", "mine.py:shrt").err


def test_rewards_are_shown_with_what_they_need(cli):
    out = cli("show", "toy-sums", *PLUGIN).out
    assert "  columns   total\n" in out
    assert "  scores    tells right answers from wrong ones, 1 is the best score\n" in out
    assert '  example   {"prompt": "What is 120 + 3?", "total": 123, "completion": "It is 123."}\n' in out
    assert out.index("  fault  text") < out.index("  weight  number")
    assert "  columns   none beside the prompt\n" in cli("show", "reward/toy-tone", *PLUGIN).out
    assert "  columns   decided by its settings\n" in cli("show", "reward-model").out
    facts = json.loads(cli("show", "toy-sums", "--json", *PLUGIN).out)
    assert (facts["columns"], facts["verifies"], facts["best"], facts["isolated"]) == (["total"], True, 1.0, True)
    assert facts["example"]["total"] == 123
