"""The verdict on a challenger that decides beside the champion, however often one looks at it.

People look every day. Recall is tested by a confidence sequence, which stays valid at every look (see `sequential`); an
ordinary interval does not. Frauds of one customer or terminal are a series and count once (see `fraud_series`). Frauds
are taken as labelled alike whether they were stopped or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate, exact_interval
from zaslon.models.fraud_series import series_means
from zaslon.models.sequential import confidence_sequence, stopped_differences
from zaslon.models.verdict import EFFECTIVE_MIN, FRAUDS_MIN, RELEVANT_DIFFERENCE, Judged, Verdict

_LOOKS_MAX = 100
# Series after which a difference in recall of 0.02 is found, median, if each is one fraud (docs/certainty.md, daily looks).
_SERIES_TYPICAL = 1_300

GOOD_MIN = 1_000  # a rate of 5 % is then known to one and a half points
JUDGED_SHARE_MIN = 0.5  # of what the champion stopped

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class LiveFrauds:
    """n known frauds that are older than the label delay.

    Attributes:
        a, b: bool[n], stopped by the champion, by the challenger.
        series: int64[n], see `fraud_series`.
    """

    a: Bool
    b: Bool
    series: NDArray[np.int64]


@dataclass(frozen=True)
class LiveComparison:
    """What is known so far.

    Attributes:
        recall: the challenger's minus the champion's by series, with bounds that hold at every look.
        recall_a, recall_b: of each, as the mean over series; NaN without.
        recall_by_fraud: the difference over all frauds, also those that count in no series; NaN without.
        false_positive_rate_a, false_positive_rate_b: of each, among good transactions that are old enough; NaN without.
        frauds, series, good: how many these are.
        days: from the first transaction to the last.
        days_counted: of these, how many are old enough for a series to be counted.
        judged_share: of what the champion stopped and is old enough, how much has a label; NaN where it stopped nothing.
    """

    recall: Estimate
    recall_a: float
    recall_b: float
    recall_by_fraud: float
    false_positive_rate_a: float
    false_positive_rate_b: float
    frauds: int
    series: int
    good: int
    days: int
    days_counted: int
    judged_share: float


def compare_live(
    frauds: LiveFrauds, *, good: int, good_stopped_a: int, good_stopped_b: int, days: int,
    days_counted: int, judged_share: float,
) -> LiveComparison:  # fmt: skip
    """Compare on everything that is known so far.

    Args:
        frauds: known frauds.
        good: transactions that are old enough and no known frauds.
        good_stopped_a, good_stopped_b: of these, stopped by each.
        days, days_counted, judged_share: as in `LiveComparison`.
    """
    differences = stopped_differences(frauds.a, frauds.b)
    a, b, by_series = (
        series_means(values, frauds.series)
        for values in (frauds.a.astype(np.float64), frauds.b.astype(np.float64), differences)
    )
    return LiveComparison(
        _difference(by_series), _mean(a), _mean(b), _mean(differences),
        good_stopped_a / good if good else math.nan, good_stopped_b / good if good else math.nan,
        len(differences), len(by_series), good, days, days_counted, judged_share,
    )  # fmt: skip


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _difference(values: NDArray[np.float64]) -> Estimate:
    """The mean of differences between -1 and 1, with the bounds of the last look."""
    if not len(values):
        return Estimate(math.nan, -1.0, 1.0)
    looks = np.unique(np.linspace(1, len(values), min(len(values), _LOOKS_MAX)).astype(int)).tolist()
    low, high = confidence_sequence(values, looks, low=-1.0, high=1.0)
    return Estimate(float(values.mean()), float(low[-1]), float(high[-1]))


def judge_live(found: LiveComparison, *, false_positive_rate_max: float) -> Judged:
    """The verdict on the challenger.

    It is better where the bounds of the difference in recall lie above 0 while it stops no more good transactions than
    the limit or the champion, and worse where they lie below 0: more frauds for more false stops are no news. All frauds
    have to say the same as the series.
    """
    measured = _measured(found)
    if found.judged_share < JUDGED_SHARE_MIN:
        why = (
            f"Only {found.judged_share:.0%} of what the champion stopped has a label. Known frauds are mostly those that it "
            "missed then, which speaks for any other model: give verdicts on what was stopped."
        )
        return Judged(Verdict.NOT_ENOUGH_EVIDENCE, (measured, why))
    if found.frauds < FRAUDS_MIN or found.series < EFFECTIVE_MIN or found.good < GOOD_MIN:
        return Judged(Verdict.NOT_ENOUGH_EVIDENCE, (measured, _too_few(found)), _days_needed(found))
    if not found.recall.low <= 0 <= found.recall.high and found.recall.value * found.recall_by_fraud <= 0:
        why = f"Counted one by one the frauds do not say so: {found.recall_by_fraud:+.4f}. Long series speak against short ones."
        return Judged(Verdict.NOT_SHOWN, (measured, why))
    if found.recall.high < 0:
        return Judged(Verdict.WORSE, (measured, "The whole interval lies below 0."))
    rate, rate_max = found.false_positive_rate_b, max(false_positive_rate_max, found.false_positive_rate_a)
    if found.recall.low > 0:
        surely = exact_interval(rate, found.good)[1] <= false_positive_rate_max
        if surely or rate <= found.false_positive_rate_a:
            return Judged(Verdict.BETTER, (measured, "The whole interval lies above 0."))
        why = f"It finds more frauds, but stops {rate:.2%} of good transactions; {rate_max:.2%} is the limit."
        return Judged(Verdict.NOT_SHOWN, (measured, why))
    if found.recall.high < RELEVANT_DIFFERENCE:
        why = f"An improvement of {RELEVANT_DIFFERENCE:g} is ruled out."
        return Judged(Verdict.NOT_SHOWN, (measured, why))
    why = f"The interval holds 0, and an improvement of {RELEVANT_DIFFERENCE:g} is not ruled out."
    return Judged(Verdict.NOT_ENOUGH_EVIDENCE, (measured, why), _days_needed(found))


def _measured(found: LiveComparison) -> str:
    recall = found.recall
    if not found.frauds:
        return "No fraud is known so far among the transactions that both have decided and that are older than the label delay."
    if not found.series:
        return f"{found.frauds:,} frauds are known, and none of their series is older than the label delay and a week."
    return (
        f"Recall is {found.recall_b:.4f} against {found.recall_a:.4f} on {found.series:,} series of frauds (of {found.frauds:,} "
        f"frauds): a difference of {recall.value:+.4f} ({recall.low:+.4f} to {recall.high:+.4f}, at every look)."
    )


def _too_few(found: LiveComparison) -> str:
    if found.good < GOOD_MIN:
        return f"{found.good:,} transactions are old enough to be taken for good, fewer than {GOOD_MIN:,}."
    return f"These are fewer than {FRAUDS_MIN} frauds, or fewer than {EFFECTIVE_MIN} series."


def _days_needed(found: LiveComparison) -> int | None:
    """Days after which a relevant improvement is usually found, at the rate of series so far."""
    if not found.series:
        return None
    more = found.days - found.days_counted  # that pass before a series is counted
    return max(math.ceil(_SERIES_TYPICAL * found.days_counted / found.series) + more, found.days + 1)
