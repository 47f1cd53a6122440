"""``tunesmith data convert``, and what ``data check`` and ``data show`` say of judged answers."""

import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.cli.main import main

PLUGINS = [str(Path(__file__).with_name(name)) for name in ("data_plugin.py", "judged_plugin.py")]
ALONE = ["--plugin", PLUGINS[0], "--plugin", PLUGINS[1], "--no-plugin", "tunesmith"]
UP, DOWN = "\U0001f44d", "\U0001f44e"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """``write(*rows)``: a JSONL file in the current folder; a row that is a string is written as it is."""
    monkeypatch.chdir(tmp_path)

    def lines(*rows, name="rows.jsonl"):
        Path(name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
        return name

    return lines


@pytest.fixture
def data(capsys, monkeypatch):
    """``data("convert", ...)``: exit code, stdout, stderr; with the plugins of these tests only, or the built-ins."""
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(command, *args, built_ins=False):
        code = main(["data", command, *map(str, args), *([] if built_ins else ALONE)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def convert(data):
    """``convert(file, format, ...)``: the rows that the built-in formats write, and the account."""

    def run(file, to, *args, expect=0):
        code, out, err = data("convert", file, "--to", to, "--out", "-", *args, built_ins=True)
        assert code == expect, err
        return [json.loads(line) for line in out.splitlines()], err

    return run


def pair(q="q", good="yes", bad="no"):
    return {"q": q, "good": good, "bad": bad}


def thumb(ok, q="q", a="yes"):
    return {"q": q, "a": a, "ok": ok}


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def said(role, content):
    return {"role": role, "content": content}


# ---------------------------------------------------------------------------------------------- the mechanism
def test_every_row_is_in_the_account(write, data):
    source = write(
        thumb("yes"), thumb(False, a="no"), thumb("yes", q="r"), "{", thumb("yes", a="also"), thumb("yes", a="")
    )
    code, out, err = data("convert", source, "--to", "toy-pairs", "--out", "out.jsonl", "--on-bad-row", "skip")
    assert (code, err) == (0, "")
    assert rows_of("out.jsonl") == [pair()]
    assert out.splitlines() == [
        "rows: 6 rows of toy-thumbs (2 converted, 2 left over, 2 bad) -> 1 rows of toy-pairs",
        "  2 words are lost",
        "  2 rows have no partner",
        "  1 bad: not valid JSON: Expecting property name enclosed in double quotes (row 4)",
        "  1 bad: the completion is empty (row 6)",
    ]


def test_skipped_rows_and_columns_that_are_lost_are_said(write, data):
    source = write(pair() | {"id": 1}, pair("SKIP"), pair("r") | {"id": 2, "when": "now"})
    code, out, _ = data("convert", source, "--to", "toy-thumbs", "--out", "out.jsonl")
    assert code == 0 and len(rows_of("out.jsonl")) == 4
    assert "3 rows of toy-pairs (2 converted, 1 skipped) -> 4 rows of toy-thumbs" in out
    assert "columns that are not carried over: id, when" in out


def test_the_rows_go_to_standard_output_and_the_account_to_standard_error(write, data):
    code, out, err = data("convert", write(pair()), "--to", "toy-thumbs", "--out", "-")
    assert code == 0 and [json.loads(line) for line in out.splitlines()] == [thumb(True), thumb(False, a="no")]
    assert err.startswith("rows: 1 rows of toy-pairs (1 converted) -> 2 rows of toy-thumbs")


def test_bad_rows_stop_it_and_nothing_is_written(write, data):
    source = write(pair(), pair(good=""), pair(good="no"))
    for out in ("out.jsonl", "-"):
        code, printed, err = data("convert", source, "--to", "toy-thumbs", "--out", out)
        assert (code, printed) == (3, "")
        assert "2 of 3 rows of rows cannot be converted" in err and "where rows.jsonl, row 2" in err
        assert "chosen and rejected say the same, so neither can be preferred (row 3)" in err
    assert os.listdir() == ["rows.jsonl"]


def test_no_row_at_all_is_an_error_that_says_where_they_went(write, data):
    code, _, err = data("convert", write(thumb("yes"), thumb("yes", q="r")), "--to", "toy-pairs", "--out", "out.jsonl")
    assert code == 3 and "nothing of rows could be converted" in err
    assert "2 left over" in err and "2 rows have no partner" in err
    assert os.listdir() == ["rows.jsonl"]


def test_an_existing_file_is_replaced_only_when_asked(write, data):
    source = write(pair())
    Path("out.jsonl").write_text("mine")
    code, _, err = data("convert", source, "--to", "toy-thumbs", "--out", "out.jsonl")
    assert code == 2 and "--out out.jsonl: the file exists" in err and "--overwrite" in err
    assert Path("out.jsonl").read_text() == "mine"
    bad = write(pair(good=""), name="bad.jsonl")
    assert data("convert", bad, "--to", "toy-thumbs", "--out", "out.jsonl", "--overwrite")[0] == 3
    assert Path("out.jsonl").read_text() == "mine"
    assert data("convert", source, "--to", "toy-thumbs", "--out", "out.jsonl", "--overwrite")[0] == 0
    assert len(rows_of("out.jsonl")) == 2
    assert data("convert", source, "--to", "toy-pairs", "--out", source, "--overwrite")[0] == 0  # onto itself
    assert rows_of(source) == [pair()]


def test_the_new_file_has_the_rights_of_any_new_file(write, data):
    data("convert", write(pair()), "--to", "toy-thumbs", "--out", "out.jsonl")
    Path("other").touch()
    assert stat.S_IMODE(os.stat("out.jsonl").st_mode) == stat.S_IMODE(os.stat("other").st_mode)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "toy-thumbs", "--out", "out.csv"], "rows are written as JSON lines"),
        (["--to", "toy-thumbs", "--out", "nowhere/out.jsonl"], "there is no folder nowhere"),
        (["--to", "toy-ranks", "--out", "o.jsonl"], "the format 'toy-ranks' is only read, not written"),
        (["--to", "toy-thumb", "--out", "o.jsonl"], "did you mean 'toy-thumbs'?"),
        (["--to", "toy-thumbs", "--out", "o.jsonl", "--swap"], "--swap"),
        (["--to", "toy-pairs", "--out", "o.jsonl", "--swap"], "--swap has no effect here"),
        (["--to", "toy-thumbs", "--out", "o.jsonl", "--map", "x"], "--map 'x': write NAME=YOURS"),
    ],
)
def test_a_wrong_command_line_is_refused_and_writes_nothing(write, data, args, message):
    code, _, err = data("convert", write(pair()), *args)
    assert code == 2 and message in err
    assert os.listdir() == ["rows.jsonl"]


def test_rows_that_cannot_become_the_format_are_refused_with_those_that_can(write, data):
    source = write({"q": "q", "answers": ["a", "b"], "scores": [1, 2]})
    code, _, err = data("convert", source, "--to", "toy-thumbs", "--out", "out.jsonl")
    assert code == 2 and "rows of the format 'toy-ranks' cannot become rows of 'toy-thumbs'" in err
    assert "formats that can: toy-pairs, toy-thumbs" in err


def test_settings_of_the_formats_and_of_the_converter_are_flags(write, data):
    source = write(thumb("aye"), thumb("nay", a="no"))
    args = ["convert", source, "--to", "toy-pairs", "--out", "-", "--good-word", "aye"]
    assert json.loads(data(*args)[1]) == pair()
    assert json.loads(data(*args, "--swap")[1]) == pair(good="no", bad="yes")
    code, out, _ = data("convert", "--to", "toy-pairs", "--help")
    assert code == 0 and "--good-word" in out and "--swap / --no-swap" in out
    assert "--swap" not in data("convert", "--help")[1]


def test_columns_are_renamed_and_rows_limited(write, data):
    source = write({"ask": "q", "good": "yes", "bad": "no"}, {"ask": "r", "good": "yes", "bad": "no"})
    code, out, _ = data("convert", source, "--to", "toy-pairs", "--out", "-", "--map", "q=ask", "--limit", 1)
    assert code == 0 and json.loads(out) == pair()


def test_a_converter_that_forgets_a_row_is_found_out(write, data):
    code, _, err = data("convert", write(pair(), pair("LOSE")), "--to", "toy-thumbs", "--out", "out.jsonl")
    assert code == 1 and "Split did not say what became of row 2" in err
    assert os.listdir() == ["rows.jsonl"]


def test_a_row_that_would_be_wrong_in_the_new_format_is_not_written_but_counted(write, data):
    source = write(thumb("yes"), thumb(False, a="yes"), thumb("yes", q="r"), thumb(False, q="r", a="no"))
    code, out, _ = data("convert", source, "--to", "toy-pairs", "--out", "out.jsonl")
    assert code == 0 and rows_of("out.jsonl") == [pair("r")]
    assert "(2 converted, 2 left over)" in out
    assert "1 would not be rows of toy-pairs: chosen and rejected say the same" in out


def test_standard_input_is_read_once(write):
    rows = "".join(json.dumps({"prompt": f"p{i}", "chosen": "c", "rejected": "r"}) + "\n" for i in range(150))
    command = [sys.executable, "-m", "tunesmith", "data", "convert", "-", "--to", "unpaired", "--out", "-"]
    done = subprocess.run(command, input=rows, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 300


# ---------------------------------------------------------------------------------------------- the built-in formats
LABELS = ["up", "DOWN", "thumbs up", "1", 0, 1.0, "true", False, "yes", "No", UP, DOWN + "\U0001f3fd"]
MEANT = [True, False, True, True, False, True, True, False, True, False, True, False]


def test_logs_of_thumbs_become_real_booleans(write, convert):
    given = [{"prompt": "p", "completion": f"c{i}", "label": label} for i, label in enumerate(LABELS)]
    rows, _ = convert(write(*given), "unpaired")
    assert [row["label"] for row in rows] == MEANT
    assert [row["completion"] for row in rows] == [row["completion"] for row in given]


def test_own_words_for_labels_win(write, convert):
    source = write(*({"prompt": "p", "completion": "c", "label": label} for label in ("0", "good", "1")))
    rows, _ = convert(source, "unpaired", "--label-true", "good,0", "--label-false", "1")
    assert [row["label"] for row in rows] == [True, True, False]
    _, err = convert(source, "unpaired", "--label-true", "up", expect=3)
    assert "is 'good', which is none of the labels" in err


def test_a_pair_becomes_two_answers_and_they_become_the_pair_again(write, convert):
    chat = {"prompt": [said("user", "q")], "chosen": [said("assistant", "a")], "rejected": [said("assistant", "b")]}
    given = [{"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2}, chat]
    rows, err = convert(write(*given), "unpaired")
    assert [row["label"] for row in rows] == [True, False, True, False] and "1 margins are left out" in err
    assert rows[2] == {"prompt": chat["prompt"], "completion": chat["chosen"], "label": True}
    again, err = convert(write(*rows), "preference")
    assert again == [{key: given[0][key] for key in ("prompt", "chosen", "rejected")}, chat]
    assert "(4 converted)" in err


def test_answers_without_a_partner_are_reported(write, convert):
    kinds = [("p", "a", 1), ("p", "b", 0), ("p", "c", 0), ("q", "a", 1), ("r", "a", 0), ("r", "b", 0)]
    source = write(*({"prompt": p, "completion": c, "label": bool(label)} for p, c, label in kinds))
    rows, err = convert(source, "preference")
    assert rows == [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    assert "6 rows of unpaired (2 converted, 4 left over) -> 1 rows of preference" in err
    assert "1 rows have no more good answer" in err and "1 rows have no bad answer" in err
    assert "2 rows have no good answer to the same prompt" in err
    rows, err = convert(source, "preference", "--pairs", "all")
    assert [row["rejected"] for row in rows] == ["b", "c"] and "(3 converted, 3 left over)" in err


def test_a_ranking_gives_its_best_and_worst_or_all_pairs(write, convert):
    source = write({"prompt": "p", "completions": ["a", "b", "c", "d"], "scores": [1, 3, 3, -2]})
    rows, err = convert(source, "preference")
    assert rows == [{"prompt": "p", "chosen": "b", "rejected": "d"}]
    assert "2 answers between the best and the worst are left out" in err
    rows, err = convert(source, "preference", "--pairs", "all", "--margins")
    found = {(row["chosen"], row["rejected"]): row["margin"] for row in rows}
    assert found == {("b", "a"): 2, ("c", "a"): 2, ("b", "d"): 5, ("c", "d"): 5, ("a", "d"): 3}
    assert "1 pairs of equal scores are left out" in err


def test_instructions_and_dialogues_become_messages(write, convert):
    chat = [said("user", "q"), said("assistant", " a")]
    given = [
        ({"instruction": "q", "output": " a", "system": "s"}, [said("system", "s"), *chat]),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": " a"}]}, chat),
        ({"prompt": "q", "completion": " a"}, chat),
        ({"prompt": [chat[0]], "completion": [chat[1]]}, chat),
    ]
    for row, expected in given:
        rows, _ = convert(write(row), "messages")
        assert rows == [{"messages": expected}]


def test_text_of_every_script_is_written_as_it_is(write, data):
    text = "\u0645\u0631\u062d\u0628\u0627 \U0001f600 e\u0301 \u2028 \t"
    source = write({"prompt": text, "chosen": text + "!", "rejected": "no"})
    assert data("convert", source, "--to", "preference", "--out", "out.jsonl", built_ins=True)[0] == 0
    [line] = Path("out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line)["prompt"] == text and "\U0001f600" in line


@pytest.mark.parametrize("seed", range(5))
def test_no_row_is_lost_whatever_the_labels(write, convert, seed):
    random.seed(seed)
    given = [
        {"prompt": random.choice("pqr"), "completion": random.choice("abcd"), "label": random.random() < 0.5}
        for _ in range(30)
    ]
    rows, err = convert(write(*given), "preference", "--pairs", random.choice(["one", "all"]), expect=0)
    counts = dict(reversed(part.split(" ", 1)) for part in err.split("(")[1].split(")")[0].split(", "))
    assert sum(map(int, counts.values())) == 30
    judged = {(row["prompt"], row["completion"], row["label"]) for row in given}
    for row in rows:
        assert {(row["prompt"], row["chosen"], True), (row["prompt"], row["rejected"], False)} <= judged


# ---------------------------------------------------------------------------------------------- check and show
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tokenizer only."""
    from tunesmith.data.encoding import train_tokenizer

    folder = tmp_path_factory.mktemp("model")
    train_tokenizer(["the quick brown fox says one two three four"] * 3, 300).save_pretrained(folder)
    return str(folder)


def answers(data, *args):
    code, out, _ = data("check", *args, "--json")
    [source] = json.loads(out)["sources"]
    return code, source["answers"]


def test_check_says_how_labels_are_balanced_and_where_they_contradict_each_other(write, data):
    rows = [thumb(True), thumb(True, a="a"), thumb(True, a="b"), thumb(False, a="c")]
    code, out, _ = data("check", write(*rows))
    assert code == 0 and "3 true, 1 false (75% true)" in out and "no problems" in out
    code, out, _ = data("check", write(*rows[:3]))
    assert code == 0 and "3 true, 0 false (100% true): there is only one class" in out
    both = [*rows, thumb(False), thumb(False), thumb(False, q="r")]
    code, out, _ = data("check", write(*both))
    assert code == 3 and "1 answers have both labels" in out and "no problems" not in out
    assert answers(data, "rows.jsonl")[1] | {"good": 3, "bad": 4, "conflicts": 1} == answers(data, "rows.jsonl")[1]


def test_check_finds_pairs_that_are_identical_or_stand_in_both_orders(write, data):
    code, out, _ = data(
        "check", write(pair(), pair(good="a", bad="b"), pair(good="b", bad="a"), pair(good="x", bad="x"))
    )
    assert code == 3
    assert "1 rows have the same answer as better and as worse" in out and "1 pairs stand in both orders" in out
    ranks = [
        {"q": "q", "answers": ["a", "b", "c"], "scores": [3, 2, 1]},
        {"q": "q", "answers": ["c", "a"], "scores": [2, 1]},
    ]
    assert answers(data, write(*ranks))[1]["conflicts"] == 1
    other = [ranks[0], ranks[1] | {"q": "r"}]
    code, found = answers(data, write(*other))
    assert code == 0 and found["conflicts"] == 0


def test_check_says_how_often_the_better_answer_is_the_longer_one(write, data, model):
    rows = [pair(good="yes yes yes"), pair("r", good="yes yes"), pair("s", good="n", bad="yes"), pair("t", "ab", "cd")]
    code, out, _ = data("check", write(*rows))
    assert code == 0 and "answer is longer in 50% of 4 rows, shorter in 25%" in out
    source = write(pair(good=" the fox", bad="zzzzzz"))  # more characters, fewer tokens
    for args, expected in (([], (1, 1, 0)), (["--model", model], (1, 0, 1))):
        found = answers(data, source, *args)[1]
        assert (found["compared"], found["longer"], found["shorter"]) == expected
    assert answers(data, write({"text": "a"}))[1] is None


@pytest.mark.parametrize(("overlong", "code"), [("error", 3), ("drop", 0), ("truncate", 3)])
def test_check_counts_long_pairs_that_cutting_would_make_the_same(write, data, model, overlong, code):
    same = " the quick brown fox" * 5
    source = write(pair(), pair("r", same + " one", same + " two"), pair("s", " one" + same, " two" + same))
    args = [source, "--model", model, "--method", "toy-judge", "--max-length", 12, "--set", f"overlong={overlong}"]
    found_code, out, _ = data("check", *args)
    assert found_code == code and "1 long rows would lose the part in which their answers differ" in out
    assert "longer than 12: 2" in out
    if overlong == "truncate":
        assert "cutting the ends of its answers would remove the part in which they differ" in out
        assert "1 of 3 rows are bad" in out


def test_show_prints_the_prompt_once_and_each_answer_by_itself(write, data, model):
    source = write(pair("the fox", " one", " two three"), pair("the", " one" * 9 + " two", " one" * 9))
    code, out, _ = data("show", source, "--model", model, "--method", "toy-judge", "--rows", 1)
    assert code == 0 and out.splitlines()[1:6] == [
        "  | the fox",
        "  answer 1 of 2, value 1",
        "  | [[ one<|endoftext|>]]",
        "  answer 2 of 2, value 0",
        "  | [[ two three<|endoftext|>]]",
    ]
    args = [source, "--model", model, "--method", "toy-judge", "--start", 1, "--max-length", 6]
    code, out, _ = data("show", *args, "--set", "overlong=truncate")
    assert code == 3 and out.count("<<CUT AT 6>>") == 2
    assert "bad row: cutting the ends of its answers would remove the part in which they differ" in out
