"""Bradley-Terry on pairs and rankings: values by hand, closed-form gradients, identities and a task that it solves."""

import math
from itertools import combinations

import pytest
import torch
from pydantic import ValidationError

from tunesmith import RankedScores
from tunesmith_methods.objectives.losses.score import bradley_terry
from tunesmith_methods.objectives.score import BradleyTerry

VARIANTS = [
    BradleyTerry(),
    BradleyTerry(centering=0.01),
    BradleyTerry(label_smoothing=0.1),
    BradleyTerry(centering=0.3, label_smoothing=0.2),
]


def ranked(groups, margins=None, dtype=torch.float64) -> RankedScores:
    """From a list of prompts, each a list of (score, rank)."""
    answers = [(i, score, rank) for i, group in enumerate(groups) for score, rank in group]
    prompts, scores, ranks = (list(column) for column in zip(*answers, strict=True))
    return RankedScores(
        scores=torch.tensor(scores, dtype=dtype).requires_grad_(),
        prompts=torch.tensor(prompts),
        ranks=torch.tensor(ranks, dtype=torch.float32),
        margins=torch.tensor(margins or [0.0] * len(groups), dtype=dtype),
    )


def pair(better, worse, **options):
    return ranked([[(better, 1), (worse, 0)]], **options)


def random_groups(seed=0):
    """Prompts with 2 to 5 answers of different ranks."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for size in (2, 5, 3, 2, 4):
        scores = torch.randn(size, generator=generator, dtype=torch.float64).tolist()
        groups.append(list(zip(scores, torch.randperm(size, generator=generator).tolist(), strict=True)))
    return groups


def gradient(objective, x):
    return torch.autograd.grad(objective(x).total, x.scores)[0]


def softplus(x):
    return math.log1p(math.exp(x))


def sigma(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("objective", "margin", "expected"),
    [
        (BradleyTerry(), 0.0, softplus(-2)),
        (BradleyTerry(), 1.0, softplus(-1)),
        (BradleyTerry(centering=0.01), 0.0, softplus(-2) + 0.16),
        (BradleyTerry(label_smoothing=0.1), 0.0, softplus(-2) + 0.2),
    ],
)
def test_values_by_hand(objective, margin, expected):
    """Scores 3 and 1: the difference is 2 and the sum 4.

    A margin is taken off the difference, centering adds 0.01 * 4^2, and as softplus(2) = softplus(-2) + 2, smoothing
    by 0.1 adds 0.1 * 2.
    """
    assert objective(pair(3.0, 1.0, margins=[margin])).total.item() == pytest.approx(expected, rel=1e-12)


def test_ranking_by_hand():
    """Scores 1, 0 and 2 with ranks 3, 2 and 1: differences 1, -1 and -2, a third of the loss each."""
    x = ranked([[(1.0, 3), (0.0, 2), (2.0, 1)]])
    expected = (softplus(-1) + softplus(1) + softplus(2)) / 3
    loss = BradleyTerry()(x)
    assert loss.total.item() == pytest.approx(expected, rel=1e-12)
    means = {key: (value / count).item() for key, (value, count) in loss.means.items()}
    assert means == pytest.approx({"accuracy": 1 / 3, "margin": -2 / 3, "mean_reward": 1.0})


def test_equal_scores_lose_ln_2_and_are_half_right():
    """What a head of zeros gives."""
    loss = BradleyTerry()(ranked([[(0.0, 1), (0.0, 0)]] * 3))
    assert loss.total.item() == pytest.approx(3 * math.log(2), rel=1e-15)
    right, prompts = loss.means["accuracy"]
    assert (right.item(), prompts.item()) == (1.5, 3)


def test_a_constant_added_to_all_scores_cancels_unless_they_are_centred():
    groups = random_groups()
    moved = [[(score + 2.5, rank) for score, rank in group] for group in groups]
    assert BradleyTerry()(ranked(moved)).total.item() == pytest.approx(BradleyTerry()(ranked(groups)).total.item())
    centred = BradleyTerry(centering=0.01)
    assert centred(ranked(moved)).total > centred(ranked(groups)).total + 0.1


def test_centering_pulls_the_sum_of_the_scores_to_zero():
    """c (r_w + r_l)^2 has the slope 2 c (r_w + r_l) in both scores: 0 for 1 and -1, and 4 for 3 and 1 with c = 1/2."""
    for better, worse, slope in ((1.0, -1.0, 0.0), (3.0, 1.0, 4.0)):
        x = pair(better, worse)
        pull = gradient(BradleyTerry(centering=0.5), x) - gradient(BradleyTerry(), x)
        assert pull.tolist() == pytest.approx([slope, slope])


def test_swapping_the_pair_negates_the_difference():
    """softplus(d) - softplus(-d) = d."""
    one, two = BradleyTerry()(pair(1.3, 0.2)), BradleyTerry()(pair(0.2, 1.3))
    assert (two.total - one.total).item() == pytest.approx(1.1)
    assert two.means["margin"][0] == -one.means["margin"][0]
    assert two.means["accuracy"][0] == 1 - one.means["accuracy"][0]


@pytest.mark.parametrize("objective", VARIANTS)
def test_gradient_is_the_closed_form(objective):
    """Of every pair, divided by the number of pairs K of its prompt: with d = r_w - r_l - m and smoothing e,

    -+ ((1 - e) sigmoid(-d) - e sigmoid(d)) / K, plus 2 c (r_w + r_l) / K on both.
    """
    groups, margins = random_groups(), [0.0, 0.5, 1.0, 0.0, 0.3]
    expected, e, c = [], objective.label_smoothing, objective.centering
    for group, m in zip(groups, margins, strict=True):
        slopes, share = [0.0] * len(group), 1 / math.comb(len(group), 2)
        for i, j in combinations(range(len(group)), 2):
            w, v = (i, j) if group[i][1] > group[j][1] else (j, i)
            d = group[w][0] - group[v][0] - m
            push = (1 - e) * sigma(-d) - e * sigma(d)
            centre = 2 * c * (group[w][0] + group[v][0])
            slopes[w] += share * (centre - push)
            slopes[v] += share * (centre + push)
        expected += slopes
    got = gradient(objective, ranked(groups, margins))
    assert torch.allclose(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("objective", VARIANTS)
def test_a_ranking_is_the_mean_of_its_pairs(objective):
    group = random_groups()[1]
    losses = []
    for one, two in combinations(group, 2):
        w, v = (one, two) if one[1] > two[1] else (two, one)
        losses.append(objective(pair(w[0], v[0], margins=[0.4])).total.item())
    whole = objective(ranked([group], margins=[0.4])).total.item()
    assert whole == pytest.approx(sum(losses) / 10, rel=1e-12)


@pytest.mark.parametrize("objective", VARIANTS)
def test_split_and_sum_equals_whole(objective):
    groups, margins = random_groups(), [0.0, 0.5, 1.0, 0.0, 0.3]
    whole = objective(ranked(groups, margins))
    parts = [objective(ranked(groups[a:b], margins[a:b])) for a, b in ((0, 1), (1, 4), (4, 5))]
    assert sum(part.total for part in parts).item() == pytest.approx(whole.total.item(), rel=1e-13)
    for key, (value, count) in whole.means.items():
        assert sum(part.means[key][0] for part in parts).item() == pytest.approx(value.item(), rel=1e-12, abs=1e-14)
        assert sum(part.means[key][1] for part in parts) == count


def test_only_the_order_of_ranks_matters():
    group = [(0.3, 1), (1.2, 3), (-0.7, 2)]
    scaled = [(score, 100.0 * rank**3) for score, rank in group]
    assert torch.equal(BradleyTerry()(ranked([group])).total, BradleyTerry()(ranked([scaled])).total)


def test_equal_ranks_are_not_compared():
    """Of four answers of ranks 2, 1, 1 and 0, five pairs are comparable; without the tied ones' own pair."""
    x = ranked([[(0.5, 2), (1.5, 1), (-0.3, 1), (0.1, 0)]])
    differences = [-1.0, 0.8, 0.4, 1.4, -0.4]
    expected = sum(softplus(-d) for d in differences) / 5
    assert BradleyTerry()(x).total.item() == pytest.approx(expected, rel=1e-12)


def test_a_prompt_of_equal_ranks_adds_nothing():
    """Alone it is a loss of 0 with a gradient of 0; beside others it is not counted in the means either."""
    alone = ranked([[(1e3, 1), (-1e3, 1), (5.0, 1)]])
    loss = BradleyTerry(centering=1.0)(alone)
    assert loss.total == 0
    assert torch.equal(gradient(BradleyTerry(centering=1.0), alone), torch.zeros(3, dtype=torch.float64))
    assert all((value.item(), count.item()) == (0, 0) for value, count in loss.means.values())
    beside = BradleyTerry()(ranked([[(1e3, 1), (-1e3, 1)], [(1.0, 1), (0.0, 0)]]))
    assert beside.total.item() == pytest.approx(softplus(-1))
    assert beside.means["accuracy"][1] == 1


def test_prompts_do_not_see_each_other():
    one, two = random_groups(0), random_groups(1)
    mixed = [one[0], *two[1:]]
    first, second = gradient(BradleyTerry(), ranked(one)), gradient(BradleyTerry(), ranked(mixed))
    assert torch.equal(first[:2], second[:2])


@pytest.mark.parametrize("margin", [-1.0, 0.0, 1 / 3, 2.0])
def test_a_margin_shifts_the_loss(margin):
    """softplus(-(d - m)) for d = 0.7."""
    value = bradley_terry(torch.tensor(0.7, dtype=torch.float64), margin=margin)
    assert value.item() == pytest.approx(softplus(margin - 0.7), rel=1e-14)


def test_huge_differences_are_linear_and_finite_in_fp32():
    """softplus(2e4) = 2e4; on the right side the loss is 0."""
    wrong, right = pair(-1e4, 1e4, dtype=torch.float32), pair(1e4, -1e4, dtype=torch.float32)
    assert BradleyTerry()(wrong).total.item() == 2e4
    assert gradient(BradleyTerry(), wrong).tolist() == [-1, 1]
    assert BradleyTerry()(right).total.item() == 0
    assert gradient(BradleyTerry(), right).tolist() == [0, 0]


def test_scores_that_can_be_learned_are_learned():
    """Answers are points of the plane and the better one lies further along (2, -1): the direction is found."""
    points = torch.randn(200, 2, 2, generator=torch.Generator().manual_seed(0))
    order = (points @ torch.tensor([2.0, -1.0])).argsort(1, descending=True)
    points = points.gather(1, order[..., None].expand(-1, -1, 2)).reshape(-1, 2)
    prompts, ranks = torch.arange(200).repeat_interleave(2), torch.tensor([1.0, 0.0]).repeat(200)
    direction = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([direction], lr=5.0)
    for _ in range(300):
        loss = BradleyTerry()(RankedScores(points @ direction, prompts, ranks, torch.zeros(200)))
        optimizer.zero_grad()
        (loss.total / 200).backward()
        optimizer.step()
    right, count = loss.means["accuracy"]
    assert right / count >= 0.99
    assert torch.cosine_similarity(direction.detach(), torch.tensor([2.0, -1.0]), dim=0) > 0.999


def test_metrics_carry_no_gradient():
    loss = BradleyTerry()(ranked(random_groups()))
    assert not any(value.requires_grad for pair in loss.means.values() for value in pair)


@pytest.mark.parametrize("settings", [{"centering": -0.1}, {"label_smoothing": 0.5}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(ValidationError):
        BradleyTerry(**settings)
