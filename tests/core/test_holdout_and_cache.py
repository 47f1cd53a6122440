"""Held-out rows are chosen by content; tokens are kept by content."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from tunesmith import DataError, ResourceError, plugins
from tunesmith.config import Layers, resolve
from tunesmith.data.encoding import Encoder, train_tokenizer
from tunesmith.data.loading import held_out_keys, load_data
from tunesmith.data.store import DTYPES, StoreWriter, open_store
from tunesmith.data.tokenization import chat_template

SENTENCE = "the quick brown fox jumps over the lazy dog and runs into the forest"
WORDS = SENTENCE.split()


@pytest.fixture(scope="module")
def toys():
    return plugins.load(files=[Path(__file__).with_name("data_plugin.py")], block=["tunesmith"])


@pytest.fixture
def tokenizer():
    found = train_tokenizer([" ".join(WORDS)] * 3, 320)
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = chat_template("chatml", found)
    return found


@pytest.fixture
def write(tmp_path):
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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


def documents(number, start=0):
    return [{"text": f"{i} " + " ".join(WORDS[: 1 + i % len(WORDS)])} for i in range(start, start + number)]


def flat(tree):
    return [tree.trunk.tolist(), *(b.ids.tolist() for b in tree.branches), *(b.mask.tolist() for b in tree.branches)]


def trees(corpus):
    return [flat(corpus[i]) for i in range(len(corpus))]


def contents(corpus):
    return {str(tree) for tree in trees(corpus)}


# ---------------------------------------------------------------------------------------------- holding out
def test_held_out_rows_are_the_share_asked_for_and_no_others(load, write):
    rows = documents(1000)
    data = load(write(rows), holdout=0.1)
    [train], [report] = data.corpora, data.report.sources
    held = data.eval_sets["train"]
    everything = load(write(rows)).corpora[0]
    assert 70 <= len(held) <= 130  # 100 expected, standard deviation 9.5
    assert contents(train) | contents(held) == contents(everything)
    assert not contents(train) & contents(held)
    assert (report.used, report.held_out) == (len(train), len(held))
    assert report.tokens_held_out == held.lengths.sum() and report.tokens == train.lengths.sum()
    assert report.tokens_in == report.tokens + report.tokens_held_out


def test_the_choice_depends_on_neither_order_nor_other_columns_nor_other_rows(load, write):
    rows = documents(200)
    held = contents(load(write(rows), holdout=0.1).eval_sets["train"])
    shuffled = [{**row, "id": i} for i, row in enumerate(random.Random(0).sample(rows, len(rows)))]
    assert contents(load(write(shuffled), holdout=0.1).eval_sets["train"]) == held
    more = contents(load(write([*rows, *documents(200, 500)]), holdout=0.1).eval_sets["train"])
    assert held < more and len(more - held) > 5


def test_duplicates_of_a_held_out_row_are_held_out_wherever_they_are(load, write):
    one, two = write(documents(100) * 2), write([*documents(100), *documents(50, 300)], "two.jsonl")
    data = load([one, two], holdout=0.2, general=[{"path": two, "label": "same"}])
    held = set().union(*map(contents, data.eval_sets.values()))
    assert set(data.eval_sets) == {"train", "general"} and len(held) > 10
    for corpus in data.corpora:
        assert not contents(corpus) & held


def test_a_few_rows_still_leave_something_on_both_sides(load, write):
    data = load(write(documents(2)), holdout=0.001)
    assert (len(data.corpora[0]), len(data.eval_sets["train"])) == (1, 1)
    same = load(write([{"text": "one"}] * 3), holdout=0.5)
    assert same.eval_sets == {} and "nothing is held out of train" in same.report.lines()[-1]
    keys = np.array([1, 2, 3], dtype=np.uint64)
    assert held_out_keys(keys, 0.999).tolist() == [1, 2]
    assert held_out_keys(keys[:1], 0.5).tolist() == []


def test_pieces_of_a_held_out_document_are_held_out_together(load, write):
    data = load(write(documents(200)), holdout=0.2, max_length=4)
    [train] = data.corpora
    rows = {train[i].row for i in range(len(train))}
    held = data.eval_sets["train"]
    held_rows = {held[i].row for i in range(len(held))}
    assert len(held) > len(held_rows) > 10 and not rows & held_rows and rows | held_rows == set(range(200))


def test_evaluation_rows_that_are_trained_on_too_are_told(load, write):
    given = write(documents(10, 195), "eval.jsonl")
    data = load(write(documents(200)), eval_data=[given])
    assert data.report.warnings == ["5 of the 10 evaluation rows of eval are also trained on, in rows"]
    assert not load(write(documents(100)), eval_data=[given]).report.warnings


# ---------------------------------------------------------------------------------------------- keeping tokens
def was_cached(data):
    return [source.cached for source in data.report.sources]


def test_the_cache_is_keyed_by_content_and_gives_back_what_was_encoded(load, write, cache, tokenizer):
    rows = documents(50)
    first = load(write(rows))
    again = load(write(rows))
    moved = load(write(rows, "else/where.jsonl"))
    assert [was_cached(d) for d in (first, again, moved)] == [[False], [True], [True]]
    encoder = Encoder(tokenizer)
    fresh = [flat(encoder.document(row["text"])) for row in rows]
    assert trees(first.corpora[0]) == trees(again.corpora[0]) == trees(moved.corpora[0]) == fresh
    assert moved.corpora[0].label == "where"
    assert first.corpora[0].fingerprint == moved.corpora[0].fingerprint
    same = {**first.report.as_dict()["sources"][0], "cached": True}
    assert again.report.as_dict()["sources"][0] == same
    assert "tokens from the cache" in again.report.lines()[0] and "cache" not in first.report.lines()[0]


def test_trees_of_every_shape_come_back_from_the_cache(load, write, cache):
    chats = [
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": "fox " * (i % 5 + 1)}]}
        for i in range(20)
    ]
    first, again = load(write(chats), "toy-tutor"), load(write(chats), "toy-tutor")
    assert was_cached(again) == [True] and trees(first.corpora[0]) == trees(again.corpora[0])
    assert first.corpora[0][3].trunk.tolist()


def test_an_edit_under_the_same_path_size_and_date_is_noticed(load, write, cache):
    path = write(documents(50))
    load(path)
    before = os.stat(path)
    text = Path(path).read_text()
    Path(path).write_text(text.replace("7 the", "8 the", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    data = load(path)
    assert was_cached(data) == [False]
    assert data.corpora[0].fingerprint != load(write(documents(50))).corpora[0].fingerprint


def test_what_the_tokens_depend_on_and_what_they_do_not(load, write, cache, tokenizer):
    path = write(documents(50))
    load(path)
    for flags in ({"max_length": 99}, {"overlong": "drop"}, {"train_on": "last"}, {"forbidden": "zebra"}):
        assert was_cached(load(path, **flags)) == [False], flags
        assert was_cached(load(path, **flags)) == [True], flags
    assert was_cached(load({"path": path, "limit": 49})) == [False]
    assert was_cached(load({"path": path, "map": {"text": "text"}})) == [False]
    for flags in ({"holdout": 0.3}, {"seed": 5}, {"shuffle": False}, {"batch_size": 3}):
        assert was_cached(load(path, **flags)) == [True], flags
    assert was_cached(load({"path": path, "format": "toy-text", "weight": 3, "label": "other"})) == [True]
    tokenizer.chat_template += " "
    assert was_cached(load(path)) == [False]
    tokenizer.add_tokens(["fox jumps"])
    assert was_cached(load(path)) == [False]


def test_content_that_is_unknown_is_not_kept(load, write, cache):
    source = {"name": "toy-lines", "path": write(documents(20)), "known": False}
    first, again = load(source), load(source)
    assert was_cached(again) == [False] and not cache.exists()
    assert first.corpora[0].fingerprint == again.corpora[0].fingerprint
    assert trees(first.corpora[0]) == trees(load(write(documents(20))).corpora[0])


def test_refused_rows_are_listed_again_from_the_cache_but_never_forgiven_by_it(load, write, cache, tmp_path):
    rows = [*documents(5), {"text": 5}, '{"broken"', *documents(5, 10)]
    path, listed = write(rows), tmp_path / "run" / "rejected.jsonl"
    load(path, on_bad_row="skip")
    written = listed.read_text()
    assert [json.loads(line)["line"] for line in written.splitlines()] == [6, 7]
    listed.unlink()
    data = load(path, on_bad_row="skip")
    assert was_cached(data) == [True] and listed.read_text() == written and data.report.sources[0].rejected == 2
    with pytest.raises(DataError, match="2 of 12 rows"):
        load(path)
    listed.unlink()
    other = write(rows, "other.jsonl")
    assert was_cached(load(other, on_bad_row="skip")) == [False]
    assert {json.loads(line)["file"] for line in listed.read_text().splitlines()} == {other}


@pytest.mark.parametrize("damage", ["cut", "shorter", "gone", "no meta"])
def test_a_damaged_cache_is_built_again(load, write, cache, damage):
    path = write(documents(50))
    whole = trees(load(path).corpora[0])
    [folder] = cache.iterdir()
    if damage == "cut":
        (folder / "ids.npy").write_bytes((folder / "ids.npy").read_bytes()[:-4])
    elif damage == "shorter":
        np.save(folder / "ids.npy", np.load(folder / "ids.npy")[:-1])
    else:
        (folder / ("mask.npy" if damage == "gone" else "meta.json")).unlink()
    data = load(path)
    assert was_cached(data) == [False] and trees(data.corpora[0]) == whole
    assert was_cached(load(path)) == [True]


def test_nothing_unfinished_stays_in_the_cache(load, write, cache):
    with pytest.raises(DataError):
        load(write([*documents(5), {"text": 5}]))
    assert list(cache.iterdir()) == []
    load(write(documents(5)))
    [folder] = cache.iterdir()
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", *[".npy"] * len(DTYPES)]
    for path in folder.glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_two_processes_that_write_the_same_tokens_do_not_disturb_each_other(tmp_path, tokenizer):
    tree = Encoder(tokenizer).document("the quick brown fox")
    target = tmp_path / "key"
    with StoreWriter(target) as one, StoreWriter(target) as two:
        one.add([tree], 1)
        two.add([tree], 1)
        first, digest = one.finish({"n": 1})
        second, same = two.finish({"n": 2})
    assert digest == same and first.ids.tolist() == second.ids.tolist() == tree.branches[0].ids.tolist()
    opened = open_store(target)
    assert opened is not None and opened[1]["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_disk_that_refuses_is_named(load, write, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ResourceError, match="cannot write the tokenised rows") as caught:
        load(write(documents(5)))
    assert "TUNESMITH_CACHE" in caught.value.fix


def test_many_rows_are_written_piece_by_piece(load, write, cache, monkeypatch):
    monkeypatch.setattr("tunesmith.data.store.FLUSH", 100)
    rows = documents(300)
    pieces = load(write(rows)).corpora[0]
    monkeypatch.setattr("tunesmith.data.store.FLUSH", 10**9)
    whole = load({"path": write(rows), "limit": 300}).corpora[0]
    assert pieces.fingerprint == whole.fingerprint and trees(pieces) == trees(whole)
