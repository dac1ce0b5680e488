"""The live verdict: more recall at no more false stops, at every look."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from zaslon.models.fraud_series import NO_SERIES
from zaslon.models.live import LiveComparison, LiveFrauds, compare_live, judge_live
from zaslon.models.sequential import confidence_sequence, stopped_differences
from zaslon.models.verdict import Judged, Verdict

RANDOM_SEED = 11


def found(
    recall_a: float,
    recall_b: float,
    frauds: int,
    *,
    rates: tuple[float, float] = (0.02, 0.02),
    good: int = 100_000,
    judged_share: float = 0.9,
    of_series: int = 1,
) -> LiveComparison:
    """Frauds of which each model stops a share, as alike as these shares allow; so many of a series."""
    draw = np.random.default_rng(RANDOM_SEED).random(-(-frauds // of_series)).repeat(of_series)[:frauds]
    return live(draw < recall_a, draw < recall_b, np.arange(frauds) // of_series, rates, good, judged_share)


def live(
    a: NDArray[np.bool_], b: NDArray[np.bool_], series: NDArray[np.int64],
    rates: tuple[float, float] = (0.02, 0.02), good: int = 100_000, judged_share: float = 0.9,
) -> LiveComparison:  # fmt: skip
    stopped = [round(rate * good) for rate in rates]
    return compare_live(
        LiveFrauds(a, b, series), good=good, good_stopped_a=stopped[0], good_stopped_b=stopped[1],
        days=37, days_counted=30, judged_share=judged_share,
    )  # fmt: skip


def judged(comparison: LiveComparison) -> Judged:
    return judge_live(comparison, false_positive_rate_max=0.05)


def test_a_challenger_that_finds_more_is_better() -> None:
    comparison = found(0.6, 0.8, 1_000)
    assert comparison.recall.low > 0
    assert judged(comparison).verdict is Verdict.BETTER
    assert judged(found(0.8, 0.6, 1_000)).verdict is Verdict.WORSE


def test_more_frauds_for_too_many_false_stops_are_no_evidence() -> None:
    assert judged(found(0.6, 0.8, 1_000, rates=(0.02, 0.06))).verdict is Verdict.NOT_SHOWN
    assert judged(found(0.6, 0.8, 1_000, rates=(0.02, 0.045))).verdict is Verdict.BETTER
    assert judged(found(0.6, 0.8, 1_000, rates=(0.07, 0.06))).verdict is Verdict.BETTER, (
        "the champion stops more"
    )


def test_silence_counts_only_when_an_improvement_is_ruled_out() -> None:
    early, late = judged(found(0.7, 0.7, 200)), judged(found(0.7, 0.7, 2_000))
    assert early.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert early.days_needed == pytest.approx(1_300 * 30 / 200 + 7, abs=1)
    assert late.verdict is Verdict.NOT_SHOWN
    assert "ruled out" in late.reasons[-1]


@pytest.mark.parametrize("frauds", [0, 1, 49])
def test_few_frauds_are_never_enough(frauds: int) -> None:
    verdict = judged(found(0.1, 0.9, frauds))
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert (verdict.days_needed is None) == (frauds == 0)


def test_stops_that_nobody_judged_are_no_evidence() -> None:
    verdict = judged(found(0.6, 0.8, 1_000, judged_share=0.3))
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "Only 30% of what the champion stopped has a label" in verdict.reasons[-1]
    nothing_stopped = found(0.0, 0.8, 1_000, rates=(0.0, 0.02), judged_share=float("nan"))
    assert judged(nothing_stopped).verdict is Verdict.BETTER


def test_a_rate_on_few_good_transactions_is_not_known() -> None:
    assert judged(found(0.6, 0.8, 1_000, good=999)).verdict is Verdict.NOT_ENOUGH_EVIDENCE
    close = found(0.6, 0.8, 1_000, good=1_000, rates=(0.02, 0.045))
    assert judged(close).verdict is Verdict.NOT_SHOWN, "4.5 % of 1,000 may be 6 %"


def test_without_mature_transactions_nothing_is_shown() -> None:
    verdict = judged(found(0.1, 0.9, 1_000, good=0))
    assert verdict.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "old enough" in verdict.reasons[-1]


def test_the_bounds_are_those_of_the_confidence_sequence() -> None:
    comparison = found(0.6, 0.7, 90)
    draw = np.random.default_rng(RANDOM_SEED).random(90)
    low, high = confidence_sequence(
        stopped_differences(draw < 0.6, draw < 0.7), list(range(1, 91)), low=-1, high=1
    )
    assert (comparison.recall.low, comparison.recall.high) == (low[-1], high[-1])
    assert comparison.recall.value == pytest.approx(comparison.recall_b - comparison.recall_a)


def test_a_series_counts_as_one_fraud() -> None:
    single, together = found(0.6, 0.8, 100), found(0.6, 0.8, 800, of_series=8)
    assert (together.frauds, together.series) == (800, 100)
    assert together.recall == single.recall
    assert together.recall_a == single.recall_a
    assert judged(found(0.6, 0.8, 800, of_series=40)).verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert judged(found(0.6, 0.8, 800, of_series=41)).days_needed == pytest.approx(1_300 * 30 / 20 + 7)


def test_a_difference_that_long_series_deny_is_not_shown() -> None:
    short, long = np.arange(300), np.repeat([300, 301], 200)
    series = np.concatenate([short, long])
    finds, misses = np.ones(len(series), np.bool_), np.zeros(len(series), np.bool_)
    a, b = np.where(series < 300, misses, finds), np.where(series < 300, finds, misses)
    for comparison in (live(a, b, series), live(b, a, series)):
        assert abs(comparison.recall.value) > 0.9
        assert judged(comparison).verdict is Verdict.NOT_SHOWN
        assert "Long series speak against" in judged(comparison).reasons[-1]


def test_frauds_of_no_finished_series_show_nothing() -> None:
    comparison = live(np.zeros(200, np.bool_), np.ones(200, np.bool_), np.full(200, NO_SERIES))
    assert (comparison.recall.low, comparison.recall.high) == (-1, 1)
    assert judged(comparison).verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert judged(comparison).days_needed is None
    assert "none of their series" in judged(comparison).reasons[0]
