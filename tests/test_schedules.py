"""Schedules against closed forms."""

import math

import pytest

from inkproof.schedules import StepValues, constant, linear, one_cycle


def values(schedule, step: int, steps: int) -> StepValues:
    given = schedule(step, steps)
    assert isinstance(given, StepValues)
    return given


def test_constant_never_moves() -> None:
    assert {constant(0.3)(step, 10) for step in range(10)} == {StepValues(0.3)}


def test_one_cycle_has_the_published_corners() -> None:
    schedule = one_cycle(1.0)
    assert values(schedule, 0, 100) == pytest.approx((1 / 25, 0.95))
    assert values(schedule, 25, 100) == pytest.approx((1.0, 0.85))
    assert values(schedule, 100, 100) == pytest.approx((1e-5, 0.95))


def test_one_cycle_follows_a_cosine_on_both_sides() -> None:
    schedule = one_cycle(1.0)
    low, peak = 1 / 25, 1.0
    for step in range(25):
        assert values(schedule, step, 100).lr == pytest.approx(
            low + (peak - low) * (1 - math.cos(math.pi * step / 25)) / 2
        )
    assert values(schedule, 25 + 75 // 3, 100).lr == pytest.approx(1e-5 + (1 - 1e-5) * 0.75)


def test_linear_rises_to_its_peak_and_ends_near_zero() -> None:
    rates = [values(linear(0.2, warm_up=0.2), step, 100).lr for step in range(100)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == 19
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.2 / 80)
    assert linear(0.2, warm_up=0.0)(0, 10) == StepValues(0.2)
