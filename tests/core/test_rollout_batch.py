"""Batches of sampled answers: kept on disk between updates, joined, cut into parts; more prompts for the same step."""

import json
import math

import numpy as np
import pytest
import torch

from tunesmith.data.sampler import Sampler
from tunesmith.data.store import Reader, StoreWriter
from tunesmith.data.trees import Batch, Branch, Tree, joined
from tunesmith.rollout.collect import part_of, seed_of
from tunesmith.runner.pending import read_pending, write_pending
from tunesmith.step_lines import write_line


def answered(seed, prompts=3, position=0):
    """Prompts with answers of different lengths, one of them without a reward, one prompt without answers."""
    chance = np.random.default_rng(seed)
    trees = []
    for row in range(prompts):
        branches = []
        for j in range(row):
            size = int(chance.integers(1, 6))
            columns = {"sampler": chance.normal(size=size).astype(np.float32)}
            if j:
                columns["advantages"] = chance.normal(size=size).astype(np.float32)
            mask = chance.random(size) < 0.8
            ids = chance.integers(0, 99, size, dtype=np.int32)
            branches.append(Branch(ids, mask, math.nan if j == 1 else 0.25, columns))
        about = {"prompt": f"p {row} \u00e9", "columns": {"answer": [row, None]}}
        trees.append(Tree(chance.integers(0, 99, 3, dtype=np.int32), tuple(branches), 1, row, 0.5, about))
    columns = {
        "position": torch.arange(position, position + prompts),
        "reference": torch.from_numpy(chance.normal(size=(prompts, 2)).astype(np.float32)),
        "desirable": torch.tensor([True, False, True][:prompts]),
    }
    return Batch(trees, columns, {"prompts": 3.0, "reward": 0.1 + 0.2}, [{"sample": seed, "kl": 1e-17}])


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one.trees, other.trees, strict=True):
        assert (a.source, a.row, a.margin, a.about) == (b.source, b.row, b.margin, b.about)
        np.testing.assert_array_equal(a.trunk, b.trunk)
        assert a.trunk.dtype == b.trunk.dtype == np.int32
        for x, y in zip(a.branches, b.branches, strict=True):
            np.testing.assert_array_equal(x.ids, y.ids)
            np.testing.assert_array_equal(x.mask, y.mask)
            assert y.mask.dtype == np.bool_
            assert x.value == y.value or (math.isnan(x.value) and math.isnan(y.value))
            assert x.columns.keys() == y.columns.keys()
            for name in x.columns:
                np.testing.assert_array_equal(x.columns[name], y.columns[name])
    assert one.columns.keys() == other.columns.keys()
    assert all(torch.equal(one.columns[name], other.columns[name]) for name in one.columns)
    assert {k: float(v) for k, v in one.totals.items()} == {k: float(v) for k, v in other.totals.items()}


# ------------------------------------------------------------------------------------------------ on disk
def test_an_interrupted_batch_comes_back_to_the_bit(tmp_path):
    batch = answered(0)
    write_pending(tmp_path, [batch])
    again = read_pending(tmp_path)
    same(batch, again)
    assert again.samples == batch.samples


def test_shares_of_processes_come_back_in_the_order_of_the_step(tmp_path):
    whole = answered(1)
    shares = [whole.take([0, 2]), whole.take([1])]
    shares[1].samples = [{"sample": 9}]
    write_pending(tmp_path, shares)
    again = read_pending(tmp_path)
    same(whole, again)
    assert again.samples == [*whole.samples, {"sample": 9}]


def test_an_empty_batch_and_none_at_all(tmp_path):
    assert read_pending(tmp_path) is None
    empty = answered(2).take([])
    write_pending(tmp_path, [empty])
    same(empty, read_pending(tmp_path))


def test_what_is_known_of_a_prompt_is_in_the_store():
    trees = [tree for tree in answered(3).trees if tree.branches]
    trees.append(Tree(np.array([7], np.int32), (), row=5, about={"prompt": [{"role": "user", "content": "\u4f60"}]}))
    trees.append(Tree(np.array([7], np.int32), (trees[0].branches[0],), row=6))
    with StoreWriter(None) as writer:
        for key, tree in enumerate(trees):
            writer.add([tree], key)
        store, _ = writer.finish({})
    reader = Reader(store)
    for i in (2, 0, 3, 1):
        assert reader.tree(i, 0).about == trees[i].about
        assert len(reader.tree(i, 0).branches) == len(trees[i].branches)
    part = Reader(store.take(np.array([3, 2])))
    assert [part.tree(i, 0).about for i in (0, 1)] == [None, trees[2].about]


def test_a_line_of_a_step_that_is_done_again_is_replaced(tmp_path):
    path = tmp_path / "rounds.jsonl"
    for step in (1, 2, 3, 2):
        write_line(path, {"step": step, "n": step * 10})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1, "n": 10}, {"step": 2, "n": 20}]


# ------------------------------------------------------------------------------------------------ together and apart
def test_joining_keeps_everything_in_order():
    one, other = answered(4), answered(5, position=3)
    both = joined(one, other)
    assert both.trees == [*one.trees, *other.trees]
    assert both.columns["position"].tolist() == list(range(6))
    assert both.totals == {"prompts": 6.0, "reward": 2 * (0.1 + 0.2)}
    assert both.samples == [*one.samples, *other.samples]
    empty = one.take([])
    empty.totals = {}
    same(joined(empty, other), other)
    with pytest.raises(AssertionError, match="different columns"):
        joined(one, Batch([], {}))


@pytest.mark.parametrize(("prompts", "parts"), [(8, 2), (7, 3), (2, 4)])
def test_parts_cover_every_prompt_once_whatever_the_shares(prompts, parts):
    trees = [Tree(np.array([1], np.int32), (), row=row) for row in range(prompts)]
    whole = Batch(trees, {"position": torch.arange(prompts)}, {"prompts": prompts})
    found = [[tree.row for tree in part_of(whole, part, parts, (0, 1, 2)).trees] for part in range(parts)]
    assert sorted(row for rows in found for row in rows) == list(range(prompts))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    shares = [whole.take(range(0, prompts, 2)), whole.take(range(1, prompts, 2))]
    for part in range(parts):
        own = [tree.row for share in shares for tree in part_of(share, part, parts, (0, 1, 2)).trees]
        assert sorted(own) == sorted(found[part])
    orders = {tuple(tree.row for tree in part_of(whole, 0, parts, (0, 1, e)).trees) for e in range(20)}
    assert len(orders) > 1


def test_seeds_differ_with_every_part():
    words = [(0, "step 1", 0, 1, 2), (0, "step 1", 0, 12), (0, "step 11", 0, 2), (1, "step 1", 0, 1, 2), (0, "eval", 1)]
    seeds = [seed_of(*parts) for parts in words]
    assert len(set(seeds)) == len(words)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, "a") == seed_of(0, "a")


# ------------------------------------------------------------------------------------------------ more prompts
class Rows:
    """Stands in for a corpus of prompts of one token."""

    def __init__(self, count):
        self.label, self.weight, self.group, self.fingerprint = "rows", None, "train", "f"
        self.lengths = np.ones(count, np.int64)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, i):
        return Tree(np.array([1], np.int32), (), row=i)


@pytest.fixture
def sampler(monkeypatch):
    monkeypatch.setattr("tunesmith.data.sampler.Corpus", Rows)
    return lambda count=20, size=4: Sampler([Rows(count)], batch_size=size)


def rows(trees):
    return [tree.row for tree in trees]


def test_more_prompts_for_a_step_are_the_next_ones_and_do_not_end_the_run(sampler):
    plain, thirsty = sampler(), sampler()
    assert thirsty.total_steps == plain.total_steps == 5
    first, more = rows(thirsty.batch(0)), rows(thirsty.extra(0))
    assert first + more == rows(plain.batch(0)) + rows(plain.batch(1))
    taken = [len(thirsty.batch(step)) for step in range(1, 5)]
    assert taken == [4] * 4


def test_more_prompts_are_drawn_again_alike_after_a_stop(sampler):
    one = sampler()
    one.batch(0)
    state = json.loads(json.dumps(one.state()))
    wanted = [rows(one.extra(0)), rows(one.batch(1)), rows(one.extra(1))]
    other = sampler()
    other.restore(state)
    assert [rows(other.extra(0)), rows(other.batch(1)), rows(other.extra(1))] == wanted


def test_more_prompts_come_in_whole_batches_also_at_the_end(sampler):
    short = sampler(6, 4)
    assert [len(short.batch(0)), len(short.batch(1)), len(short.extra(1))] == [4, 2, 4]
