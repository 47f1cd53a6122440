"""The formats of judged answers: good rows, whose rows are whose, faults by field, and whole files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith import BadField, ConfigError, DataError, DataFormat, Preference, Ranking, Unpaired, plugins
from tunesmith.config import Layers, resolve
from tunesmith.plugins import Registry
from tunesmith_plugins.formats import tunesmith_register_data_formats

FORMATS: dict[str, type[DataFormat]] = {cls.name: cls for cls in tunesmith_register_data_formats()}
TOYS = Path(__file__).parents[1] / "core" / "judged_plugin.py"
UP, DOWN = "\U0001f44d", "\U0001f44e"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def bot(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


ASKED = [user("q")]
DEEP = [user("q"), bot("a"), user("r")]
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}
CALLED = bot("", tool_calls=[CALL])
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def matching(row: dict[str, Any]) -> list[str]:
    """Those that look like it, the likeliest first."""
    found = [cls for cls in FORMATS.values() if cls.matches(row)]
    return [cls.name for cls in sorted(found, key=lambda cls: (-cls.priority, cls.name))]


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content}


GOOD: list[tuple[str, dict[str, Any], Any]] = [
    ("preference", {"prompt": "p", "chosen": " c", "rejected": "r\n"}, Preference("p", " c", "r\n")),
    ("preference", {"prompt": "p", "chosen": "c", "rejected": "r", "margin": 2}, Preference("p", "c", "r", 2.0)),
    ("preference", {"prompt": "p", "chosen": "c", "rejected": "r", "margin": None}, Preference("p", "c", "r")),
    (
        "preference",
        {"prompt": DEEP, "chosen": [bot("c")], "rejected": [bot("d")], "tools": [TOOL]},
        Preference(DEEP, [bot("c")], [bot("d")], tools=[TOOL]),
    ),
    # the prompt as text before messages, and messages before text
    (
        "preference",
        {"prompt": "q", "chosen": [bot("c")], "rejected": [bot("d")]},
        Preference(ASKED, [bot("c")], [bot("d")]),
    ),
    ("preference", {"prompt": ASKED, "chosen": "c", "rejected": "d"}, Preference(ASKED, [bot("c")], [bot("d")])),
    # implicit prompts
    (
        "preference",
        {"chosen": [*DEEP, bot("c")], "rejected": [*DEEP, bot("d")]},
        Preference(DEEP, [bot("c")], [bot("d")]),
    ),
    (
        "preference",
        {"prompt": None, "chosen": [*ASKED, bot("c")], "rejected": [*ASKED, bot("d")]},
        Preference(ASKED, [bot("c")], [bot("d")]),
    ),
    # as UltraFeedback has it: whole conversations beside the question as text
    (
        "preference",
        {"prompt": "q", "chosen": [*ASKED, bot("c")], "rejected": [*ASKED, bot("d")], "score_chosen": 8.0},
        Preference(ASKED, [bot("c")], [bot("d")]),
    ),
    (
        "preference",
        {"prompt": ASKED, "chosen": [*ASKED, bot("c")], "rejected": [*ASKED, bot("d")]},
        Preference(ASKED, [bot("c")], [bot("d")]),
    ),
    # one conversation goes on where the other ends: the last answer of the shorter one is compared
    (
        "preference",
        {"chosen": [*ASKED, bot("c"), user("r"), bot("d")], "rejected": [*ASKED, bot("c")]},
        Preference(ASKED, [bot("c"), user("r"), bot("d")], [bot("c")]),
    ),
    # tools answered differently: the call before belongs to the answers
    (
        "preference",
        {"chosen": [*ASKED, CALLED, result("1"), bot("c")], "rejected": [*ASKED, CALLED, result("2"), bot("d")]},
        Preference(ASKED, [CALLED, result("1"), bot("c")], [CALLED, result("2"), bot("d")]),
    ),
    ("unpaired", {"prompt": "p", "completion": " c", "label": True}, Unpaired("p", " c", True)),
    ("unpaired", {"prompt": ASKED, "completion": [bot("c")], "label": False}, Unpaired(ASKED, [bot("c")], False)),
    ("unpaired", {"prompt": "q", "completion": [*ASKED, bot("c")], "label": True}, Unpaired(ASKED, [bot("c")], True)),
    (
        "ranking",
        {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 2.5, 1]},
        Ranking("p", ["a", "b", "c"], [1.0, 2.5, 1.0]),
    ),
    (
        "ranking",
        {"prompt": ASKED, "completions": [[bot("a")], [bot("b")]], "scores": [0, -1], "tools": [TOOL]},
        Ranking(ASKED, [[bot("a")], [bot("b")]], [0.0, -1.0], [TOOL]),
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), GOOD)
def test_a_good_row_becomes_its_example_and_only_its_format_matches_it(
    name: str, row: dict[str, Any], expected: Any
) -> None:
    assert FORMATS[name]()(row) == expected
    for extra in ({}, {"id": 7, "source": "x", "score": None}):
        assert [found for found in matching({**row, **extra}) if found != "prompt"] == [name]


@pytest.mark.parametrize(("name", "row", "expected"), GOOD)
def test_a_format_reads_back_what_it_writes(name: str, row: dict[str, Any], expected: Any) -> None:
    written = FORMATS[name]().to_row(expected)
    assert set(written) <= {*FORMATS[name].columns, *FORMATS[name].optional_columns}
    assert FORMATS[name]()(json.loads(json.dumps(written))) == expected


@pytest.mark.parametrize("completion", ["c", [bot("c")]])
@pytest.mark.parametrize("label", [True, False, 1, 0, 1.0, "up", "Yes", " no ", UP, DOWN + "\U0001f3fd"])
def test_a_row_that_calls_its_answer_good_or_bad_is_no_demonstration(label: Any, completion: Any) -> None:
    row = {"prompt": "p", "completion": completion, "label": label}
    assert matching(row) == ["unpaired", "prompt"]


@pytest.mark.parametrize("label", [None, "maths", 7, -1, ["x"]])
def test_any_other_label_leaves_a_demonstration_what_it_is(label: Any) -> None:
    row = {"prompt": "p", "completion": "c", "label": label}
    assert matching(row) == ["prompt-completion", "unpaired", "prompt"]


PAIR = {"prompt": "p", "chosen": "c", "rejected": "r"}
THUMB = {"prompt": "p", "completion": "c", "label": True}
RANKS = {"prompt": "p", "completions": ["a", "b"], "scores": [1, 2]}
FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("preference", {"prompt": "p", "chosen": "c"}, "rejected", "is missing; the row has: prompt, chosen"),
    ("preference", PAIR | {"chosen": ""}, "chosen", "is empty"),
    ("preference", PAIR | {"rejected": None}, "rejected", "is null, neither text nor a list of messages"),
    ("preference", PAIR | {"rejected": {"a": 1}}, "rejected", "is an object, neither text nor a list of messages"),
    ("preference", PAIR | {"prompt": 5}, "prompt", "is a number (5), neither text"),
    ("preference", PAIR | {"prompt": " "}, "prompt", "is blank"),
    ("preference", PAIR | {"chosen": [bot("c")]}, "chosen", "chosen is messages, rejected is text"),
    ("preference", PAIR | {"chosen": [bot("")], "rejected": [bot("r")]}, "chosen[0].content", "is empty"),
    ("preference", PAIR | {"margin": "big"}, "margin", "is text, not a number"),
    ("preference", PAIR | {"margin": True}, "margin", "is true, not a number"),
    ("preference", PAIR | {"margin": -1}, "margin", "is -1; it says by how much chosen is better"),
    ("preference", PAIR | {"margin": float("nan")}, "margin", "is nan, not a finite number"),
    ("preference", {"chosen": "p c", "rejected": "p r"}, "prompt", "is missing (the row has: chosen, rejected)"),
    ("preference", {"chosen": [bot("c")], "rejected": [bot("r")]}, "chosen", "there is no prompt in common"),
    ("preference", {"chosen": [bot("c")], "rejected": [bot("c")]}, "prompt", "chosen has no message before the answer"),
    (
        "preference",
        {"chosen": [user("q"), bot("c")], "rejected": [user("r"), bot("d")]},
        "chosen",
        "begins with another message than rejected",
    ),
    (
        "preference",
        {"chosen": [*ASKED, bot("a"), user("x"), bot("c")], "rejected": [*ASKED, bot("a"), user("y"), bot("d")]},
        "chosen[2].role",
        "is 'user'; an answer begins with 'assistant'",
    ),
    (
        "preference",
        {"prompt": ASKED, "chosen": [bot("a"), user("x")], "rejected": [bot("b")]},
        "chosen[1].role",
        "is 'user'; an answer ends with 'assistant'",
    ),
    (
        "preference",
        {"prompt": [user("other")], "chosen": [*ASKED, bot("a")], "rejected": [*ASKED, bot("b")]},
        "chosen",
        "begins with 'user'; it must be the answer alone, or repeat prompt word for word",
    ),
    ("preference", {"prompt": ASKED, "chosen": ASKED, "rejected": [*ASKED, bot("b")]}, "chosen", "no answer after it"),
    (
        "preference",
        {"prompt": "other", "chosen": [*ASKED, bot("a")], "rejected": [*ASKED, bot("b")]},
        "prompt",
        "is not among the messages that the answers begin with",
    ),
    (
        "preference",
        {"prompt": ASKED, "chosen": [bot("a", weight=0)], "rejected": [bot("b")]},
        "chosen[0].weight",
        "an answer is judged as a whole",
    ),
    ("unpaired", THUMB | {"prompt": None}, "prompt", "is null"),
    ("unpaired", {"prompt": "p", "completion": "c"}, "label", "is missing"),
    ("unpaired", THUMB | {"completion": "  "}, "completion", "is blank"),
    ("unpaired", THUMB | {"completion": ASKED}, "prompt", "completion has no message before the answer"),
    ("unpaired", THUMB | {"label": "true"}, "label", "is 'true', not true or false; `tunesmith data convert"),
    ("unpaired", THUMB | {"label": "yes"}, "label", "is 'yes', not true or false; `tunesmith data convert"),
    ("unpaired", THUMB | {"label": 1}, "label", "is a number (1), not true or false"),
    ("unpaired", THUMB | {"label": None}, "label", "is null, not true or false"),
    ("ranking", RANKS | {"prompt": None}, "prompt", "is null"),
    ("ranking", RANKS | {"completions": "a"}, "completions", "is text, not a list of answers"),
    ("ranking", RANKS | {"completions": ["a", ""]}, "completions[1]", "is empty"),
    ("ranking", RANKS | {"completions": ["a", [bot("b")]]}, "completions[0]", "completions[1] is messages"),
    ("ranking", RANKS | {"scores": [1]}, "scores", "has the length 1, and there are 2 completions"),
    ("ranking", RANKS | {"scores": [2, 2]}, "scores", "are all 2, so no answer is better"),
    ("ranking", RANKS | {"scores": [1, "2"]}, "scores[1]", "is text, not a number"),
    ("ranking", RANKS | {"scores": [1, False]}, "scores[1]", "is false, not a number"),
    ("ranking", RANKS | {"scores": [1, float("inf")]}, "scores[1]", "is inf, not a finite number"),
    ("ranking", {"prompt": "p", "completions": ["a"], "scores": [1]}, "completions", "is a single answer"),
]


@pytest.mark.parametrize(("name", "row", "column", "problem"), FAULTS)
def test_a_fault_names_its_field(name: str, row: dict[str, Any], column: str, problem: str) -> None:
    with pytest.raises(BadField) as caught:
        FORMATS[name]()(row)
    assert caught.value.column == column
    assert problem in caught.value.problem


# ---------------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize(("label", "meaning"), [("Up", True), (1, True), (1.0, True), ("down", False), (0, False)])
def test_other_labels_are_taken_where_the_run_file_says_what_they_mean(label: Any, meaning: bool) -> None:
    said = FORMATS["unpaired"](label_true=("up", "1"), label_false=("down", "0"))
    assert said(THUMB | {"label": label}).label is meaning
    assert said(THUMB | {"label": not meaning}).label is not meaning
    with pytest.raises(BadField, match="is 'maybe', which is none of the labels"):
        said(THUMB | {"label": "maybe"})


def test_a_label_cannot_mean_both() -> None:
    with pytest.raises(ValueError, match="label_true and label_false both have yes"):
        FORMATS["unpaired"](label_true=("yes",), label_false=("YES",))


@pytest.mark.parametrize("word", ["true", "YES", "up", "thumbs_up", "1", 1, UP, UP + "\U0001f3fd"])
def test_a_log_of_thumbs_is_read_for_conversion(word: Any) -> None:
    reader = FORMATS["unpaired"]().for_conversion()
    assert reader(THUMB | {"label": word}).label is True
    with pytest.raises(BadField):
        FORMATS["unpaired"]()(THUMB | {"label": word})
    own = FORMATS["unpaired"](label_false=(str(word),)).for_conversion()
    assert own(THUMB | {"label": word}).label is False


# ---------------------------------------------------------------------------------------------- whole files
@pytest.fixture(scope="module")
def toys() -> Registry:
    return plugins.load(files=[TOYS])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tunesmith.data.encoding import train_tokenizer
    from tunesmith.data.tokenization import chat_template

    found = train_tokenizer(["a question and an answer, yes or no"] * 3, 330)
    found.chat_template = chat_template("tulu", found)
    return found


@pytest.fixture
def load(toys: Registry, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from tunesmith.data.loading import load_data

    monkeypatch.chdir(tmp_path)

    def run(rows: list[Any], method: str = "toy-judge", **flags: Any) -> Any:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        Path("pairs.jsonl").write_text("".join(f"{line}\n" for line in lines))
        layers = Layers(flags={"model": "-", "data": "pairs.jsonl", **flags})
        return load_data(resolve(toys, method, layers), toys, tokenizer, output=tmp_path)

    return run


FINE = {"prompt": "a question", "chosen": " yes", "rejected": " no"}
CORRECT = "correct them (`tunesmith data check` lists them all), or add --on-bad-row skip"
ROW = "1 of 2 rows of pairs cannot be trained on"
FILES: dict[str, tuple[list[Any], str, str, str, str | None, str]] = {
    "broken line": (
        [FINE, '{"prompt": "a" "chosen": "b"}'],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        'not valid JSON: Expecting \',\' delimiter at column 16, near: {{"prompt": "a" "chosen": "b"}} (row 2)',
        CORRECT,
    ),
    "empty answer": (
        [FINE, FINE | {"rejected": ""}],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "field 'rejected' is empty (row 2)",
        CORRECT,
    ),
    "missing answer": (
        [FINE, {"prompt": "a question", "chosen": " yes"}],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "field 'rejected' is missing; the row has: prompt, chosen (row 2)",
        CORRECT,
    ),
    "same answers": (
        [FINE, FINE | {"rejected": " yes"}, FINE | {"chosen": " no"}],
        "toy-judge",
        "2 of 3 rows of pairs cannot be trained on",
        "pairs.jsonl, row 2",
        "chosen and rejected are the same 2 tokens, so neither can be preferred (2 times: row 2, row 3)",
        CORRECT,
    ),
    "no prompt in text": (
        [{"chosen": "a question yes", "rejected": "a question no"}],
        "toy-judge",
        "1 of 1 rows of pairs cannot be trained on",
        "pairs.jsonl, row 1",
        "field 'prompt' is missing (the row has: chosen, rejected); where it ends cannot be told from chosen and "
        "rejected as text: give it in a column of its own, and only the answers in the others (row 1)",
        CORRECT,
    ),
    "different prompts": (
        [
            {"chosen": [user("q"), bot("yes")], "rejected": [user("q"), bot("no")]},
            {"chosen": [user("q"), bot("yes")], "rejected": [user("r"), bot("no")]},
        ],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "field 'chosen' begins with another message than rejected: there is no prompt in common (row 2)",
        CORRECT,
    ),
    "margin": (
        [FINE, FINE | {"margin": -0.5}],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "field 'margin' is -0.5; it says by how much chosen is better, so it is 0 or more (row 2)",
        CORRECT,
    ),
    "too long": (
        [FINE, FINE | {"chosen": " yes" * 80}],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "prompt and longest answer have {tokens} tokens, more than max_length 64 "
        "(raise it, or say --overlong drop or truncate) (row 2)",
        CORRECT,
    ),
    "labels in words": (
        [{"prompt": "p", "completion": "c", "label": True}, {"prompt": "p", "completion": "c", "label": "yes"}],
        "toy-critic",
        ROW,
        "pairs.jsonl, row 2",
        "field 'label' is 'yes', not true or false; `tunesmith data convert ... --to unpaired` makes it one of these "
        "(row 2)",
        CORRECT,
    ),
    "equal scores": (
        [RANKS, RANKS | {"scores": [0.5, 0.5]}],
        "toy-judge",
        ROW,
        "pairs.jsonl, row 2",
        "field 'scores' are all 0.5, so no answer is better than another (row 2)",
        CORRECT,
    ),
    "single answers for a method of pairs": (
        [{"prompt": "p", "completion": "c", "label": True}],
        "toy-judge",
        "the rows of pairs are in the format 'unpaired', which toy-judge does not take",
        "pairs.jsonl, row 1",
        "it gives Unpaired, and toy-judge takes Comparison",
        "methods that take it: {methods}; or `tunesmith data convert ... --to preference`",
    ),
    "other names": (
        [{"question": "q", "choosen": "c", "reject": "r"}],
        "toy-judge",
        "the rows of pairs fit no format that toy-judge takes",
        "pairs.jsonl, row 1",
        None,
        "rename columns with map, such as {{chosen: choosen}}, or name a format",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_wrong_is_refused_with_what_where_and_how_to_correct_it(
    name: str, load: Callable[..., Any], toys: Registry, tokenizer: Any
) -> None:
    from tunesmith.data.detect import methods_for

    rows, method, what, where, why, fix = FILES[name]
    with pytest.raises(DataError) as caught:
        load(rows, method, max_length=64)
    tokens = len(tokenizer("a question")["input_ids"]) + len(tokenizer(" yes" * 80)["input_ids"]) + 1
    error = caught.value
    assert (error.what, error.where) == (what, where)
    assert why is None or error.why == why.format(tokens=tokens)
    assert error.fix == fix.format(methods=", ".join(methods_for(toys, Unpaired)))
    assert len(str(error).splitlines()) <= 8


def test_a_method_of_demonstrations_does_not_imitate_answers_that_are_called_bad(load: Callable[..., Any]) -> None:
    rows = [{"prompt": "p", "completion": "c", "label": False}]
    with pytest.raises(DataError, match="in the format 'unpaired', which sft does not take"):
        load(rows, "sft")
    assert len(load([{**rows[0], "label": "maths"}], "sft").corpora[0]) == 1


def test_label_words_can_be_given_in_a_run_file(load: Callable[..., Any]) -> None:
    rows = [{"prompt": "p", "completion": "c", "label": word} for word in ("up", "down")]
    words = {"name": "unpaired", "label_true": ["up"], "label_false": ["down"]}
    corpus = load(rows, "toy-critic", data={"path": "pairs.jsonl", "format": words}).corpora[0]
    assert [corpus[i].branches[0].value for i in range(2)] == [1.0, 0.0]
    with pytest.raises(ConfigError, match="label_true"):
        load(rows, "toy-critic", data={"path": "pairs.jsonl", "format": {**words, "label_true": 5}})
