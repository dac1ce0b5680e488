"""What the bootstrap cannot know from few frauds: intervals that are wide enough for what was not seen.

A model that misses one fraud in fifty has often missed none of the first hundred. Every replicate is drawn from
these hundred, so its interval is too narrow: over 100 samples of 100 frauds it held the true ROC-AUC in 84.
`benchmarks/interval_coverage.py` counts this for every figure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate, exact_interval
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.fraud_groups import SINGLE, DesignEffect
from zaslon.models.intervals import effective_count, mean_interval, sum_interval, wider
from zaslon.models.ranking import Ranking, fraud_parts

Float64 = NDArray[np.float64]


def valid_at_small_counts(
    headline: Mapping[str, Estimate], ranking: Ranking, thresholds: Mapping[str, float],
    stopped: Mapping[str, float], effects: Mapping[str, DesignEffect],
) -> dict[str, Estimate]:  # fmt: skip
    """The estimates with intervals that are at least as wide as those made for small counts.

    Rates get the exact one, money that of a sum, ROC-AUC and PR-AUC that of the sum of what each fraud lacks.

    Args:
        headline: estimates by name, see `ranking_metrics`.
        ranking: what they are of.
        thresholds: by name.
        stopped: how many transactions each threshold stops, in equal weights.
        effects: of frauds that belong together, by metric; one that is not there is of single frauds.
    """
    trials = {
        "recall": effective_count(ranking.fraud_weight),
        "recall_by_amount": effective_count(ranking.fraud_minor),
        "false_positive_rate": ranking.good_count,
    }
    found = {}
    for name, estimate in headline.items():
        measure, _, threshold = name.partition("_at_")
        effect = effects.get(name, SINGLE)
        if measure in ("lost_minor", "saved_minor"):
            is_stopped = ranking.score[ranking.fraud_cell] >= thresholds[threshold]
            counted = is_stopped if measure == "saved_minor" else ~is_stopped
            found[name] = effect.widened(wider(estimate, *_money(ranking.fraud_minor, counted)), least=0)
        elif name in ("roc_auc", "pr_auc"):
            single = wider(estimate, *_mean_over_frauds(ranking, name))
            found[name] = effect.widened(single, least=0, most=1)
        else:
            count = stopped[threshold] if measure == "precision" else trials[measure]
            grouped = effect.widened(estimate, least=0, most=1)
            found[name] = wider(grouped, *exact_interval(estimate.value, count / effect.width**2))
    return found


def _money(fraud_minor: Float64, counted: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the amounts of some of the frauds.

    The one that luck may have hidden is the fraud that an average unit of money is lost with: the largest of a
    thousand would say more about that one than about what is lost.
    """
    total = float(fraud_minor.sum())
    usual = float(fraud_minor @ fraud_minor) / total if total > 0 else 0.0
    return sum_interval(fraud_minor[counted], usual) if usual > 0 else (0.0, 0.0)


def _mean_over_frauds(ranking: Ranking, name: str) -> tuple[float, float]:
    weight = ranking.fraud_weight
    lacking = 1 - fraud_parts(ranking.counts)[name][ranking.fraud_cell]
    low, high = sum_interval(weight * lacking, float(weight.max()))
    total = float(weight.sum())
    return max(0.0, 1 - high / total), 1 - low / total


def mean_per_day(
    counted: NDArray[np.bool_], weight: Float64, event_time_seconds: NDArray[np.int64]
) -> Estimate:
    """How many transactions of a kind come on an average day, quiet days included.

    The interval holds Student's over the days, and that of as many independent transactions.

    Args:
        counted: bool[n], which are of the kind; n is 1 or more.
        weight: float64[n], how many transactions each represents.
        event_time_seconds: int64[n].
    """
    day = event_time_seconds // SECONDS_PER_DAY
    by_day = np.bincount(day - day.min(), np.where(counted, weight, 0.0)).astype(np.float64)
    low, high = sum_interval(weight[counted], float(weight.max()))
    days = len(by_day)
    mean = Estimate(float(by_day.mean()), low / days, high / days)
    if days < 2:
        return mean
    low, high = mean_interval(by_day)
    return wider(mean, max(0.0, low), high)
