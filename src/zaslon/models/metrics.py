"""Evaluation: how well scores find frauds, what that is worth, and how sure the numbers are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.estimates import Estimate, exact_interval
from zaslon.domain.time import days_spanned
from zaslon.models.card_precision import card_precision_by_day
from zaslon.models.fraud_groups import SINGLE, effects_by_metric, fraud_groups
from zaslon.models.intervals import (
    bootstrap_interval,
    effective_count,
    mean_interval,
    wider,
)
from zaslon.models.ranking import (
    FALSE_POSITIVE_RATES,
    Ranking,
    parts_left_out,
    rank,
    ranking_metrics,
    threshold_at,
)
from zaslon.models.small_counts import valid_at_small_counts

DAYS_PER_MONTH = 30  # as in the business limits: thirty days, so that months compare
REPLICATES = 400
# Draws for the bootstrap, at about 20 ns each: replicates become fewer above this, at least 50.
_DRAWS_MAX = 100_000_000
CALIBRATION_BINS = 15
CARDS_A_DAY = 100

Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class ScenarioResult:
    """How frauds of one scenario fare: at the review threshold and at 5 % false positives."""

    scenario: int
    frauds: float
    recall: float
    recall_by_amount: float
    recall_at_fpr_5pct: float
    lost_minor_per_month: float


@dataclass(frozen=True)
class CalibrationBin:
    """Transactions of neighbouring scores: what was promised and what came."""

    transactions: float
    mean_score: float
    fraud_rate: float


@dataclass(frozen=True)
class Money:
    """Money in minor units in 30 days, at the review threshold.

    Attributes:
        fraud: amounts of all frauds.
        lost: of those that were let through, with its interval.
        saved: of those that were stopped, with its interval.
        good_stopped: amounts of good transactions that were stopped.
    """

    fraud: float
    lost: Estimate
    saved: Estimate
    good_stopped: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        rows, frauds: transactions scored, not weighted.
        frauds_effective: as many single frauds would say as much about recall at the review threshold.
        transactions: how many they represent.
        fraud_rate: weighted.
        days: from the first of them to the last, quiet ones included.
        review, block: the thresholds, `inf` for never.
        headline: metrics by name with their intervals; see `ranking_metrics` for the names, and
            `card_precision_100` (no interval over replicates: over days, NaN for a sample).
        card_precision_by_day: empty where the data are a sample.
        money: at the review threshold.
        by_scenario: where scenarios are known.
        calibration: bins of equal expected frauds, from low to high scores.
        calibration_error: mean distance of promised and actual fraud rate (ECE), weighted.
        expected_to_actual_frauds: sum of scores over frauds; 1 is right, below 1 too low.
        brier: mean squared error of the scores.
        replicates: of the bootstrap.
    """

    rows: int
    frauds: int
    frauds_effective: float
    transactions: float
    fraud_rate: float
    days: int
    review: float
    block: float
    headline: dict[str, Estimate]
    card_precision_by_day: tuple[float, ...]
    money: Money
    by_scenario: tuple[ScenarioResult, ...]
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float
    expected_to_actual_frauds: float
    brier: float
    replicates: int

    def __getitem__(self, name: str) -> float:
        """The value of a headline metric."""
        return self.headline[name].value

    def report(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not defined."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def flat(self) -> dict[str, float]:
        """Every defined single number by name, for a registry of runs."""
        numbers = {name: estimate.value for name, estimate in self.headline.items()}
        numbers |= {f"{name}_low": e.low for name, e in self.headline.items()}
        numbers |= {f"{name}_high": e.high for name, e in self.headline.items()}
        money = self.money
        for name, minor in (
            ("fraud", money.fraud), ("lost", money.lost.value), ("saved", money.saved.value),
            ("good_stopped", money.good_stopped),
        ):  # fmt: skip
            numbers[f"money_{name}_minor_per_month"] = minor
        for name in (
            "rows",
            "frauds",
            "frauds_effective",
            "fraud_rate",
            "days",
            "calibration_error",
            "brier",
        ):
            numbers[name] = float(getattr(self, name))
        return {name: value for name, value in numbers.items() if math.isfinite(value)}


def evaluate(
    score: Float64,
    is_fraud: Int8,
    amount_minor: Int64,
    weight: NDArray[np.float32] | Float64,
    event_time_seconds: Int64,
    entity_keys: Int64 | None = None,
    scenario: Int8 | None = None,
    *,
    review: float = 0.5,
    block: float = math.inf,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Evaluation:
    """Evaluate the scores of n transactions whose answers are known.

    Frauds of one customer or terminal come together, so intervals count them for fewer (`fraud_groups`); where
    `entity_keys` is not given, every fraud is taken as independent of the others.

    Args:
        score: float64[n], 0 … 1, calibrated probabilities.
        is_fraud: int8[n], 0 or 1.
        amount_minor: int64[n].
        weight: [n], how many transactions each represents.
        event_time_seconds: int64[n].
        entity_keys: int64[n, entities], `NO_KEY` where there is none; the first is the card, for card precision.
        scenario: int8[n], -1 where unknown; None where not known at all.
        review, block: thresholds of the policy: from this score on.
        seed: of the bootstrap.
        replicates: at most so many; fewer where there are very many frauds.

    Raises:
        DataError: nothing to evaluate, only one class, a score that is not a probability, or arrays
            that do not belong together.
    """
    from sklearn import metrics  # noqa: PLC0415  takes a second, which other commands need not wait

    w = np.asarray(weight, np.float64)
    per_row = (score, is_fraud, amount_minor, w, event_time_seconds, entity_keys, scenario)
    check_scores([array for array in per_row if array is not None])
    days = days_spanned(event_time_seconds.min(), event_time_seconds.max())
    thresholds = {"review": review, "block": block}
    ranking = rank(score, is_fraud, amount_minor, w, (review, block))
    headline, replicates = _headline(ranking, thresholds, seed, replicates)
    headline["roc_auc"] = _with_value(
        headline["roc_auc"], metrics.roc_auc_score(is_fraud, score, sample_weight=w)
    )
    headline["pr_auc"] = _with_value(
        headline["pr_auc"], metrics.average_precision_score(is_fraud, score, sample_weight=w)
    )
    stopped = {name: effective_count(w[score >= threshold]) for name, threshold in thresholds.items()}
    groups = None if entity_keys is None else fraud_groups(entity_keys, is_fraud)
    effects = effects_by_metric(ranking, thresholds, groups)
    headline = valid_at_small_counts(headline, ranking, thresholds, stopped, effects)
    good_stopped = float((amount_minor * w)[(score >= review) & (is_fraud == 0)].sum())
    money = _money(headline, thresholds, good_stopped, days)
    by_day = _card_precision(
        score, is_fraud, w, event_time_seconds, None if entity_keys is None else entity_keys[:, 0]
    )
    headline["card_precision_100"] = _mean_over_days(by_day, seed, replicates)
    bins = calibration_bins(score, is_fraud, w)
    return Evaluation(
        rows=len(score),
        frauds=int(np.count_nonzero(is_fraud)),
        frauds_effective=int(np.count_nonzero(is_fraud)) / effects.get("recall_at_review", SINGLE).variance,
        transactions=float(w.sum()),
        fraud_rate=float(np.average(is_fraud, weights=w)),
        days=days,
        review=review,
        block=block,
        headline=headline,
        card_precision_by_day=tuple(by_day.tolist()),
        money=money,
        by_scenario=_by_scenario(ranking, score, is_fraud, amount_minor, w, scenario, review, days),
        calibration=bins,
        calibration_error=_calibration_error(bins),
        expected_to_actual_frauds=float((score @ w) / (is_fraud @ w)),
        brier=float(metrics.brier_score_loss(is_fraud, score, sample_weight=w)),
        replicates=replicates,
    )


def check_scores(arrays: list[NDArray[Any]]) -> None:
    """Check what is to be evaluated: scores, answers, amounts, weights, then any columns of the same length.

    Raises:
        DataError: as `evaluate`.
    """
    score, is_fraud = arrays[0], arrays[1]
    if any(len(a) != len(score) for a in arrays):
        raise DataError(
            f"The columns to evaluate differ in length: {', '.join(str(len(a)) for a in arrays)}."
        )
    if not len(score):
        raise DataError("There are no transactions to evaluate.")
    if not np.isin(is_fraud, (0, 1)).all():
        raise DataError(
            "Some answers to evaluate against are neither fraud (1) nor good (0).",
            hint="Leave out transactions whose label is not known yet.",
        )
    if len(np.unique(is_fraud)) == 1:
        missing = "good transactions" if is_fraud[0] else "frauds"
        raise DataError(
            f"There are no {missing} among the {len(score)} transactions to evaluate on.",
            hint="Take a longer period, or check that the labels arrived.",
        )
    if not ((score >= 0) & (score <= 1)).all():
        raise DataError("Some scores are not between 0 and 1.", hint="Evaluate probabilities of fraud.")
    if not (np.isfinite(arrays[3]) & (arrays[3] > 0)).all():
        raise DataError("Some weights are not positive numbers.")


def _headline(
    ranking: Ranking, thresholds: dict[str, float], seed: int, replicates: int
) -> tuple[dict[str, Estimate], int]:
    """Metrics with intervals, and how many replicates these took."""
    frauds = len(ranking.fraud_cell)
    draws = frauds + 3 * len(ranking.score)
    replicates = max(min(replicates, _DRAWS_MAX // draws), min(replicates, 50))
    random = np.random.default_rng(seed)
    values = ranking_metrics(ranking.counts, ranking.score, thresholds)
    replicated: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(replicates):
        counts = ranking.resampled(random)
        for name, value in ranking_metrics(counts, ranking.score, thresholds).items():
            replicated[name].append(value)
    left_out: dict[str, list[float]] = {name: [] for name in values}
    parts = parts_left_out(frauds) if replicates else []
    for part in parts:
        for name, value in ranking_metrics(ranking.without(part), ranking.score, thresholds).items():
            left_out[name].append(value)
    found = {
        name: bootstrap_interval(value, np.asarray(replicated[name]), np.asarray(left_out[name]))
        for name, value in values.items()
    }
    return found, replicates


def _with_value(estimate: Estimate, value: float) -> Estimate:
    return Estimate(float(value), estimate.low, estimate.high)


def _card_precision(
    score: Float64, is_fraud: Int8, w: Float64, event_time_seconds: Int64, customer_key: Int64 | None
) -> Float64:
    if customer_key is None or (w != 1).any():
        return np.empty(0, np.float64)
    return card_precision_by_day(score, is_fraud, event_time_seconds, customer_key, CARDS_A_DAY)


def _mean_over_days(by_day: Float64, seed: int, replicates: int) -> Estimate:
    """The mean, with an interval from drawing days.

    It is not narrower than Student's, nor than that of as many cards that were called: the bootstrap of a few
    days is too narrow, and that of one day has no width.
    """
    if not len(by_day):
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(by_day.mean())
    drawn = np.random.default_rng(seed).integers(0, len(by_day), (replicates, len(by_day)))
    found = bootstrap_interval(mean, by_day[drawn].mean(axis=1), _means_without_each(by_day))
    found = wider(found, *exact_interval(mean, CARDS_A_DAY * len(by_day)))
    if len(by_day) < 2:
        return found
    low, high = mean_interval(by_day)
    return wider(found, max(0.0, low), min(1.0, high))


def _means_without_each(values: Float64) -> Float64:
    return (values.sum() - values) / (len(values) - 1) if len(values) > 1 else np.empty(0)


def _money(
    headline: dict[str, Estimate], thresholds: dict[str, float], good_minor: float, days: int
) -> Money:
    """Removes the sums of money from the headline: they are reported by month."""
    month = DAYS_PER_MONTH / days
    by_threshold = {
        name: [_scaled(headline.pop(f"{kind}_minor_at_{name}"), month) for kind in ("lost", "saved")]
        for name in thresholds
    }
    lost, saved = by_threshold["review"]
    return Money(lost.value + saved.value, lost, saved, good_minor * month)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(*(factor * value for value in (estimate.value, estimate.low, estimate.high)))


def _by_scenario(
    ranking: Ranking, score: Float64, is_fraud: Int8, amount_minor: Int64, w: Float64,
    scenario: Int8 | None, review: float, days: int,
) -> tuple[ScenarioResult, ...]:  # fmt: skip
    if scenario is None:
        return ()
    cut = threshold_at(ranking, FALSE_POSITIVE_RATES[0])
    results = []
    for number in np.unique(scenario[is_fraud == 1]):
        of = (is_fraud == 1) & (scenario == number)
        frauds, stopped, minor = w[of], score[of] >= review, w[of] * amount_minor[of]
        missed = float(minor[~stopped].sum())
        results.append(
            ScenarioResult(
                int(number), float(frauds.sum()),
                float(np.average(stopped, weights=frauds)),
                1 - missed / float(minor.sum()) if minor.sum() > 0 else math.nan,
                float(np.average(score[of] >= cut, weights=frauds)),
                missed * DAYS_PER_MONTH / days,
            )
        )  # fmt: skip
    known = [r for r in results if r.scenario >= 0]
    return tuple(results) if known else ()


def calibration_bins(
    score: Float64, is_fraud: Int8, weight: Float64, bins: int = CALIBRATION_BINS
) -> tuple[CalibrationBin, ...]:
    """Neighbouring scores in bins of equal expected frauds, so that no bin is all noise.

    Bins of equally many transactions would put nearly all frauds into one of them.
    """
    order = np.argsort(score, kind="stable")
    s, y, w = score[order], is_fraud[order], weight[order]
    expected = np.cumsum(s * w)
    if expected[-1] == 0:
        return (CalibrationBin(float(w.sum()), 0.0, float(np.average(y, weights=w))),)
    bin_of = np.minimum((expected - s * w / 2) / expected[-1] * bins, bins - 1).astype(np.int64)
    total = np.bincount(bin_of, w, bins)
    promised, actual = np.bincount(bin_of, w * s, bins), np.bincount(bin_of, w * y, bins)
    return tuple(
        CalibrationBin(float(t), float(p / t), float(a / t))
        for t, p, a in zip(total, promised, actual, strict=True)
        if t > 0
    )


def _calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    total = sum(b.transactions for b in bins)
    return sum(b.transactions * abs(b.mean_score - b.fraud_rate) for b in bins) / total


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
