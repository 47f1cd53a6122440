"""What the losses over sampled answers estimate: expected gradients by enumeration, without a random number.

The policy is a table of logits over three tokens in every state. Token 0 ends the answer, and so does the third token:
15 answers of 1 to 3 tokens. A bandit is its first state alone. Every group of answers is a tree whose advantages carry
the group's probability, so one call of an objective gives the expected gradient.
"""

import pytest
import torch

from tunesmith import CriticLogps, PolicyLogps
from tunesmith.numerics import (
    gae,
    group_advantages,
    grouped,
    kl_estimate,
    leave_one_out_advantages,
    length_weighted_advantages,
    token_rewards,
)
from tunesmith_methods.objectives.policy import GRPO, PPO, RLOO

EXACT = 1e-15
"""fp64 rounding of gradients of size 0.1."""
SUM = GRPO(aggregation="sum")


def raw(rewards, groups, drawn):
    return rewards


def loo(rewards, groups, drawn):
    return leave_one_out_advantages(rewards, groups)


def mean(rewards, groups, drawn):
    return group_advantages(rewards, groups)


def std(rewards, groups, drawn):
    return group_advantages(rewards, groups, scale="group", eps=0.0)


def off(found, expected):
    """Largest difference of an entry."""
    return (found - expected).abs().max().item()


def cosine(one, two):
    return torch.nn.functional.cosine_similarity(one.flatten(), two.flatten(), dim=0).item()


# ------------------------------------------------------------------------------------------------ baselines
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("objective", [RLOO(), SUM, RLOO(surrogate="none")], ids=["rloo", "token", "bare"])
def test_rloo_is_unbiased_over_all_groups_of_a_bandit(size, objective, bandit):
    logits = bandit.logits(1)
    found = bandit.expected_gradient(objective, logits, loo, size=size)
    assert off(found, bandit.true_gradient(logits)) < EXACT


@pytest.mark.parametrize("objective", [RLOO(), SUM], ids=["rloo", "token"])
def test_rloo_is_unbiased_over_all_pairs_of_answers_of_different_length(objective, language):
    logits = language.logits(1)
    found = language.expected_gradient(objective, logits, loo, size=2)
    assert off(found, language.true_gradient(logits)) < EXACT


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_mean_baseline_shrinks_the_gradient_and_keeps_its_direction(size, bandit):
    """It holds the answer's own reward: (G - 1) / G of the true gradient."""
    logits = bandit.logits(1)
    found = bandit.expected_gradient(SUM, logits, mean, size=size)
    assert off(found, (size - 1) / size * bandit.true_gradient(logits)) < EXACT


def test_the_std_of_the_group_turns_the_gradient(bandit):
    """With rewards of more than two values; a constant factor of 1/sqrt(2) for two answers and rewards of 0 or 1."""
    logits = bandit.logits(1)
    true = bandit.true_gradient(logits)
    assert cosine(bandit.expected_gradient(SUM, logits, mean, size=2), true) == pytest.approx(1, abs=1e-14)
    assert 0.5 < cosine(bandit.expected_gradient(SUM, logits, std, size=2), true) < 0.9999
    bandit.rewards = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    found = bandit.expected_gradient(SUM, logits, std, size=2)
    assert off(found, 0.5**0.5 * bandit.true_gradient(logits)) < EXACT


def test_the_std_of_the_group_favours_hard_and_easy_prompts():
    """Eight answers, rewards 0 or 1: 2.31 times the true gradient where one in twenty is right, 1.74 at one in two."""

    def factor(chance):
        """By the number of right answers: their and the others' advantages over a std that depends on it alone."""
        found = 0.0
        for right in range(1, 8):
            rewards = torch.tensor([1.0] * right + [0.0] * (8 - right), dtype=torch.float64)
            groups = grouped(torch.zeros(8, dtype=torch.int64), 1)
            advantages = group_advantages(rewards, groups, scale="group", eps=0.0)
            ways = torch.lgamma(torch.tensor([9.0, right + 1.0, 9.0 - right], dtype=torch.float64)).tolist()
            share = torch.tensor(ways[0] - ways[1] - ways[2]).exp().item() * chance**right * (1 - chance) ** (8 - right)
            # d log p / d logit of the right arm: 1 - p where it was drawn, -p where not
            found += share * (advantages * torch.where(rewards > 0, 1 - chance, -chance)).mean().item()
        return found / (chance * (1 - chance))

    assert factor(0.05) == pytest.approx(2.31, abs=0.01)
    assert factor(0.5) == pytest.approx(1.74, abs=0.01)


def test_a_length_weighted_baseline_that_holds_the_own_reward_is_biased(language):
    """OPO as published: optimal for many answers, and not only shrunk for two."""
    logits = language.logits(1)

    def opo(rewards, groups, drawn):
        return length_weighted_advantages(rewards, language.lengths[drawn.answers], groups)

    found, true = language.expected_gradient(SUM, logits, opo, size=2), language.true_gradient(logits)
    assert 0.8 < cosine(found, true) < 1 - 1e-6


# ------------------------------------------------------------------------------------------------ aggregation
def test_sums_and_constants_alone_keep_the_direction(language):
    """By a constant C: the true gradient over C. Means over a sequence or over tokens re-weigh answers by length."""
    logits = language.logits(1)
    true = language.true_gradient(logits)

    def by(aggregation):
        return language.expected_gradient(GRPO(aggregation=aggregation), logits, loo, size=2)

    assert off(by("constant"), true / 3) < EXACT
    rloo = language.expected_gradient(RLOO(aggregation="constant", constant=7), logits, loo, size=2)
    assert off(rloo, true / 7) < EXACT
    for aggregation in ("sequence", "token", "prompt"):
        assert 0.9 < cosine(by(aggregation), true) < 0.9999


# ------------------------------------------------------------------------------------------------ KL
BETA = 0.3


@pytest.mark.parametrize("objective", [RLOO(), SUM], ids=["rloo", "token"])
def test_kl_in_the_reward_has_the_gradient_of_the_kl(place, objective):
    """The log-ratio of the whole answer (k1), taken off the reward before the leave-one-out mean."""
    logits, reference = place.logits(1), place.logits(2).detach()
    gaps = (place.sequences(logits) - place.sequences(reference)).detach()

    def penalised(rewards, groups, drawn):
        return leave_one_out_advantages(rewards - BETA * gaps[drawn.answers], groups)

    found = place.expected_gradient(objective, logits, penalised, size=2)
    target = place.objective(logits) - BETA * place.kl(logits, reference)
    assert off(found, torch.autograd.grad(target, logits)[0]) < EXACT


def test_estimators_of_the_kl(language):
    """k1 and k3 have the KL as their mean, k2 has not."""
    logits, reference = language.logits(1).detach(), language.logits(2)
    lp = language.sequences(logits)
    gaps = lp - language.sequences(reference).detach()
    means = {name: (lp.exp() * kl_estimate(gaps, name)).sum().item() for name in ("k1", "k2", "k3")}
    kl = language.kl(logits, reference.detach()).item()
    assert means["k1"] == pytest.approx(kl, rel=1e-13) and means["k3"] == pytest.approx(kl, rel=1e-13)
    assert abs(means["k2"] - kl) > 1e-2


def gradient_of_penalty(place, logits, reference, estimator, correction):
    """Expected gradient of the KL term of the loss alone, on-policy: one call per answer, by its probability."""
    objective = GRPO(aggregation="sum", kl_coef=1.0, kl_estimator=estimator, kl_correction=correction)
    return _weighted_penalty(place, objective, logits, reference)


def _weighted_penalty(place, objective, logits, reference):
    total = torch.zeros_like(logits)
    starts = place.lengths.cumsum(0) - place.lengths
    for answer, chance in enumerate(place.sequences(logits).detach().exp()):
        rows = slice(int(starts[answer]), int(starts[answer] + place.lengths[answer]))
        logps = place.logps(logits)[rows]
        zeros = torch.zeros(len(logps), dtype=torch.int64)
        x = PolicyLogps(
            logps,
            zeros,
            1,
            advantages=torch.zeros_like(logps.detach()),
            trees=zeros[:1],
            reference=place.logps(reference).detach()[rows],
        )
        total = total + chance * torch.autograd.grad(objective(x).total, logits)[0]
    return total


def test_gradients_of_the_kl_in_the_loss(bandit):
    """Of a single decision. Without correction k1 has none, k2 that of the KL, k3 that of KL(reference || policy)."""
    logits, reference = bandit.logits(1), bandit.logits(2).detach()
    reverse = torch.autograd.grad(bandit.kl(logits, reference), logits)[0]
    forward = torch.autograd.grad(bandit.kl(reference, logits), logits)[0]
    k1 = torch.autograd.grad((bandit.logps(logits).detach().exp() * bandit.logps(logits)).sum(), logits)[0]
    assert k1.abs().max() < EXACT  # the plain k1 loss, which the objective refuses

    def found(estimator, correction):
        return gradient_of_penalty(bandit, logits, reference, estimator, correction)

    for estimator, correction in (
        ("k2", "none"),
        ("k1", "importance"),
        ("k3", "importance"),
        ("k1", "straight-through"),
        ("k3", "straight-through"),
    ):
        assert off(found(estimator, correction), reverse) < EXACT, (estimator, correction)
    assert off(found("k3", "none"), forward) < EXACT
    assert off(forward, reverse) > 1e-3


def test_a_kl_per_token_in_the_loss_is_not_the_kl_of_answers(language):
    """It lacks what earlier tokens do to the states that later ones are drawn in; in the reward it is all there."""
    logits, reference = language.logits(1), language.logits(2).detach()
    whole = torch.autograd.grad(language.kl(logits, reference), logits)[0]
    for estimator, correction in (("k2", "none"), ("k3", "importance"), ("k3", "straight-through")):
        assert off(gradient_of_penalty(language, logits, reference, estimator, correction), whole) > 0.01


# ------------------------------------------------------------------------------------------------ PPO
def test_ppo_without_a_critic_s_help_is_reinforce_with_the_kl_to_go(place):
    """V = 0, lambda 1, one update: exactly the gradient of reward less beta KL; lambda below 1 is biased then."""
    logits, reference = place.logits(1), place.logits(2).detach()
    drawn = place.draw(logits, 1)
    k1 = (place.logps(logits) - place.logps(reference)).detach()
    rewards = token_rewards(place.rewards, BETA * k1, place.owners)

    def found(decay, values):
        advantages = gae(rewards, values, place.owners, discount=1.0, decay=decay)
        x = CriticLogps(
            place.logps(logits),
            place.owners,
            len(place.rewards),
            advantages=advantages * drawn.chances[place.owners],
            trees=drawn.trees,
            values=values,
            old_values=values,
            returns=values,
        )
        return -torch.autograd.grad(PPO()(x).total, logits)[0]

    target = place.objective(logits) - BETA * place.kl(logits, reference)
    true = torch.autograd.grad(target, logits)[0]
    zero = torch.zeros(len(place.owners), dtype=torch.float64)
    assert off(found(1.0, zero), true) < EXACT
    critic = torch.randn(place.num_states, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[
        place.states
    ]
    assert off(found(1.0, critic), true) < EXACT  # any function of the state is a baseline
    if place.num_states > 1:
        assert off(found(0.5, critic), true) > 1e-2


# ------------------------------------------------------------------------------------------------ off-policy
def corrected(place, logits, sampler, kind, high, ratio="token"):
    """REINFORCE on answers that another table sampled, with a correction."""
    bounds = {} if high is None else {"correction_high": high}
    objective = GRPO(aggregation="sum", ratio=ratio, correction=kind, **bounds)
    return place.expected_gradient(objective, logits, raw, drawn_by=sampler, sampler=sampler)


def nearby(place, logits, scale=0.25):
    """A table close to that of the policy, as an engine's of lower precision."""
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return logits.detach() + scale * noise


def test_corrections_against_the_sampler(language):
    """Of whole answers: exact, unless bounded below the largest ratio. Of tokens: better than none, never exact."""
    logits = language.logits(1)
    sampler, true = nearby(language, logits), language.true_gradient(logits)
    error = {
        (kind, high): off(corrected(language, logits, sampler, kind, high), true)
        for kind, high in (
            ("none", None),
            ("token-tis", 1e8),
            ("token-tis", 1.2),
            ("sequence-tis", 1e8),
            ("sequence-tis", 1.2),
            ("sequence-mask", 1e8),
        )
    }
    assert error["sequence-tis", 1e8] < EXACT and error["sequence-mask", 1e8] < 1e-15
    assert error["sequence-tis", 1.2] > 1e-3 and error["token-tis", 1e8] > 1e-3
    assert error["token-tis", 1e8] < error["none", None]


def test_token_weights_are_exact_where_an_answer_is_one_token(bandit):
    logits = bandit.logits(1)
    sampler, true = nearby(bandit, logits), bandit.true_gradient(logits)
    assert off(corrected(bandit, logits, sampler, "token-tis", 1e8), true) < EXACT
    assert off(corrected(bandit, logits, sampler, "none", None), true) > 1e-3


@pytest.mark.parametrize(
    "settings", [{"ratio": "product", "surrogate": "none"}, {"ratio": "token", "surrogate": "none"}]
)
def test_the_ratio_to_the_old_policy_corrects_as_the_weights_do(settings, language):
    """The bare ratio of whole answers is exact off-policy too; of tokens it is not."""
    logits = language.logits(1)
    old, true = nearby(language, logits), language.true_gradient(logits)
    found = language.expected_gradient(RLOO(**settings), logits, loo, drawn_by=old, size=2, old=old)
    if settings["ratio"] == "product":
        assert off(found, true) < EXACT
    else:
        assert off(found, true) > 1e-3


def test_a_clip_is_biased(language):
    logits = language.logits(1)
    old = nearby(language, logits)
    found = language.expected_gradient(RLOO(), logits, loo, drawn_by=old, size=2, old=old)
    assert off(found, language.true_gradient(logits)) > 1e-3


# ------------------------------------------------------------------------------------------------ known optimum
@pytest.mark.parametrize(
    "objective", [RLOO(), SUM, GRPO(surrogate="cispo", aggregation="sum")], ids=["rloo", "grpo", "cispo"]
)
def test_the_expected_gradient_leads_to_the_known_optimum(objective, bandit):
    """Reward less KL is best at softmax(log reference + reward) for beta = 1, and the steps end there."""
    reference, logits = bandit.logits(2).detach(), bandit.logits(1)
    target = (reference.log_softmax(-1) + bandit.rewards[torch.argsort(torch.tensor(bandit.tokens))]).softmax(-1)
    for _ in range(600):
        gaps = (bandit.sequences(logits) - bandit.sequences(reference)).detach()

        def penalised(rewards, groups, drawn, gaps=gaps):
            return leave_one_out_advantages(rewards - gaps[drawn.answers], groups)

        step = bandit.expected_gradient(objective, logits, penalised, size=2)
        logits = (logits + 3 * step).detach().requires_grad_()
    assert off(logits.softmax(-1), target) < 1e-4
