"""From sources to corpora: no row and no token is lost, and every bad row is named."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tunesmith import ConfigError, DataError, Text, plugins
from tunesmith.config import Layers, resolve
from tunesmith.data.encoding import Encoder, train_tokenizer
from tunesmith.data.loading import StreamCorpus, iter_examples, load_data
from tunesmith.data.rows import split, truncate
from tunesmith.data.tokenization import chat_template

SENTENCE = "the quick brown fox jumps over the lazy dog and runs into the forest to sleep under an old tree"
WORDS = SENTENCE.split()


@pytest.fixture(scope="module")
def toys():
    return plugins.load(files=[Path(__file__).with_name("data_plugin.py")], block=["tunesmith"])


@pytest.fixture(scope="module")
def tokenizer():
    found = train_tokenizer([" ".join(WORDS)] * 3, 330)
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = chat_template("chatml", found)
    return found


@pytest.fixture
def write(tmp_path):
    """``write(rows, name)``: a JSONL file; a row that is a string is written as it is."""

    def lines(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
        return str(path)

    return lines


@pytest.fixture
def load(toys, tokenizer, tmp_path):
    def run(data, method="toy-reader", **flags):
        layers = Layers(flags={"model": "-", "data": data, **flags})
        return load_data(resolve(toys, method, layers), toys, tokenizer, output=tmp_path / "run")

    return run


def documents(number, start=0):
    return [{"text": f"{i} " + " ".join(WORDS[: 1 + i % len(WORDS)])} for i in range(start, start + number)]


def chat(*turns):
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]}


def flat(tree):
    return [tree.trunk.tolist(), *(branch.ids.tolist() for branch in tree.branches)]


def trees(corpus):
    return [flat(corpus[i]) for i in range(len(corpus))]


def balanced(report):
    """No row and no token is lost."""
    gone = report.skipped + report.rejected + report.dropped + report.held_out
    lost = report.tokens_held_out + report.tokens_dropped + report.tokens_truncated
    return report.rows == report.used + gone and report.tokens_in == report.tokens + lost


# ---------------------------------------------------------------------------------------------- good rows
def test_rows_become_the_trees_that_the_encoder_makes(load, write, tokenizer):
    rows = documents(40)
    data = load(write(rows))
    [corpus] = data.corpora
    encoder = Encoder(tokenizer)
    assert trees(corpus) == [flat(encoder.document(row["text"])) for row in rows]
    assert (corpus.label, corpus.group, corpus.index, corpus.weight) == ("rows", "train", 0, None)
    assert corpus.lengths.dtype == np.int64
    assert corpus.lengths.tolist() == [sum(map(len, tree)) for tree in trees(corpus)]
    tree = corpus[7]
    assert (tree.source, tree.row, tree.branches[0].ids.dtype) == (0, 7, np.int32)
    tree.branches[0].ids[0] = 1  # a copy, not the file
    assert flat(corpus[7]) == flat(encoder.document(rows[7]["text"]))
    assert data.eval_sets == {}


def test_the_report_counts_rows_tokens_and_kinds_of_loss(load, write, tokenizer):
    rows = [*documents(3), {"text": "SKIP"}, {"text": "one"}, {"text": "one"}]
    [report] = load(write(rows)).report.sources
    encoder = Encoder(tokenizer)
    tokens = [encoder.document(row["text"]) for row in rows if row["text"] != "SKIP"]
    assert balanced(report)
    assert (report.rows, report.used, report.skipped, report.duplicates, report.files) == (6, 5, 1, 1, 1)
    assert report.tokens == sum(tree.num_tokens for tree in tokens)
    assert report.trained == sum(tree.num_scored for tree in tokens)
    assert report.longest == max(tree.num_tokens for tree in tokens)
    [line] = load(write(rows)).report.lines()
    assert line.startswith("rows [train] toy-text (found: 6 of the first 6 rows look like it (columns text)): 5 of 6")
    assert "1 skipped" in line and "1 duplicates" in line


def test_groups_labels_weights_limits_and_evaluation_sets(load, write):
    one, two = write(documents(5)), write(documents(6, 100), "other/rows.jsonl")
    data = load(
        [{"path": one, "weight": 2}, {"path": one, "limit": 3, "label": "few"}],
        general=[{"path": two}],
        eval_data=[{"path": write(documents(4, 50), "eval.jsonl")}],
    )
    assert [(c.label, c.group, c.index, c.weight, len(c)) for c in data.corpora] == [
        ("rows", "train", 0, 2.0, 5), ("few", "train", 1, None, 3), ("rows-2", "general", 2, None, 6),
    ]  # fmt: skip
    assert {name: (len(c), c.group) for name, c in data.eval_sets.items()} == {"eval": (4, "eval")}
    assert data.corpora[1][0].source == 1
    assert [s.group for s in data.report.sources] == ["train", "train", "general", "eval"]
    assert json.loads(json.dumps(data.report.as_dict()))["sources"][3]["used"] == 4


def test_names_of_sources_never_clash(load, write):
    one, two = write(documents(200), "train.jsonl"), write(documents(10, 500), "b/train.jsonl")
    data = load([one, two], eval_data=[write(documents(5, 900), "c/train.jsonl")], holdout=0.1)
    assert [corpus.label for corpus in data.corpora] == ["train", "train-2"]
    assert list(data.eval_sets) == ["train", "train-3"] and len(data.eval_sets["train-3"]) == 5


def test_examples_before_there_is_a_tokenizer(toys, write):
    path = write([{"text": "one"}, {"text": "SKIP"}, {"text": 5}, {"text": "two"}])
    layers = Layers(flags={"model": "-", "data": path, "on_bad_row": "skip"})
    assert list(iter_examples(resolve(toys, "toy-reader", layers), toys)) == [Text("one"), Text("two")]
    strict = resolve(toys, "toy-reader", Layers(flags={"model": "-", "data": path}))
    with pytest.raises(DataError, match="1 of 3 rows"):
        list(iter_examples(strict, toys))
    assert list(iter_examples(strict, toys, "general")) == []


# ---------------------------------------------------------------------------------------------- bad rows
GOOD = chat("one", "two")
BAD = {
    "null field": ("toy-tutor", GOOD, {"messages": None}, "field 'messages' is null"),
    "wrong type": ("toy-reader", {"text": "x"}, {"text": 5}, "field 'text' is not text"),
    "empty": ("toy-reader", {"text": "x"}, {"text": ""}, "the text is empty"),
    "broken line": ("toy-reader", {"text": "x"}, '{"text": ', "not valid JSON"),
    "missing column": ("toy-reader", {"text": "x"}, {"txt": "x"}, "toy-text failed: KeyError('text')"),
    "format fails": ("toy-tutor", {"question": "x", "answer": "y"}, {"question": 5, "answer": "y"}, "TypeError"),
    "no answer": ("toy-tutor", {"question": "x", "answer": "y"}, {"question": "x", "answer": " "}, "is blank"),
    "no messages": ("toy-tutor", GOOD, {"messages": []}, "there are no messages"),
    "no turn": ("toy-tutor", GOOD, chat("one"), "no assistant turn"),
    "nothing trained": (
        "toy-any",
        {"ids": [1, 2]},
        {"ids": [1, 2, 3], "mute": True},
        "none of its 3 tokens is trained",
    ),
    "over-long": ("toy-any", {"ids": [1, 2]}, {"ids": [1] * 99}, "99 tokens, more than max_length 50"),
    "half a surrogate": ("toy-reader", {"text": "x"}, {"text": "a\ud800"}, "half a surrogate pair"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_its_file_and_row_or_skipped_and_listed(load, write, tmp_path, case):
    method, good, bad, reason = BAD[case]
    path = write([good, good, bad, good])
    with pytest.raises(DataError) as caught:
        load(path, method, max_length=50, overlong="error")
    assert caught.value.exit_code == 3
    assert caught.value.what == "1 of 4 rows of rows cannot be trained on"
    assert caught.value.where == f"{path}, row 3"
    assert reason in caught.value.why
    assert not (tmp_path / "run" / "rejected.jsonl").exists()
    data = load(path, method, max_length=50, overlong="error", on_bad_row="skip")
    [report] = data.report.sources
    assert (report.rejected, report.used, len(data.corpora[0])) == (1, 3, 3) and balanced(report)
    [entry] = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert (entry["file"], entry["line"]) == (path, 3) and reason in entry["reason"]
    assert entry["row"] == ({} if isinstance(bad, str) else bad)


def test_a_template_that_shows_no_turn_names_file_row_and_turn(load, write, toys, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ m.role }}{% endfor %}")
    path = write([chat("one", "two")])
    with pytest.raises(DataError, match=re.escape(f"{path}, row 1")) as caught:
        load(path, "toy-tutor")
    assert "turn 2 (assistant) ends without a token that stops generation" in str(caught.value)


def test_a_method_may_refuse_rows(load, write):
    path = write([{"text": "a fox"}, {"text": "a dog"}, {"text": "two dogs"}])
    with pytest.raises(DataError, match="2 of 3 rows") as caught:
        load(path, forbidden="dog")
    assert "it says dog (2 times: row 2, row 3)" in caught.value.why


def test_all_bad_rows_are_counted_by_kind_and_the_first_ones_named(load, write):
    rows = [{"text": "x"}, *[{"text": i} for i in range(5)], *[{"text": "word " * (60 + i)} for i in range(2)]]
    with pytest.raises(DataError) as caught:
        load(write(rows), max_length=50, overlong="error")
    assert caught.value.what.startswith("7 of 8 rows")
    assert "field 'text' is not text (5 times: row 2, row 3, row 4, ...)" in caught.value.why
    assert re.search(r"\d+ tokens, more than max_length 50 .*\(2 times: row 7, row 8\)", caught.value.why)


def test_a_source_that_cannot_be_read_on_stops_whatever_is_skipped(load, write):
    with pytest.raises(DataError, match="on fire"):
        load(write([*documents(3), "UNREADABLE"]), on_bad_row="skip")


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        ([], {}, "rows has no rows"),
        ([{"text": "SKIP"}] * 3, {}, "no row of rows is left: 0 of 3 can be used"),
        ([{"text": 1}] * 3, {"on_bad_row": "skip"}, "no row of rows is left"),
        ([{"text": "word " * 99}], {"overlong": "drop", "max_length": 9}, "no row of rows is left"),
    ],
)
def test_nothing_left_to_train_on(load, write, rows, flags, message):
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match=message):
            load(write(rows), **flags)


def test_control_characters_of_a_row_do_not_reach_the_terminal(load, write):
    path = write([{"text": "x"}, chat("one") | {"text": 4}], "a\x1b[31mb.jsonl")
    with pytest.raises(DataError) as caught:
        load(path)
    assert "\x1b" not in str(caught.value) and r"a\x1b[31mb.jsonl, row 2" in str(caught.value)


# ---------------------------------------------------------------------------------------------- over-long rows
@pytest.mark.parametrize("overlong", ["drop", "truncate", "split"])
@pytest.mark.parametrize("size", [2, 3, 7, 20])
def test_no_token_is_lost_unreported(load, write, tokenizer, overlong, size):
    rows = [*documents(30), {"text": "a"}]  # the last is two tokens
    data = load(write(rows), overlong=overlong, max_length=size)
    encoder = Encoder(tokenizer)
    whole = [encoder.document(row["text"]) for row in rows]
    [corpus], [report] = data.corpora, data.report.sources
    assert balanced(report) and report.tokens_in == sum(tree.num_tokens for tree in whole)
    assert corpus.lengths.max() <= size
    long = [tree for tree in whole if tree.num_tokens > size]
    assert long
    if overlong == "drop":
        assert trees(corpus) == [flat(tree) for tree in whole if tree.num_tokens <= size]
        assert (report.dropped, report.tokens_dropped) == (len(long), sum(tree.num_tokens for tree in long))
    elif overlong == "truncate":
        assert trees(corpus) == [[[], flat(tree)[1][:size]] for tree in whole]
        assert report.truncated == len(long)
        assert report.tokens_truncated == sum(tree.num_tokens - size for tree in long)
    else:
        assert report.split == len(long) and report.tokens == report.tokens_in
        assert report.trained == sum(tree.num_scored for tree in whole)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 100])
def test_split_predicts_every_token_exactly_once_from_the_one_before(tokenizer, size):
    whole = Encoder(tokenizer).document(" ".join(WORDS))
    ids = whole.branches[0].ids.tolist()
    pieces = list(split(whole, size))
    assert all(piece.num_tokens <= size for piece in pieces)
    assert [token for piece in pieces for token in piece.branches[0].ids.tolist()] == ids
    pairs = []
    for piece in pieces:
        line = [*piece.trunk.tolist(), *piece.branches[0].ids.tolist()]
        pairs += list(pairwise(line))
        assert piece.num_scored == len(line) - 1
    assert pairs == list(pairwise(ids))


def test_truncating_a_prompt_away_and_splitting_a_chat_are_refused(load, write):
    path = write([chat("one", "two"), chat(" ".join(WORDS), "two")])
    with pytest.raises(DataError, match="1 of 2 rows") as caught:
        load(path, "toy-tutor", overlong="truncate", max_length=30)
    assert "nothing trained would be left" in caught.value.why
    with pytest.raises(DataError, match="1 of 2 rows") as caught:
        load(path, "toy-tutor", overlong="split", max_length=30)
    assert "cannot be split" in caught.value.why


def test_truncate_keeps_the_trunk(tokenizer):
    tree = Encoder(tokenizer).completion("the quick", " brown fox jumps")
    cut = truncate(tree, len(tree.trunk) + 2)
    assert cut.trunk.tolist() == tree.trunk.tolist()
    assert cut.branches[0].ids.tolist() == tree.branches[0].ids[:2].tolist()


# ---------------------------------------------------------------------------------------------- formats
def test_the_format_that_most_rows_look_like_wins_and_then_the_one_with_most_columns(load, write):
    rows = [{"text": "x", "question": "a", "answer": "b"}] * 3
    [report] = load(write(rows), "toy-any").report.sources
    assert report.format == "toy-qa"
    [report] = load(write([*rows, {"text": "x"}]), "toy-any", on_bad_row="skip").report.sources
    assert (report.format, report.why) == ("toy-text", "found: 4 of the first 4 rows look like it (columns text)")
    [report] = load(write(rows), "toy-reader").report.sources
    assert report.format == "toy-text"
    [report] = load({"path": write(rows), "format": "toy-text"}, "toy-any").report.sources
    assert (report.format, report.why) == ("toy-text", "as given")


def test_columns_are_renamed_before_anything_else(load, write, tokenizer):
    path = write([{"answer": "q one", "question": "a two"}])
    data = load({"path": path, "map": {"question": "answer", "answer": "question"}}, "toy-tutor")
    assert flat(data.corpora[0][0]) == flat(Encoder(tokenizer).completion("q one", "a two"))
    with pytest.raises(ConfigError, match="no column 'anser' to use as 'text'; did you mean 'answer'"):
        load({"path": path, "map": {"text": "anser"}})


def test_rows_that_fit_another_method_or_none(load, write):
    with pytest.raises(DataError, match="in the format 'toy-chat', which toy-reader does not take") as caught:
        load(write([chat("one", "two")]), "toy-reader")
    assert "methods that take it: toy-any, toy-tutor" in caught.value.fix
    with pytest.raises(DataError, match="fit no format that toy-tutor takes") as caught:
        load(write([{"prompt": "x", "response": "y"}]), "toy-tutor")
    assert "columns: prompt, response. toy-chat needs messages; toy-qa needs question, answer" in caught.value.why
    assert "{question: prompt, answer: response}" in caught.value.fix
    with pytest.raises(DataError, match="fit no format") as caught:
        load(write([{"texts": "x"}]), "toy-reader")
    assert "{text: texts}" in caught.value.fix
    with pytest.raises(ConfigError, match="the format 'toy-chat' does not fit the method 'toy-reader'") as caught:
        load({"path": write([chat("one", "two")]), "format": "toy-chat"}, "toy-reader")
    assert "formats that fit: toy-text" in caught.value.fix


# ---------------------------------------------------------------------------------------------- streams
def stream(path, **more):
    return {"name": "toy-lines", "path": path, "stream": True, **more}


@pytest.mark.parametrize("size", [5, 100])
def test_a_stream_gives_the_trees_of_the_whole_and_goes_on_from_every_position(load, write, size):
    path = write([*documents(20), {"text": "SKIP"}, *documents(15, 20)])
    [whole] = load(path, max_length=size).corpora
    [streamed] = load(stream(path), max_length=size).corpora
    assert isinstance(streamed, StreamCorpus) and streamed.label == "rows"
    seen = list(streamed.trees((0, 0)))
    assert [flat(tree) for tree, _ in seen] == trees(whole)
    assert seen[-1][1] == (36, 0)
    for done, (_, position) in enumerate(seen, start=1):
        if done % 3 == 0:
            assert [flat(tree) for tree, _ in streamed.trees(position)] == trees(whole)[done:]


def test_bad_rows_of_a_stream_stop_it_or_are_listed_once(load, write, tmp_path):
    path = write([*documents(130), {"text": 5}, *documents(5)])
    [strict] = load(stream(path)).corpora
    with pytest.raises(DataError, match=re.escape(f"{path}, row 131")):
        list(strict.trees((0, 0)))
    data = load(stream(path), on_bad_row="skip")
    for _ in range(2):
        assert len(list(data.corpora[0].trees((0, 0)))) == 135
    assert len((tmp_path / "run" / "rejected.jsonl").read_text().splitlines()) == 1
    assert data.report.sources[0].rejected == 2  # counted in both passes


def test_what_a_stream_cannot_do(load, write):
    path = write(documents(5))
    with pytest.raises(ConfigError, match="no share of its rows can be held out"):
        load(stream(path), holdout=0.1)
    with pytest.raises(ConfigError, match="evaluation rows are read whole"):
        load(path, eval_data=[stream(path)])
    data = load(path, eval_data=[{**stream(write(documents(9, 50), "e.jsonl")), "limit": 4}])
    assert len(data.eval_sets["e"]) == 4
