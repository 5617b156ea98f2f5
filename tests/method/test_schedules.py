"""Schedules: ends, monotony, and no state."""

import math

import pytest

from slotseg.method.schedules import learning_rate, teacher_momentum


@pytest.mark.parametrize(
    ("step", "warmup", "expected"),
    [
        (0, 10, 0.02),
        (5, 10, 0.02 * (99 * 0.5 + 1)),
        (10, 10, 2.0),
        (55, 10, (2 + 0.5) / 2),
        (100, 10, 0.5),
        (0, 0, 2.0),
        (50, 0, (2 + 0.5) / 2),
        (100, 0, 0.5),
    ],
)
def test_learning_rate_at_its_corners(step: int, warmup: int, expected: float) -> None:
    rate = learning_rate(step, base=2.0, total_steps=100, warmup_steps=warmup, final=0.5)
    assert rate == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_learning_rate_rises_then_falls(warmup: int) -> None:
    rates = [learning_rate(t, base=1.0, total_steps=40, warmup_steps=warmup) for t in range(41)]
    assert rates[: warmup + 1] == sorted(set(rates[: warmup + 1]))
    assert rates[warmup:] == sorted(set(rates[warmup:]), reverse=True)
    assert max(rates) == rates[warmup] == 1.0


def test_teacher_momentum_rises_from_base_to_one() -> None:
    values = [teacher_momentum(t, base=0.9, total_steps=20) for t in range(21)]
    assert values == sorted(set(values))
    assert (values[0], values[10], values[20]) == pytest.approx((0.9, 0.95, 1.0))
    assert values[5] == pytest.approx(1 - 0.1 * (math.sqrt(0.5) + 1) / 2)
