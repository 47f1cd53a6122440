"""Trees, batches and packing."""

import numpy as np
import pytest
import torch

from tunesmith.data.trees import Batch, Branch, Tree, best_fit
from tunesmith.scoring.layout import pack, pad


def tree(trunk, *branches):
    """A tree whose branches are lists of ids; negative ids are masked."""
    parts = [Branch(np.abs(np.array(b, np.int32)), np.array(b) > 0) for b in branches]
    return Tree(np.array(trunk, np.int32), tuple(parts))


def test_best_fit_by_hand():
    """Sizes 5 4 3 2 into bins of 7: 5 opens a bin (2 left), 4 a second (3 left), 3 fits the second, 2 the first."""
    assert best_fit([3, 5, 2, 4], 7) == [[1, 2], [0, 3]]


def test_best_fit_gives_an_oversized_item_its_own_bin():
    assert best_fit([9, 2, 2], 4) == [[0], [1, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_best_fit_loses_nothing_and_overfills_nothing(seed):
    sizes = np.random.default_rng(seed).integers(1, 50, 200).tolist()
    bins = best_fit(sizes, 64)
    assert sorted(i for b in bins for i in b) == list(range(200))
    assert all(sum(sizes[i] for i in b) <= 64 for b in bins)
    assert len(bins) <= 1.25 * sum(sizes) / 64 + 1


def test_the_first_token_of_a_document_is_never_scored():
    one = tree([], [4, 5, -6, 7])
    assert one.num_scored == 2
    layout = pack([one], torch.device("cpu"))
    assert layout.source_S.tolist() == [0, 2]
    assert layout.target_S.tolist() == [5, 7]


def test_every_branch_starts_at_the_trunks_last_token():
    """Stream: trunk 1 2 3, branch 4 5, branch 6. Positions restart at 3; both first tokens come from index 2."""
    layout = pack([tree([1, 2, 3], [4, 5], [6])], torch.device("cpu"))
    assert layout.input_ids.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert layout.source_S.tolist() == [2, 3, 2]
    assert layout.target_S.tolist() == [4, 5, 6]
    assert layout.branch_S.tolist() == [0, 0, 1]
    assert layout.sizes == [3, 2, 1]


def test_padded_rows_score_the_same_targets():
    trees = [tree([1, 2, 3], [4, 5], [6]), tree([], [7, -8, 9])]
    packed, padded = pack(trees, torch.device("cpu")), pad(trees, 0, torch.device("cpu"))
    assert padded.target_S.tolist() == packed.target_S.tolist()
    assert padded.branch_S.tolist() == packed.branch_S.tolist()
    assert padded.tree_bounds == packed.tree_bounds
    assert padded.input_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 6, 0], [7, 8, 9, 0, 0]]
    predicting = padded.input_ids.flatten()[padded.source_S].tolist()
    assert predicting == [3, 4, 3, 8]


def test_units_are_counted():
    batch = Batch([tree([1], [2, -3], [4]), tree([], [5, 6])])
    assert [batch.count(unit) for unit in ("token", "sequence", "pair", "prompt")] == [3, 3, 1, 2]
    assert batch.num_tokens == 6


def test_what_is_not_trained_on_is_no_unit():
    """Masked answers, an answer of one token that nothing predicts, and a prompt with nothing else."""
    batch = Batch([tree([1], [2, -3], [-4]), tree([1], [-5], [-6]), tree([], [5])])
    assert [batch.count(unit) for unit in ("token", "sequence", "prompt")] == [1, 1, 1]


def test_columns_follow_their_trees():
    batch = Batch([tree([1], [2] * n) for n in (5, 1, 3)], {"value": torch.tensor([5.0, 1.0, 3.0])})
    parts = list(batch.split(6))
    assert len(parts) == 2
    for part in parts:
        assert part.columns["value"].tolist() == [float(len(t.branches[0])) for t in part.trees]
