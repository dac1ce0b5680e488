"""Confidence sequences against their definition, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zaslon.domain.errors import DataError
from zaslon.models.sequential import confidence_sequence, loss_differences, stopped_differences


def naive(values: np.ndarray, alpha: float, grid: int) -> list[tuple[float, float]]:
    """Means between 0 and 1 that neither bet refutes, after every observation: the paper's definition."""
    capitals = {k: [0.5, 0.5] for k in range(1, grid)}
    found, total, squares, low, high = [], 0.5, 0.25, 0.0, 1.0
    for t, x in enumerate(values.tolist(), start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (squares / t * t * math.log(1 + t)))
        for k, capital in capitals.items():
            m = k / grid
            capital[0] *= 1 + min(bet, 0.5 / m) * (x - m)
            capital[1] *= 1 - min(bet, 0.5 / (1 - m)) * (x - m)
        total += x
        squares += (x - total / (t + 1)) ** 2
        kept = [k / grid for k, capital in capitals.items() if max(capital) < 1 / alpha]
        low, high = max(low, min(kept)), min(high, max(kept))
        found.append((low, high))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_bounds_equal_their_definition(seed: int) -> None:
    values = np.random.default_rng(seed).choice([0.0, 0.5, 1.0], 120, p=[0.1, 0.6, 0.3])
    lower, upper = confidence_sequence(values, range(1, 121), low=0, high=1)
    for (low, high), found in zip(naive(values, 0.05, 400), zip(lower, upper, strict=True), strict=True):
        assert found == pytest.approx((low, high), abs=1 / 400)


def test_bounds_only_become_narrower_and_follow_the_range() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 500)
    looks = [5, 50, 200, 500]
    lower, upper = confidence_sequence(values, looks, low=-1, high=1)
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) <= 0).all()
    assert lower[-1] < values.mean() < upper[-1]
    scaled = confidence_sequence(1_000 * values + 7, looks, low=-993, high=1_007)
    assert scaled[0] == pytest.approx(1_000 * lower + 7, abs=1e-3)
    alone = confidence_sequence(values[:50], [50], low=-1, high=1)
    assert alone[0][0] == pytest.approx(lower[1], abs=1e-6), "later values do not change an earlier look"


def test_nothing_seen_says_nothing() -> None:
    lower, upper = confidence_sequence(np.empty(0), [0], low=-1, high=1)
    assert (lower.tolist(), upper.tolist()) == ([-1], [1])
    lower, upper = confidence_sequence(np.zeros(3), [1, 3], low=-1, high=1)
    assert (lower < 0).all()
    assert (upper > 0).all()


def test_a_value_outside_the_range_is_refused() -> None:
    for bad in (2.0, -1.1, math.nan):
        with pytest.raises(DataError, match="not between -1 and 1"):
            confidence_sequence(np.array([0.0, bad]), [2], low=-1, high=1)


def test_differences_are_those_of_the_second_model() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert stopped_differences(a, b).tolist() == [0, -1, 1, 0]
    amounts = np.array([100, 200, 900, 50])
    assert loss_differences(a, b, amounts, 500).tolist() == [0, 200, -500, 0]
