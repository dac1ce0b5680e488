"""DeLong's test against its definition over all pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from benchmarks.model_comparison import paired_scores
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from zaslon.models.delong import DeLong, delong, error_needed, power

scores = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25)


def naive(a: Any, b: Any, is_fraud: Any) -> tuple[float, float, float]:
    """Both areas and the standard error of their difference, as DeLong et al. wrote them down in 1988."""
    of_fraud, of_good = [], []
    for score in (a, b):
        frauds, good = score[is_fraud == 1], score[is_fraud == 0]
        wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in good] for x in frauds]
        of_fraud.append([sum(row) / len(good) for row in wins])
        of_good.append([sum(column) / len(frauds) for column in zip(*wins, strict=True)])
    s10, s01 = np.cov(of_fraud), np.cov(of_good)
    s = s10 / len(of_fraud[0]) + s01 / len(of_good[0])
    variance = s[0, 0] + s[1, 1] - 2 * s[0, 1]
    return float(np.mean(of_fraud[0])), float(np.mean(of_fraud[1])), math.sqrt(max(variance, 0))


@given(scores, scores)
def test_the_fast_form_equals_the_definition(frauds: Any, good: Any) -> None:
    a, b = np.array(frauds + good, np.float64).T
    is_fraud = np.array([1] * len(frauds) + [0] * len(good), np.int8)
    found, (area_a, area_b, error) = delong(a, b, is_fraud), naive(a, b, is_fraud)
    assert (found.a, found.b) == pytest.approx((area_a, area_b))
    assert found.a == pytest.approx(roc_auc_score(is_fraud, a))
    assert found.standard_error == pytest.approx(error, abs=1e-7)
    if error > 1e-6:
        assert found.p == pytest.approx(2 * norm.sf(abs(area_b - area_a) / error), abs=1e-9)


def test_the_order_of_transactions_and_the_scale_do_not_matter() -> None:
    scored = paired_scores(1, 0.8, 0.85, frauds=60, good=500, shared=0.6)
    shuffled = np.random.default_rng(2).permutation(560)
    found = delong(scored.a, scored.b, scored.is_fraud)
    again = delong(scored.a[shuffled] * 7 - 3, np.log(scored.b[shuffled]), scored.is_fraud[shuffled])
    assert again.p == pytest.approx(found.p)
    swapped = delong(scored.b, scored.a, scored.is_fraud)
    assert (swapped.p, swapped.difference) == pytest.approx((found.p, -found.difference))


def test_equal_scores_and_single_frauds_show_nothing() -> None:
    a, is_fraud = np.array([0.9, 0.1, 0.5, 0.3]), np.array([1, 0, 1, 0], np.int8)
    assert delong(a, a, is_fraud) == DeLong(1.0, 1.0, 0.0, 1.0)
    one = delong(a, a[::-1].copy(), np.array([1, 0, 0, 0], np.int8))
    assert math.isnan(one.standard_error)
    assert one.p == 1.0


def test_the_error_needed_gives_the_power_wanted() -> None:
    assert power(0.02, error_needed(0.02, 0.8, 0.05), 0.05) == pytest.approx(0.8)
    assert power(1.959964, 1.0, 0.05) == pytest.approx(0.5, abs=1e-6)
