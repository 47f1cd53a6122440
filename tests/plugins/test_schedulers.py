"""The schedules: exact end points, monotone where claimed, no state. Derivations stand in the schedules' docstrings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
from pydantic import ValidationError

from tunesmith import ConfigError, Scheduler, plugins
from tunesmith.config import build
from tunesmith_plugins.schedulers import WSD, Constant, Cosine, InverseSqrt, Linear

ALL = (Constant, Linear, Cosine, WSD, InverseSqrt)
TOTALS = (1, 2, 3, 5, 8, 64, 1000)
WARMUPS = (0, 0.01, 0.1, 0.5, 0.999, 1, 3, 64, 10_000)
FINALS = (0.0, 0.1, 1 / 3, 0.7, 1.0)
SHAPES = ("sqrt", "linear", "cosine")


def curve(schedule: Scheduler, total: int) -> list[float]:
    return [schedule(step, total) for step in range(total)]


def every() -> Iterator[Scheduler]:
    """Every schedule with every combination of settings worth trying."""
    for warmup in WARMUPS:
        yield Constant(warmup=warmup)
        for final in FINALS:
            yield Linear(warmup=warmup, final=final)
            yield Cosine(warmup=warmup, final=final)
            yield InverseSqrt(warmup=warmup, final=final, timescale=7)
            for shape in SHAPES:
                for decay in (0.0, 0.2, 1.0):
                    yield WSD(warmup=warmup, final=final, decay=decay, decay_shape=shape)


def test_first_step_after_the_warmup_is_exactly_the_peak() -> None:
    for schedule in every():
        for total in TOTALS:
            warm = schedule.warmup_steps(total)
            assert schedule(warm, total) == 1.0, (schedule, total)


def test_warmup_rises_in_equal_parts_and_never_stands_at_zero() -> None:
    for schedule in every():
        for total in TOTALS:
            warm = schedule.warmup_steps(total)
            assert 0 <= warm <= total
            expected = [(step + 1) / (warm + 1) for step in range(warm)]
            assert curve(schedule, total)[:warm] == expected, (schedule, total)


@pytest.mark.parametrize(
    ("warmup", "total", "steps"),
    [(0, 10, 0), (0.3, 10, 3), (0.25, 10, 2), (1, 10, 1), (4, 10, 4), (10, 10, 10), (99, 10, 10), (0.999, 1, 1)],
)
def test_warmup_is_a_share_below_one_and_steps_otherwise(warmup: float, total: int, steps: int) -> None:
    # 0.25 of 10 is 2.5, which rounds to the even 2
    assert Linear(warmup=warmup).warmup_steps(total) == steps


def test_a_warmup_as_long_as_the_run_never_reaches_the_peak() -> None:
    for schedule in (cls(warmup=4) for cls in ALL):
        assert curve(schedule, 4) == [1 / 5, 2 / 5, 3 / 5, 4 / 5]
        assert curve(schedule, 2) == [1 / 3, 2 / 3]


def test_falls_after_the_warmup_and_stays_between_floor_and_peak() -> None:
    for schedule in every():
        final = getattr(schedule, "final", 1.0)
        for total in TOTALS:
            after = curve(schedule, total)[schedule.warmup_steps(total) :]
            assert all(a >= b for a, b in pairwise(after)), (schedule, total)
            assert all(final <= value <= 1.0 for value in after), (schedule, total)


def test_one_past_the_last_step_is_the_floor_exactly_and_so_is_everything_later() -> None:
    for final in FINALS:
        schedules = [Linear(final=final), Cosine(final=final)]
        schedules += [WSD(final=final, decay=1.0, decay_shape=shape) for shape in SHAPES]
        for schedule in schedules:
            for total in TOTALS:
                assert schedule(total, total) == schedule(total + 5, total) == final, (schedule, total)


def test_last_step_is_what_the_docstrings_say() -> None:
    for total in (1, 2, 8, 1000):
        for final in FINALS:
            last = total - 1
            part = 1 - final
            assert Linear(final=final)(last, total) == pytest.approx(final + part / total)
            sine = math.sin(math.pi / (2 * total)) ** 2
            assert Cosine(final=final)(last, total) == pytest.approx(final + part * sine)
            heights = {"linear": 1 / total, "sqrt": 1 - math.sqrt(1 - 1 / total), "cosine": sine}
            for shape, height in heights.items():
                wsd = WSD(final=final, decay=1.0, decay_shape=shape)
                assert wsd(last, total) == pytest.approx(final + part * height)


def test_linear_by_hand() -> None:
    assert curve(Linear(), 4) == [1.0, 0.75, 0.5, 0.25]
    assert curve(Linear(warmup=2, final=0.5), 6) == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8])


def test_cosine_by_hand() -> None:
    high = (2 + math.sqrt(2)) / 4
    assert curve(Cosine(final=0), 4) == pytest.approx([1, high, 0.5, 1 - high])
    assert Cosine()(1000, 1000) == 0.1


def test_wsd_by_hand() -> None:
    assert curve(WSD(decay=0.5, decay_shape="linear"), 8) == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert curve(WSD(decay=0.5), 8)[4:] == pytest.approx([1 - math.sqrt(p) for p in (0, 0.25, 0.5, 0.75)])
    assert curve(WSD(decay=0), 8) == [1.0] * 8


def test_wsd_decay_is_a_share_of_the_whole_run_not_of_what_the_warmup_leaves() -> None:
    # half of 8 steps is 4, although only 6 are left after the warm-up
    values = curve(WSD(warmup=2, decay=0.5, decay_shape="linear"), 8)
    assert values[2:] == [1, 1, 1, 0.75, 0.5, 0.25]
    # and a decay that does not fit takes all that is left
    assert curve(WSD(warmup=4, decay=1.0, decay_shape="linear"), 8)[4:] == [1, 0.75, 0.5, 0.25]


def test_inverse_sqrt_by_hand_and_whatever_the_length() -> None:
    schedule = InverseSqrt(timescale=3)
    expected = [1, math.sqrt(3 / 4), math.sqrt(3 / 5), math.sqrt(1 / 2)]
    assert curve(schedule, 4) == pytest.approx(expected)
    assert [schedule(step, 10**6) for step in range(4)] == curve(schedule, 4)
    assert schedule(9, 10) == 0.5
    assert InverseSqrt(timescale=3, final=0.6)(9, 10) == 0.6


def test_order_of_calls_does_not_matter() -> None:
    for schedule in every():
        backwards = [schedule(step, 64) for step in reversed(range(64))]
        assert backwards[::-1] == curve(schedule, 64)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (Linear, {"final": -0.1}),
        (Linear, {"final": 1.1}),
        (Linear, {"warmup": -1}),
        (Linear, {"warmup": math.nan}),
        (Cosine, {"final": 2}),
        (WSD, {"decay": 1.5}),
        (WSD, {"decay_shape": "steps"}),
        (InverseSqrt, {"timescale": 0}),
        (Constant, {"final": 0.5}),
    ],
)
def test_settings_out_of_range_are_refused(cls: type[Scheduler], settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        cls.model_validate(settings)


def test_schedules_are_found_by_name_and_built_with_settings() -> None:
    registry = plugins.load()
    assert {cls.name for cls in ALL} <= set(registry.names("scheduler"))
    built = build(registry, "scheduler", {"name": "wsd", "decay": 0.1})
    assert isinstance(built, WSD)
    assert built.decay == 0.1
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        build(registry, "scheduler", "cosin")
