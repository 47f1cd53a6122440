"""Losses over sampled answers: values by hand, gradients by formula, what must not matter, what is refused."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tunesmith import ConfigError, CriticLogps
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith_methods.objectives.policy import GRPO, PPO, RLOO

GSPO = {"ratio": "sequence", "aggregation": "sequence", "clip_low": 0.02, "clip_high": 0.03}
VARIANTS = [
    GRPO(),
    GRPO(aggregation="sequence", clip_high=0.2),
    GRPO(aggregation="constant", constant=9),
    GRPO(aggregation="prompt", delta=1.5),
    GRPO(aggregation="sum", surrogate="none"),
    GRPO(surrogate="cispo", is_cap=1.1),
    GRPO(**GSPO),
    GRPO(**{**GSPO, "ratio": "sequence-token"}),
    GRPO(**{**GSPO, "aggregation": "sum"}, kl_coef=0.1),
    GRPO(correction="token-tis", correction_high=1.05, kl_coef=0.2, kl_estimator="k2", kl_correction="none"),
    GRPO(correction="token-mask", correction_low=0.9, correction_high=1.1, off_policy_mask=0.01),
    GRPO(correction="sequence-mask", correction_high=1.05),
    RLOO(),
    RLOO(aggregation="constant", correction="sequence-tis"),
    RLOO(ratio="token", kl_coef=0.1, kl_estimator="k1", kl_correction="straight-through"),
    PPO(delta=1.4),
    PPO(value_clip=None, aggregation="sequence"),
]


def label(objective):
    chosen = objective.model_dump(exclude_defaults=True)
    return "-".join([objective.name, *(f"{key}={value}" for key, value in chosen.items())])


def gradient(objective, x):
    """Of the sum, with respect to the log-probabilities."""
    return torch.autograd.grad(objective(x).total, x.logps)[0]


def take(x, chosen):
    """The branches ``chosen``, in that order, of whole trees."""
    rows = torch.cat([torch.nonzero(x.branches == b).squeeze(1) for b in chosen]) if len(chosen) else torch.tensor([])
    rows = rows.long()
    names = ("logps", "old", "reference", "sampler", "advantages", "values", "old_values", "returns")
    columns = {name: None if getattr(x, name) is None else getattr(x, name)[rows] for name in names}
    sizes = [int((x.branches == b).sum()) for b in chosen]
    seen: dict[int, int] = {}
    trees = torch.tensor([seen.setdefault(int(x.trees[b]), len(seen)) for b in chosen])
    branches = torch.arange(len(chosen)).repeat_interleave(torch.tensor(sizes))
    return CriticLogps(branches=branches, num_branches=len(chosen), trees=trees, longest=x.longest, **columns)


# ------------------------------------------------------------------------------------------------ aggregation
TWO_BY_TWO = [("token", 10, 1.0), ("sequence", 4, 0.25), ("sum", 4, 2.5), ("constant", 4, 0.5), ("prompt", 2, 11 / 12)]


@pytest.mark.parametrize(("aggregation", "units", "expected"), TWO_BY_TWO)
def test_aggregations_of_two_prompts_with_two_answers_by_hand(aggregation, units, expected, answers):
    """Lengths 1, 3 and 2, 4; advantages 1, -1 and 2, -3; every token's loss is -A.

    Tokens: -(1 - 3 + 4 - 12) / 10 = 1. Sequences: -(1 - 1 + 2 - 3) / 4 = 1/4; their sums: 10 / 4, and a fifth of it.
    Prompts: the first has 2 / 4, the second 8 / 6: on average 11 / 12.
    """
    sizes = [1, 3, 2, 4]
    x = answers(old=None, sizes=sizes, trees=[0, 0, 1, 1], advantages=np.repeat([1, -1, 2, -3], sizes))
    objective = GRPO(aggregation=aggregation, constant=5 if aggregation == "constant" else None)
    assert counted(objective, sizes, [0, 0, 1, 1]) == units
    assert objective(x).total.item() / units == pytest.approx(expected, rel=1e-12)


def counted(objective, sizes, trees):
    """Units of a batch whose answers have so many trained tokens, after a prompt of two and with one that is masked."""
    made: dict[int, list[Branch]] = {}
    for tree, size in zip(trees, sizes, strict=True):
        mask = np.array([True] * size + [False])
        made.setdefault(tree, []).append(Branch(np.arange(size + 1, dtype=np.int32), mask))
    prompt = np.array([1, 2], dtype=np.int32)
    return Batch([Tree(prompt, tuple(branches)) for branches in made.values()]).count(objective.unit)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "sum", "constant", "prompt"])
def test_masked_answers_leave_the_loss_and_its_count(aggregation, answers):
    """An answer without a trained token, and a prompt with nothing but such answers."""
    objective = GRPO(aggregation=aggregation)
    sizes, trees = [3, 0, 5, 0, 0, 4], [0, 0, 1, 2, 2, 3]
    kept, kept_trees = [3, 5, 4], [0, 1, 2]
    x, y = answers(old=None, sizes=sizes, trees=trees), answers(old=None, sizes=kept, trees=kept_trees)
    y.advantages = x.advantages
    assert objective(x).total.item() == pytest.approx(objective(y).total.item(), rel=1e-12)
    assert counted(objective, sizes, trees) == counted(objective, kept, kept_trees)


def test_a_constant_defaults_to_the_longest_answer_allowed(answers):
    x = answers(old=None)
    assert GRPO(aggregation="constant")(x).total == GRPO(aggregation="constant", constant=8)(x).total
    x.longest = None
    with pytest.raises(ConfigError, match="number of tokens"):
        GRPO(aggregation="constant")(x)


# ------------------------------------------------------------------------------------------------ on-policy
def shares(objective, x):
    """Weight of a token, written out."""
    sizes = torch.bincount(x.branches, minlength=x.num_branches).double()
    prompts = torch.zeros(x.num_branches, dtype=torch.float64).index_add(0, x.trees, sizes)
    return {
        "token": torch.ones(len(x.branches), dtype=torch.float64),
        "sum": torch.ones(len(x.branches), dtype=torch.float64),
        "constant": torch.full((len(x.branches),), 1 / (objective.constant or 8), dtype=torch.float64),
        "sequence": (1 / sizes)[x.branches],
        "prompt": (1 / prompts[x.trees])[x.branches],
    }[objective.aggregation]


@pytest.mark.parametrize(
    "objective", [v for v in VARIANTS if v.correction == "none" and v.off_policy_mask is None], ids=label
)
def test_on_policy_every_variant_is_the_policy_gradient(objective, answers):
    """Ratio 1: the gradient is -A times the token's weight, for GRPO, GSPO, CISPO, RLOO and PPO alike."""
    x = answers(old=None)
    objective = objective.model_copy(update={"kl_coef": 0.0})
    assert torch.allclose(gradient(objective, x), -x.advantages * shares(objective, x), rtol=1e-12)
    means = objective(x).means
    assert means["ratio/mean"][0] == pytest.approx(means["ratio/mean"][1].item())
    assert means["approx_kl"][0] == 0
    assert all(total == 0 for name, (total, _) in means.items() if name.startswith("clip_ratio"))


def test_whitened_advantages_have_no_loss_on_policy(answers):
    """The first update: the loss is minus the mean advantage, whatever the gradient."""
    x = answers(old=None)
    x.advantages = x.advantages - x.advantages.mean()
    assert PPO()(x).metrics["policy_loss"].item() == pytest.approx(0, abs=1e-12)
    assert gradient(PPO(), x).abs().max() > 0.1


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_zero_advantages_have_no_gradient(objective, answers):
    """A group of equal rewards: exactly nothing but the KL."""
    x = answers(advantages=0.0)
    objective = objective.model_copy(update={"kl_coef": 0.0})
    assert (gradient(objective, x) == 0).all() and objective(x).metrics["policy_loss"] == 0


# ------------------------------------------------------------------------------------------------ off-policy
def test_clipped_tokens_have_no_gradient_and_the_others_ratio_times_advantage(answers):
    """A token is clipped where its ratio is already beyond the bound on the side that the advantage asks for."""
    x = answers(seed=2, dtype=torch.float64, advantages=torch.randn(22, dtype=torch.float64))
    ratio = (x.logps - x.old).detach().exp()
    a = x.advantages
    clipped = ((ratio < 0.9) & (a < 0)) | ((ratio > 1.1) & (a > 0))
    assert 3 < clipped.sum() < 20
    found = gradient(GRPO(clip_low=0.1, clip_high=0.1), x)
    assert torch.allclose(found, torch.where(clipped, 0.0, -a * ratio), rtol=1e-12)
    capped = gradient(GRPO(surrogate="cispo", is_cap=1.1), x)
    assert torch.allclose(capped, -a * ratio.clamp(max=1.1), rtol=1e-12) and (capped[clipped] != 0).all()


def test_cispo_without_a_cap_is_the_bare_ratio(answers):
    """REINFORCE with importance weights: sg(rho) A grad log p = A grad rho."""
    x = answers()
    assert torch.allclose(
        gradient(GRPO(surrogate="cispo", is_cap=1e9), x), gradient(GRPO(surrogate="none"), x), rtol=1e-12
    )


@pytest.mark.parametrize("delta", [1.3, 2.0])
def test_two_sided_clip_is_dual_clip(delta, answers):
    """min(rho, delta) in the unclipped term, and max(min(rho A, clip(rho) A), delta A) for A < 0."""
    x = answers(old=answers().logps.detach() + 0.8 * torch.randn(22, dtype=torch.float64))
    ratio, a = (x.logps - x.old).exp(), x.advantages
    surrogate = torch.minimum(ratio * a, ratio.clamp(0.8, 1.28) * a)
    dual = -torch.where(a < 0, torch.maximum(surrogate, delta * a), surrogate).sum()
    assert (a[ratio > delta] < 0).any()
    assert GRPO(delta=delta)(x).total.item() == pytest.approx(dual.item(), rel=1e-12)
    expected = torch.autograd.grad(dual, x.logps)[0]
    assert torch.allclose(gradient(GRPO(delta=delta), x), expected, rtol=1e-12)


def whole_ratios(x, mean):
    """Ratio ``[R]`` of the answers with gradient, by a loop."""
    ratios = []
    for branch in range(x.num_branches):
        gaps = (x.logps - x.old)[x.branches == branch]
        ratios.append((gaps.sum() / (max(1, len(gaps)) if mean else 1)).exp())
    return torch.stack(ratios)


def clipped_surrogate(ratio, advantage, low, high):
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def test_gspo_is_a_clipped_ratio_per_answer(answers):
    """Its gradient goes through the geometric mean: s A / length for every token of an answer that is not clipped."""
    x = answers()
    ratios = whole_ratios(x, mean=True)
    advantages = torch.stack(
        [x.advantages[x.branches == b][0] if s else torch.tensor(0.0) for b, s in enumerate([3, 1, 0, 5, 2, 4, 7])]
    )
    expected = clipped_surrogate(ratios, advantages, 0.02, 0.03).sum()
    objective = GRPO(**GSPO)
    assert objective(x).total.item() == pytest.approx(expected.item(), rel=1e-12)
    slopes = torch.autograd.grad(expected, x.logps)[0]
    assert torch.allclose(gradient(objective, x), slopes, rtol=1e-12)
    assert (slopes == 0).any() and (slopes != 0).any()
    by_token = GRPO(**{**GSPO, "ratio": "sequence-token"})
    assert torch.allclose(gradient(by_token, x), slopes, rtol=1e-12)
    assert by_token(x).total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_rloo_is_a_clipped_ratio_of_whole_answers(answers):
    x = answers()
    ratios = whole_ratios(x, mean=False)
    advantages = torch.stack(
        [x.advantages[x.branches == b][0] if s else torch.tensor(0.0) for b, s in enumerate([3, 1, 0, 5, 2, 4, 7])]
    )
    expected = clipped_surrogate(ratios, advantages, 0.2, 0.2).sum()
    assert RLOO()(x).total.item() == pytest.approx(expected.item(), rel=1e-12)
    slopes = torch.autograd.grad(expected, x.logps)[0]
    assert torch.allclose(gradient(RLOO(), x), slopes, rtol=1e-12)
    assert (slopes == 0).any() and (slopes != 0).any()
    by_constant = RLOO(aggregation="constant", constant=16)
    assert by_constant(x).total.item() == pytest.approx(expected.item() / 16, rel=1e-12)


def test_far_ratios_are_finite_in_fp32(answers):
    """Also where the sum over an answer overflows; there is no gradient beyond the clamp."""
    for gap in (1e4, -1e4, 50.0):
        x = answers(dtype=torch.float32)
        x.old = x.logps.detach() - gap
        for objective in (GRPO(surrogate="none"), RLOO(surrogate="none"), GRPO(**GSPO), GRPO(kl_coef=1.0)):
            assert torch.isfinite(objective(x).total) and torch.isfinite(gradient(objective, x)).all()


def test_old_log_probabilities_that_are_the_policy_s_own_need_not_be_given(answers):
    x = answers()
    y = answers(old=x.logps.detach())
    x.old = None
    for objective in VARIANTS:
        assert objective(x).total == objective(y).total
        assert torch.equal(gradient(objective, x), gradient(objective, y))


# ------------------------------------------------------------------------------------------------ invariances
def assert_same_loss(one, two):
    assert one.total.item() == pytest.approx(two.total.item(), rel=1e-12)
    for key, value in one.metrics.items():
        assert two.metrics[key].item() == pytest.approx(value.item(), rel=1e-12, abs=1e-14)
    assert one.means.keys() == two.means.keys()
    largest = [{name: value.item() for name, value in loss.maxima.items()} for loss in (one, two)]
    assert largest[0] == pytest.approx(largest[1], rel=1e-12)
    for key, pair in one.means.items():
        assert [t.item() for t in two.means[key]] == pytest.approx([t.item() for t in pair], rel=1e-12, abs=1e-14), key


def added(losses):
    """Sums of totals and metrics."""
    first, *others = losses
    for other in others:
        first.total = first.total + other.total
        first.maxima = {key: max(value, other.maxima[key]) for key, value in first.maxima.items()}
        first.metrics = {key: value + other.metrics[key] for key, value in first.metrics.items()}
        first.means = {
            key: tuple(a + b for a, b in zip(p, other.means[key], strict=True)) for key, p in first.means.items()
        }
    return first


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_split_and_sum_equals_whole(objective, answers):
    x = answers()
    whole, parts = objective(x), added([objective(take(x, chosen)) for chosen in ([0, 1, 2], [3, 4, 5], [6])])
    assert_same_loss(whole, parts)
    found, expected = (torch.autograd.grad(loss.total, x.logps)[0] for loss in (parts, whole))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_order_of_answers_does_not_matter(objective, answers):
    x = answers()
    moved = take(x, [6, 4, 3, 5, 1, 2, 0])
    assert_same_loss(objective(x), objective(moved))
    found, expected = (torch.autograd.grad(objective(z).total, x.logps)[0] for z in (moved, x))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_no_token_at_all(objective, answers):
    """A part whose answers are all masked: a zero with a gradient, and every metric that other parts have."""
    x, full = answers(sizes=[0, 0], trees=[0, 0]), objective(answers())
    loss = objective(x)
    loss.total.backward()
    assert loss.total == 0 and loss.means.keys() == full.means.keys() and loss.metrics.keys() == full.metrics.keys()
    assert all(total == count == 0 for total, count in loss.means.values()) and not loss.maxima


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_metrics_carry_no_gradient_and_fp32_agrees(objective, answers):
    loss, low = objective(answers()), objective(answers(dtype=torch.float32))
    reported = (*loss.metrics.values(), *sum(loss.means.values(), ()), *loss.maxima.values())
    assert not any(t.requires_grad for t in reported)
    assert low.total.dtype == torch.float32 and torch.isfinite(low.total)


def test_clip_metrics_by_hand(answers):
    """Ratios 0.5, 2, 2, 1 with advantages -1, 1, -1, 1: one clipped below, one above; by answers: one of two above."""
    ratio = torch.tensor([0.5, 2.0, 2.0, 1.0], dtype=torch.float64)
    x = answers(sizes=[1, 3], trees=[0, 0], advantages=[-1, 1, -1, 1])
    x.old = x.logps.detach() - ratio.log()
    means = GRPO()(x).means
    found = {side: tuple(v.item() for v in means[f"clip_ratio/{side}_mean"]) for side in ("low", "high", "region")}
    assert found == {"low": (1, 4), "high": (1, 4), "region": (2, 4)}
    assert means["ratio/mean"][0].item() == pytest.approx(5.5)
    assert means["approx_kl"][0].item() == pytest.approx(1.5 * math.log(2) ** 2)
    assert GRPO()(x).maxima["ratio/max"].item() == pytest.approx(2)
    x.advantages = torch.tensor([1.0, 1, 1, 1], dtype=torch.float64)
    means = RLOO()(x).means
    total, count = means["clip_ratio/high_mean"]
    assert (total.item(), count.item()) == (pytest.approx(1), 2)
    assert means["ratio/mean"][0].item() == pytest.approx(0.5 + 4)


# ------------------------------------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    ("objective", "settings", "reason"),
    [
        (GRPO, {"kl_coef": 0.1, "kl_estimator": "k1", "kl_correction": "none"}, "expected gradient of zero"),
        (GRPO, {"kl_coef": 0.1, "kl_estimator": "k2"}, "importance ratio would take it away"),
        (GRPO, {"ratio": "sequence"}, "by the answer's length"),
        (GRPO, {"ratio": "sequence-token", "aggregation": "prompt"}, "by the answer's length"),
        (GRPO, {"ratio": "product", "aggregation": "sequence"}, "one action"),
        (RLOO, {"aggregation": "token"}, "one action"),
        (GRPO, {**GSPO, "surrogate": "cispo"}, "single tokens"),
        (GRPO, {**GSPO, "correction": "token-tis"}, "whole answers"),
        (RLOO, {"correction": "token-mask"}, "whole answers"),
        (GRPO, {"correction": "token-mask", "correction_low": 6.0}, "above correction_high"),
        (GRPO, {"delta": 1.2}, "above 1 \\+ clip_high"),
        (GRPO, {"constant": 100}, "no effect"),
        (GRPO, {"surrogate": "none", "clip_low": 0.1}, "no effect"),
        (GRPO, {"is_cap": 2.0}, "no effect"),
        (GRPO, {"correction_high": 2.0}, "need a correction"),
        (PPO, {"ratio": "product", "aggregation": "sum"}, "single tokens"),
        (PPO, {"value_clip": 0.0}, "greater than 0"),
        (GRPO, {"clip_low": -0.1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(objective, settings, reason):
    with pytest.raises(ValidationError, match=reason):
        objective(**settings)


@pytest.mark.parametrize("objective", VARIANTS, ids=label)
def test_resolved_settings_build_the_same_objective_again(objective):
    """A run file with every default written out, as a resumed run reads it."""
    assert type(objective)(**objective.model_dump()) == objective


def test_inputs_fit_the_losses_that_know_of_advantages_and_no_others():
    """A loss of likelihoods would make bad answers likelier too; PPO's reads a critic, which the others do without."""
    from tunesmith_methods.grpo import GRPO as Method
    from tunesmith_methods.objectives.token import NLL
    from tunesmith_methods.ppo import PPO as WithCritic

    fits = {cls: issubclass(Method.supplies, cls.inputs) for cls in (GRPO, RLOO, PPO, NLL)}
    assert fits == {GRPO: True, RLOO: True, PPO: False, NLL: False}
    assert issubclass(WithCritic.supplies, PPO.inputs)
