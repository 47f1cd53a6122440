"""Which completions the rows of a file hold, and what the rows say of them."""

import json

import pytest

from tunesmith import Completion, ConfigError, Conversation, DataError, Preference
from tunesmith.cli.sources import data_spec
from tunesmith.rollout.completions import candidates, rollouts_of, samples_file


@pytest.fixture
def read(registry, tmp_path):
    """``read(rows, columns, format)``: the candidates in a file with these rows."""

    def run(rows, columns=(), format=None, limit=None):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        return candidates(data_spec(registry, str(path), columns, format), registry, limit)

    return run


def test_a_prompt_and_a_completion_are_taken_as_they_are(read):
    found = read([{"prompt": "", "completion": ""}, {"prompt": "b", "completion": "\x00", "answer": 4, "label": True}])
    assert [(one.rollout.prompt, one.rollout.text) for one in found] == [("", ""), ("b", "\x00")]
    assert [one.value for one in found] == [None, 1.0]
    assert found[1].rollout.columns["answer"] == 4
    assert found[1].where.endswith("rows.jsonl, row 2")


def test_messages_are_taken_as_they_are_too(read):
    turns = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]
    [one] = read([{"prompt": turns[0], "completion": turns[1]}])
    assert (one.rollout.prompt, one.rollout.text) == (turns[0], "a")


def test_several_completions_of_a_row_are_one_group(read):
    found = read([{"prompt": "a", "completions": ["x", "y"], "scores": [1, 1]}, {"prompt": "b", "completions": ["z"]}])
    assert [one.value for one in found] == [1.0, 1.0, None]
    assert [one.group for one in found] == ["a", "a", "b"]


def test_pairs_and_chats_are_read_in_their_formats(read):
    found = read([{"prompt": "a", "chosen": "x", "rejected": "y", "id": 7}])
    assert [(one.rollout.text, one.value, one.rollout.columns["id"]) for one in found] == [("x", 1.0, 7), ("y", 0.0, 7)]
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    [one] = read([{"messages": chat}])
    assert (one.rollout.prompt, one.rollout.text, one.value) == (chat[:1], "a", None)


def test_samples_of_a_run_bring_the_columns_and_scores_of_their_row(read):
    sample = {"prompt": "a", "columns": {"answer": 4}, "rewards": {"right": 0.5, "other": None}, "step": 1}
    found = read([{**sample, "completion": "x", "stop": "length"}, {**sample, "completion": "", "stop": "eos"}])
    assert [one.rollout.truncated for one in found] == [True, False]
    assert [one.recorded for one in found] == [{"right": 0.5, "other": None}] * 2
    assert set(found[0].rollout.columns) == {"prompt", "completion", "answer"}


def test_samples_are_found_in_the_folder_of_their_run(tmp_path):
    assert samples_file(str(tmp_path)) == str(tmp_path)
    (tmp_path / "samples.jsonl").touch()
    assert samples_file(str(tmp_path)) == str(tmp_path / "samples.jsonl")


def test_columns_are_renamed_also_those_of_samples(read):
    [one] = read([{"question": "a", "completion": "x", "solution": 4}], ["prompt=question", "answer=solution"])
    assert (one.rollout.prompt, one.rollout.columns["answer"]) == ("a", 4)
    [one] = read([{"prompt": "a", "completion": "x", "columns": {"solution": 4}}], ["answer=solution"])
    assert one.rollout.columns["answer"] == 4
    with pytest.raises(ConfigError, match=r"there is no column 'slution' .*did you mean 'solution'"):
        read([{"prompt": "a", "completion": "x", "columns": {"solution": 4}}], ["answer=slution"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([{"prompt": "a", "completion": "x"}] * 2 + [{"prompt": "a"}], "row 3(.|\n)*no prompt with a completion"),
        ([{"prompt": "a", "completion": "x"}] * 2 + [{"prompt": "a", "completion": 4}], "row 3"),
        ([{"prompt": "a", "completion": "x"}] * 2 + ["{broken\n"], "row 3"),
        ([{"text": "a document"}], "holds no answer to judge"),
        ([{"messages": [{"role": "user", "content": "q"}]}], "cannot be judged"),
        ([{"prompt": "a", "completions": []}], "holds no answer to judge"),
    ],
)
def test_rows_without_answers_are_refused(read, rows, message):
    with pytest.raises(DataError, match=message):
        read(rows)


def test_rows_are_counted_to_the_limit_and_a_format_can_be_named(read):
    rows = [{"prompt": str(i), "completion": "x"} for i in range(5)]
    assert len(read(rows, limit=2)) == 2
    with pytest.raises(DataError, match="is empty"):
        read([{"prompt": "a", "completion": ""}], format="prompt-completion")


def test_every_answer_of_an_example_is_judged():
    assert [r.completion for r in rollouts_of(Completion("p", "a"), {})] == ["a"]
    chat = Conversation([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])
    assert rollouts_of(chat, {})[0].completion == [{"role": "assistant", "content": "a"}]
    assert [r.completion for r in rollouts_of(Preference("p", "a", "b"), {})] == ["a", "b"]
    with pytest.raises(ValueError, match="not the assistant's"):
        rollouts_of(Conversation([{"role": "user", "content": "q"}]), {})


def test_a_run_that_sampled_nothing_is_no_file_of_completions(tmp_path):
    (tmp_path / "run.yaml").write_text("method: sft\n")
    with pytest.raises(DataError, match=r"no samples\.jsonl"):
        samples_file(str(tmp_path))
    (tmp_path / "samples.jsonl").write_text("")
    assert samples_file(str(tmp_path)) == str(tmp_path / "samples.jsonl")
