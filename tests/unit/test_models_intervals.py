"""Intervals hold what they promise, also where hardly a fraud was seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, chi2, sem, t

from zaslon.domain.estimates import Estimate, exact_interval, trials_needed
from zaslon.models.intervals import (
    bootstrap_interval,
    effective_count,
    mean_interval,
    sum_interval,
    wider,
)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (49, 49), (48, 49), (3, 1000), (0, 40)])
def test_a_rate_has_the_interval_of_clopper_and_pearson(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, "exact")
    found = exact_interval(hits / count, count)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_rate_is_certain_and_no_trial_tells_nothing() -> None:
    low, high = exact_interval(1.0, 49)
    assert (round(low, 3), high) == (0.927, 1.0)
    assert exact_interval(1.0, 0) == exact_interval(math.nan, 9) == (0.0, 1.0)


def test_unequal_weights_count_for_fewer() -> None:
    assert effective_count(np.full(7, 3.0)) == pytest.approx(7)
    assert 1 < effective_count(np.array([100.0, 1.0, 1.0])) < 1.1
    assert effective_count(np.zeros(0)) == 0.0


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("count", [20, 150])
def test_the_interval_holds_the_true_rate_in_95_of_100_samples(rate: float, count: int) -> None:
    hits = np.random.default_rng(1).binomial(count, rate, 2_000)
    bounds = {hit: exact_interval(hit / count, count) for hit in set(hits.tolist())}
    held = [bounds[hit][0] <= rate <= bounds[hit][1] for hit in hits.tolist()]
    assert np.mean(held) >= 0.945


def bca_and_plain(seed: int) -> tuple[Estimate, Estimate, float]:
    random = np.random.default_rng(seed)
    values = random.exponential(1.0, 30)
    drawn = values[random.integers(0, 30, (1_000, 30))].mean(axis=1)
    left_out = (values.sum() - values) / 29
    plain = bootstrap_interval(float(values.mean()), drawn, np.empty(0))
    return bootstrap_interval(float(values.mean()), drawn, left_out), plain, float(values.mean())


def test_skewed_values_move_the_interval_to_their_long_side() -> None:
    found = [bca_and_plain(seed) for seed in range(50)]
    assert all(bca.high > plain.high for bca, plain, _ in found)
    assert np.mean([bca.low <= 1 <= bca.high for bca, _, _ in found]) > 0.85


def test_replicates_that_cannot_be_corrected_give_the_plain_interval() -> None:
    same = bootstrap_interval(1.0, np.ones(10), np.ones(5))
    assert (same.low, same.high) == (1.0, 1.0)
    above = bootstrap_interval(0.0, np.linspace(1, 2, 101), np.empty(0))
    assert (above.low, above.high) == pytest.approx((1.025, 1.975))
    none = bootstrap_interval(0.5, np.array([math.nan]), np.empty(0))
    assert math.isnan(none.low)
    assert wider(none, 0.1, 0.9) == Estimate(0.5, 0.1, 0.9)


@pytest.mark.parametrize(("rate", "needed"), [(0.0, 183), (0.01, 755), (0.03, 917)])
def test_the_frauds_that_would_show_a_goal_are_known(rate: float, needed: int) -> None:
    found = trials_needed(rate, 0.02, 20)
    assert found is not None
    assert found == pytest.approx(needed, rel=0.02)
    low, high = exact_interval(rate, found)
    assert high <= 0.02 or low > 0.02
    assert trials_needed(0.02, 0.02, 20) is None


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_a_sum_of_equal_parts_has_the_interval_of_a_count(count: int) -> None:
    low, high = sum_interval(np.full(count, 3.0), 3.0)
    assert low == pytest.approx(3 * (chi2.ppf(0.025, 2 * count) / 2 if count else 0))
    assert high == pytest.approx(3 * chi2.ppf(0.975, 2 * count + 2) / 2)


def test_a_sum_holds_its_expectation_in_95_of_100_samples() -> None:
    random = np.random.default_rng(3)
    held = []
    for _ in range(2_000):
        parts = random.exponential(1.0, random.poisson(4.0))
        low, high = sum_interval(parts, max(3.0, parts.max(initial=0.0)))
        held.append(low <= 4.0 <= high)
    assert np.mean(held) >= 0.945


def test_a_mean_of_few_values_has_students_interval() -> None:
    values = np.array([1.0, 4.0, 2.5])
    expected = t.interval(0.95, 2, loc=2.5, scale=sem(values))
    assert mean_interval(values) == pytest.approx(expected)
