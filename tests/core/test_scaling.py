"""Laws of scale: what has to follow from the equations, whatever their coefficients."""

import math
from itertools import pairwise

import pytest

from tunesmith.scaling import (
    HALF_LIFE,
    REFIT,
    Law,
    by_law,
    by_ratio,
    effective_tokens,
    epochs_for,
    for_service,
    hours,
    inference_flops,
    tokens_by_law,
    training_flops,
)

ROUND = Law(E=1.5, A=300.0, B=900.0, a=0.4, b=0.3)
LAWS = pytest.mark.parametrize("law", [REFIT, ROUND], ids=["refit", "round"])
FLOPS = pytest.mark.parametrize("flops", [1e19, 1e21, 5.76e23, 1e25])


@LAWS
@FLOPS
def test_the_best_size_spends_all_of_the_compute_and_no_neighbour_is_better(law, flops):
    best = by_law(flops, law)
    assert 6 * best.parameters * best.tokens == pytest.approx(flops, rel=1e-12)
    # dL/dN along 6ND = C: the two terms of the loss fall and rise at the same rate
    slope = law.a * law.A / best.parameters**law.a - law.b * law.B / best.tokens**law.b
    assert abs(slope) < 1e-9
    for factor in (0.9, 1.1):
        other = law.loss(best.parameters * factor, best.tokens / factor)
        assert other > law.loss(best.parameters, best.tokens)


def test_the_law_fitted_again_keeps_to_about_twenty_tokens_per_parameter():
    # the table of the re-fit: 24 at 1e19 FLOPs, 22 at 1e21, 18 at Chinchilla's 5.76e23, 17 at 1e25
    ratios = [by_law(flops).ratio for flops in (1e19, 1e21, 5.76e23, 1e25)]
    assert [round(ratio) for ratio in ratios] == [24, 22, 18, 17]


@FLOPS
def test_twenty_tokens_per_parameter(flops):
    found = by_ratio(flops)
    assert found.parameters == pytest.approx(math.sqrt(flops / 120))
    assert found.flops == pytest.approx(flops)
    assert found.ratio == pytest.approx(20)


@LAWS
@FLOPS
def test_tokens_for_a_size_are_those_of_the_best_size(law, flops):
    best = by_law(flops, law)
    assert tokens_by_law(best.parameters, law) == pytest.approx(best.tokens, rel=1e-9)


@LAWS
def test_without_service_the_cheapest_model_is_the_best_size(law):
    best = by_law(1e21, law)
    found = for_service(law.loss(best.parameters, best.tokens), 0.0, law)
    assert found.parameters == pytest.approx(best.parameters, rel=1e-5)
    assert found.tokens == pytest.approx(best.tokens, rel=1e-5)


@LAWS
def test_the_more_is_served_the_smaller_the_model_and_the_lower_the_bill(law):
    best = by_law(1e21, law)
    loss = law.loss(best.parameters, best.tokens)
    sizes = []
    for served in (1e10, 1e12, 1e14):
        found = for_service(loss, served, law)
        sizes.append(found.parameters)
        assert law.loss(found.parameters, found.tokens) == pytest.approx(loss, rel=1e-9)

        def bill(size, served=served):
            return training_flops(size, law.tokens_for(size, loss)) + inference_flops(size, served)

        assert bill(found.parameters) < min(bill(0.98 * found.parameters), bill(1.02 * found.parameters))
        assert bill(found.parameters) < bill(best.parameters)
    assert best.parameters > sizes[0] > sizes[1] > sizes[2]


def test_a_loss_below_the_end_of_the_law_is_refused():
    with pytest.raises(ValueError, match=r"the law ends at 1\.8172"):
        for_service(1.8, 1e12)
    assert math.isinf(REFIT.tokens_for(1e9, 2.0))  # a model of this size never gets there


def test_repeated_tokens_are_worth_less_and_less():
    assert effective_tokens(100, 1) == 100
    assert effective_tokens(100, 0.5) == 50
    worth = [effective_tokens(1.0, n) for n in range(1, 200)]
    gains = [after - before for before, after in pairwise(worth)]
    assert all(0 < later < earlier < 1 for earlier, later in pairwise(gains))
    assert worth[-1] < 1 + HALF_LIFE  # what infinitely many passes are worth
    # U (1 + R* (1 - exp(-3 / R*))): four passes are worth 93% of as many new tokens
    assert worth[3] == pytest.approx(1 + 15.39 * (1 - math.exp(-3 / 15.39)))
    assert worth[3] / 4 == pytest.approx(0.93, abs=0.005)


@pytest.mark.parametrize("epochs", [0.3, 1.0, 4.0, 16.0, 60.0])
def test_passes_for_an_amount_undo_the_amount_for_passes(epochs):
    assert epochs_for(7e9, effective_tokens(7e9, epochs)) == pytest.approx(epochs)


def test_no_number_of_passes_makes_much_of_little():
    assert math.isinf(epochs_for(1.0, 1 + HALF_LIFE))


def test_flops_of_training():
    assert training_flops(10, 100) == 6000
    assert training_flops(10, 100, trained=1) == 4200  # the frozen weights need no gradient of their own
    assert training_flops(10, 100, recompute=True) == 8000
    assert training_flops(10, 100) - inference_flops(10, 100) == 4000


def test_hours_go_with_the_share_of_the_peak():
    low, likely, high = hours(3600 * 8 * 1e15, 8, 1e15)
    assert (low, likely, high) == pytest.approx((1 / 0.45, 1 / 0.35, 1 / 0.25))
