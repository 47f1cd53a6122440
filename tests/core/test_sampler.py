"""Which trees a step trains on: exact shares, exact epochs, exact resume."""

import json
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from tunesmith.data.sampler import Sampler
from tunesmith.data.trees import Branch, Tree
from tunesmith.errors import ConfigError, DataError


class Rows:
    """Stands in for a corpus: trees of given lengths whose only content is their row number."""

    def __init__(self, label, lengths, weight=None, group="train", index=0, fingerprint="f"):
        self.label, self.weight, self.group, self.index, self.fingerprint = label, weight, group, index, fingerprint
        self.lengths = np.array(lengths, np.int64)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, i):
        size = int(self.lengths[i])
        branch = Branch(np.full(size, i, np.int32), np.ones(size, bool))
        return Tree(np.zeros(0, np.int32), (branch,), source=self.index, row=i)


@pytest.fixture(autouse=True)
def rows_are_corpora(monkeypatch):
    monkeypatch.setattr("tunesmith.data.sampler.Corpus", Rows)


def lengths(seed, count, longest=60):
    return np.random.default_rng(seed).integers(2, longest, count).tolist()


def draw(sampler, steps=None):
    return [tree for step in range(steps or sampler.total_steps) for tree in sampler.batch(step)]


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own():
    sampler = Sampler([Rows("a", lengths(0, 10))], batch_size=4, epochs=3)
    assert sampler.total_steps == 8  # 30 examples in batches of 4; the last has 2
    rows = [tree.row for tree in draw(sampler)]
    epochs = [rows[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert sampler.epoch == 3.0


def test_unweighted_sources_end_together():
    sources = [
        Rows("a", lengths(0, 30), index=0),
        Rows("b", lengths(1, 7), index=1),
        Rows("c", lengths(2, 90), index=2),
    ]
    rows = Counter((tree.source, tree.row) for tree in draw(Sampler(sources, batch_size=8, epochs=2)))
    assert len(rows) == 127
    assert set(rows.values()) == {2}


def test_no_shuffle_keeps_the_order_of_the_rows():
    sampler = Sampler([Rows("a", [3] * 5)], batch_size=2, shuffle=False)
    assert [tree.row for tree in draw(sampler)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("weights", [(0.85, 0.15), (0.5, 0.3, 0.2), (1, 1, 1, 7), (0.01, 0.99)])
def test_after_any_number_of_tokens_shares_are_within_one_sequence(weights):
    sources = [Rows(str(i), lengths(i, 50 + 13 * i, 40 + 30 * i), w, index=i) for i, w in enumerate(weights)]
    longest = max(int(s.lengths.max()) for s in sources)
    sampler = Sampler(sources, batch_size=1, max_steps=1500)
    given, whole = np.zeros(len(weights)), sum(weights)
    for step in range(1500):
        for tree in sampler.batch(step):
            given[tree.source] += tree.num_tokens
        due = given.sum() * np.array(weights) / whole
        assert np.abs(given - due).max() <= longest


def test_shares_follow_a_schedule():
    """From all replay to none over the run: the realised tokens follow the integral of the schedule."""
    sources = [Rows("domain", [10] * 50, index=0), Rows("general", [7] * 50, group="replay", index=1)]

    def mixture(step, total):
        return {"train": step / total, "replay": 1 - step / total}

    sampler = Sampler(sources, batch_size=4, max_steps=400, mixture=mixture)
    due, given = np.zeros(2), np.zeros(2)
    for step in range(400):
        trees = sampler.batch(step)
        size = sum(tree.num_tokens for tree in trees)
        due += size * np.array([mixture(step, 400)["train"], mixture(step, 400)["replay"]])
        for tree in trees:
            given[tree.source] += tree.num_tokens
        assert np.abs(given - due).max() <= 10 + 1e-6


def test_a_group_share_is_split_by_the_weights_inside_it():
    sources = [
        Rows("a", [5] * 20, 3, "train", 0),
        Rows("b", [5] * 20, 1, "train", 1),
        Rows("c", [5] * 20, None, "replay", 2),
    ]
    sampler = Sampler(sources, batch_size=10, max_steps=40, mixture=lambda s, t: {"train": 0.8, "replay": 0.2})
    counts = Counter(tree.source for tree in draw(sampler))
    assert [counts[i] for i in range(3)] == [240, 80, 80]


def test_an_epoch_with_replay_spends_the_tokens_of_the_domain():
    """Replay comes out of the budget: the tokens of one pass over the domain, 20% of them replay."""
    sources = [Rows("domain", [10] * 100, index=0), Rows("general", [10] * 30, group="replay", index=1)]
    sampler = Sampler(sources, batch_size=5, mixture=lambda s, t: {"train": 0.8, "replay": 0.2})
    counts = Counter(tree.source for tree in draw(sampler))
    assert counts == {0: 80, 1: 20}


def test_a_share_of_zero_is_never_drawn():
    sources = [Rows("domain", [10] * 9, index=0), Rows("general", [10] * 9, group="replay", index=1)]
    sampler = Sampler(sources, batch_size=3, max_steps=9, mixture=lambda s, t: {"train": 1.0, "replay": 0.0})
    assert {tree.source for tree in draw(sampler)} == {0}


def test_replay_of_zero_equals_training_on_the_domain_alone():
    domain = Rows("domain", lengths(0, 20))
    alone = Sampler([domain], batch_size=4, max_steps=9)
    general = Rows("general", lengths(1, 20), group="replay", index=1)
    mixed = Sampler([domain, general], batch_size=4, max_steps=9, mixture=lambda s, t: {"train": 1.0, "replay": 0.0})
    assert [t.row for t in draw(alone)] == [t.row for t in draw(mixed)]


def test_the_order_of_sources_in_the_run_file_changes_nothing():
    sources = [
        Rows(name, lengths(i, 20 + i), w, fingerprint=name)
        for i, (name, w) in enumerate(zip("abc", (5, 3, 2), strict=True))
    ]
    orders = []
    for arranged in permutations(sources):
        sampler = Sampler(arranged, batch_size=3, max_steps=30, seed=4)
        orders.append([(tree.num_tokens, tree.row) for tree in draw(sampler)])
    assert all(order == orders[0] for order in orders)


def test_another_seed_gives_another_order():
    orders = [[t.row for t in draw(Sampler([Rows("a", [4] * 30)], batch_size=5, seed=seed))] for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_state_survives_json_and_goes_on_exactly(stop):
    def make():
        sources = [Rows("a", lengths(0, 9), 0.7, index=0), Rows("b", lengths(1, 23), 0.3, index=1)]
        return Sampler(sources, batch_size=4, max_steps=20)

    straight = make()
    for step in range(stop):
        straight.batch(step)
    resumed = make()
    resumed.restore(json.loads(json.dumps(straight.state())))
    for step in range(stop, 20):
        assert [(t.source, t.row) for t in straight.batch(step)] == [(t.source, t.row) for t in resumed.batch(step)]


def test_other_rows_are_refused_with_both_fingerprints():
    before = Sampler([Rows("a", [4] * 5, fingerprint="aaaa")], batch_size=2)
    after = Sampler([Rows("a", [4] * 5, fingerprint="bbbb")], batch_size=2)
    with pytest.raises(DataError, match="not those that the run was started on") as error:
        after.restore(before.state())
    assert "aaaa" in str(error.value)
    assert "bbbb" in str(error.value)


def test_weights_for_some_sources_only_are_refused():
    with pytest.raises(ConfigError, match="a has a weight, but b has none"):
        Sampler([Rows("a", [4], 0.5), Rows("b", [4])], batch_size=2)


def test_negative_weights_are_refused():
    with pytest.raises(ConfigError, match="weights of the sources"):
        draw(Sampler([Rows("a", [4], -0.5), Rows("b", [4], 1.0)], batch_size=2, max_steps=2))
