"""Two models on the same transactions: figures, intervals and the verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks.model_comparison import paired_scores
from sklearn.metrics import average_precision_score, roc_auc_score

from zaslon.domain.errors import DataError
from zaslon.domain.estimates import Estimate
from zaslon.models.comparison import (
    MEASURES,
    Comparison,
    Scored,
    compare_scores,
    t_test_by_replicates,
    t_test_p,
)
from zaslon.models.delong import DeLong
from zaslon.models.verdict import FRAUDS_MIN, Judged, Verdict, judge


def compared(scored: Scored, replicates: int = 300, seed: int = 1) -> Comparison:
    return compare_scores(scored, false_positive_rate_max=0.05, seed=seed, replicates=replicates)


def pair(area_a: float, area_b: float, **given: Any) -> Scored:
    sizes = {"frauds": 200, "good": 3_000, "shared": 0.7, "seed": 1} | given
    return paired_scores(sizes.pop("seed"), area_a, area_b, **sizes)


def recall_and_loss(score: Any, scored: Scored, rate: float) -> tuple[float, float]:
    """By trying every score as the threshold."""
    fraud = scored.is_fraud == 1
    best, lost = 0.0, float(scored.amount_minor[fraud].sum())
    for cut in np.unique(score[fraud])[::-1]:
        if np.mean(score[~fraud] >= cut) <= rate + 1e-12:
            best = float(np.mean(score[fraud] >= cut))
            lost = float(scored.amount_minor[fraud & (score < cut)].sum())
    return best, lost * 30 / scored.days


def test_the_measures_are_those_of_their_definitions() -> None:
    scored = pair(0.8, 0.85, days=10)
    found = compared(scored, replicates=5).measures
    assert tuple(found) == MEASURES
    for score, side in ((scored.a, "a"), (scored.b, "b")):
        recall, loss = recall_and_loss(score, scored, 0.05)
        expected = (
            roc_auc_score(scored.is_fraud, score), average_precision_score(scored.is_fraud, score),
            recall, loss,
        )  # fmt: skip
        assert [getattr(measure, side) for measure in found.values()] == pytest.approx(expected)


def test_a_weighted_sample_gives_the_measures_of_its_population() -> None:
    scored = pair(0.8, 0.85)
    weight = np.where(scored.is_fraud == 1, 2.0, 25.0)
    found = compared(replace(scored, weight=weight), replicates=5).measures
    plain = compared(scored, replicates=5).measures
    expected = average_precision_score(scored.is_fraud, scored.b, sample_weight=weight)
    assert found["pr_auc"].b == pytest.approx(expected)
    assert found["roc_auc"].b == pytest.approx(plain["roc_auc"].b)
    assert found["loss_minor_per_month"].b == pytest.approx(2 * plain["loss_minor_per_month"].b)


def test_the_same_seed_gives_the_same_figures() -> None:
    scored = pair(0.8, 0.82)
    assert compared(scored) == compared(scored)
    assert compared(scored, seed=2) != compared(scored)


def test_swapped_models_give_the_opposite_differences() -> None:
    scored = pair(0.8, 0.84)
    there, back = compared(scored), compared(replace(scored, a=scored.b, b=scored.a))
    for name in MEASURES:
        one, other = there.measures[name], back.measures[name]
        assert (one.difference.value, one.difference.low, one.p) == pytest.approx(
            (-other.difference.value, -other.difference.high, other.p)
        )
    assert (judge(there).verdict, judge(back).verdict) == (Verdict.BETTER, Verdict.WORSE)


def test_p_is_small_where_the_interval_holds_no_zero() -> None:
    sides = set()
    for seed in range(12):
        scored = pair(0.8, 0.83, frauds=100, seed=seed)
        for measure in compared(scored, replicates=200).measures.values():
            low, high = measure.difference.low, measure.difference.high
            if abs(measure.p - 0.05) > 0.02:  # quantiles of 200 replicates are rough
                assert (measure.p < 0.05) == (low > 0 or high < 0)
                sides.add(measure.p < 0.05)
    assert sides == {True, False}


def test_pairing_makes_the_interval_narrow() -> None:
    def width(shared: float) -> float:
        difference = compared(pair(0.8, 0.8, shared=shared)).measures["roc_auc"].difference
        return difference.high - difference.low

    assert width(0.95) < 0.5 * width(0.0)


def test_the_bootstrap_and_delong_know_the_same_error() -> None:
    found = compared(pair(0.8, 0.82, frauds=300), replicates=1_000)
    difference = found.measures["roc_auc"].difference
    assert (difference.high - difference.low) / 3.92 == pytest.approx(found.delong.standard_error, rel=0.1)


def test_few_frauds_that_differ_show_no_difference() -> None:
    scored = pair(0.99, 0.99, shared=0.0)
    fraud = np.flatnonzero(scored.is_fraud)
    a, b = np.where(scored.is_fraud == 1, 0.9, 0.1), np.where(scored.is_fraud == 1, 0.9, 0.1)
    a[fraud[:5]] = 0.01  # five frauds are stopped by the second model only: 2 / 2^5 is more than 5 %
    found = compared(replace(scored, a=a, b=b)).measures
    for name in ("recall", "loss_minor_per_month"):
        assert found[name].p >= 2 / 2**5 * (1 - 1e-9)
        assert found[name].difference.low < 0 < found[name].difference.high
    a[fraud[:12]] = 0.01
    assert compared(replace(scored, a=a, b=b)).measures["recall"].p < 0.05


@pytest.mark.parametrize("frauds", [1, 2, 5])
def test_a_handful_of_frauds_shows_no_difference_in_any_measure(frauds: int) -> None:
    scored = pair(0.6, 0.999, shared=0.0, frauds=frauds)
    for name, measure in compared(scored).measures.items():
        assert measure.p > 0.05, name
        assert measure.difference.low < 0 < measure.difference.high, name
        if name != "loss_minor_per_month":
            assert -1 <= measure.difference.low < measure.difference.high <= 1


def test_two_perfect_models_are_not_certainly_equal() -> None:
    scored = pair(0.8, 0.8)
    a = np.where(scored.is_fraud == 1, 0.8, 0.2)
    found = compared(replace(scored, a=a, b=a / 2)).measures
    assert found["roc_auc"].difference.low < 0 < found["roc_auc"].difference.high
    assert found["recall"].difference.low < -0.01


def test_a_model_is_not_better_than_itself() -> None:
    scored = pair(0.8, 0.8)
    found = compared(replace(scored, b=scored.a))
    assert all(m.difference == Estimate(0.0, 0.0, 0.0) and m.p == 1.0 for m in found.measures.values())
    assert found.t_test_p == found.delong.p == 1.0
    assert judge(found).verdict == Verdict.NOT_SHOWN


def test_unequal_weights_within_a_class_are_refused() -> None:
    scored = pair(0.8, 0.8)
    with pytest.raises(DataError, match="weights here differ"):
        replace(scored, weight=np.arange(1.0, len(scored.a) + 1))
    with pytest.raises(DataError, match="no frauds"):
        replace(scored, is_fraud=np.zeros(len(scored.a), np.int8))


def test_more_replicates_bring_the_t_test_any_p() -> None:
    falling = 0
    for seed in range(10):
        by_count = t_test_by_replicates(pair(0.8, 0.8, good=1_000, seed=seed), (10, 1_000), seed=seed)
        assert list(by_count) == [10, 1_000]
        falling += by_count[1_000] < 1e-6
    assert falling >= 8, "all pairs are equally good, and nearly all become significant"


def test_the_t_test_of_equal_replicates_is_defined() -> None:
    assert t_test_p(np.ones(10), np.ones(10)) == 1.0
    assert t_test_p(np.ones(10), np.zeros(10)) == 0.0


def given(p: float, low: float, high: float, *, error: float = 0.005, frauds: int = 400) -> Comparison:
    """A comparison with these figures of ROC-AUC."""
    found = compared(pair(0.8, 0.8), replicates=3)
    value = (low + high) / 2
    measure = replace(found.measures["roc_auc"], difference=Estimate(value, low, high), p=p)
    return replace(
        found, measures={**found.measures, "roc_auc": measure},
        delong=DeLong(0.8, 0.8 + value, error, p), frauds=frauds,
        frauds_effective=frauds, days=10,
    )  # fmt: skip


def test_interval_and_delong_must_agree() -> None:
    assert judge(given(0.01, 0.001, 0.02)).verdict == Verdict.BETTER
    assert judge(given(0.01, -0.02, -0.001)).verdict == Verdict.WORSE
    split = given(0.06, 0.001, 0.02)
    assert judge(split).verdict == Verdict.NOT_SHOWN
    assert judge(given(0.04, -0.001, 0.02)).verdict == Verdict.NOT_SHOWN


def test_no_difference_counts_only_with_enough_power() -> None:
    assert judge(given(0.5, -0.01, 0.02, error=0.007)).verdict == Verdict.NOT_SHOWN
    unsure = judge(given(0.5, -0.02, 0.03, error=0.0143))
    assert unsure.verdict == Verdict.NOT_ENOUGH_EVIDENCE
    assert unsure.days_needed == 41, "twice the error allowed takes four times the days"
    assert "about 41 days would be enough" in unsure.reasons[-1]


def test_too_few_frauds_are_never_enough() -> None:
    few: Judged = judge(given(0.001, 0.01, 0.03, frauds=FRAUDS_MIN // 2))
    assert (few.verdict, few.days_needed) == (Verdict.NOT_ENOUGH_EVIDENCE, 20)
    assert judge(given(0.001, 0.01, 0.03, error=math.nan, frauds=1)).days_needed == 10 * FRAUDS_MIN


def test_a_measure_that_says_the_opposite_is_named() -> None:
    found = given(0.01, 0.001, 0.02)
    loss = replace(found.measures["loss_minor_per_month"], difference=Estimate(9.0, 5.0, 12.0), p=0.01)
    against = replace(found, measures={**found.measures, "loss_minor_per_month": loss})
    assert judge(against).verdict == Verdict.BETTER
    assert "Loss says the opposite (higher, p 0.01)." in judge(against).reasons


@pytest.mark.parametrize(("frauds", "verdicts"), [(100, (Verdict.BETTER, Verdict.WORSE)), (10, None)])
def test_a_perfect_model_is_better_than_one_that_tells_nothing(
    frauds: int, verdicts: tuple[Verdict, Verdict] | None
) -> None:
    """All replicates agree: an interval without width is about the difference, not about 0."""
    is_fraud = np.repeat([1, 0], [frauds, 300]).astype(np.int8)
    perfect = is_fraud.astype(np.float64)
    constant = np.full_like(perfect, 0.5)
    amounts, weight = np.full(len(is_fraud), 100), np.ones(len(is_fraud))
    found = [
        judge(compare_scores(
            Scored(a, b, is_fraud, amounts, weight, 7), false_positive_rate_max=0.05, seed=1, replicates=50
        )).verdict
        for a, b in ((constant, perfect), (perfect, constant))
    ]  # fmt: skip
    assert tuple(found) == (verdicts or (Verdict.NOT_ENOUGH_EVIDENCE,) * 2)
