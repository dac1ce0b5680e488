"""Two models on the same transactions: by how much they differ, and how sure that is.

Every replicate draws frauds from the frauds and good transactions from the good ones, and computes the measures
of both models on what was drawn (the paired stratified bootstrap). What moves both models in the same way,
such as a week with hard frauds, cancels out of the difference. Frauds of one customer or terminal come together and
count for fewer, see `fraud_groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.estimates import Estimate, exact_interval
from zaslon.models.delong import DeLong, delong
from zaslon.models.fraud_groups import SINGLE, DesignEffect, design_effect, fraud_groups, group_count
from zaslon.models.intervals import (
    bootstrap_interval,
    bootstrap_p,
    effective_count,
    student,
    student_p,
    wider,
)
from zaslon.models.metrics import DAYS_PER_MONTH, check_scores
from zaslon.models.ranking import (
    FALSE_POSITIVE_RATES,
    Counts,
    Ranking,
    fraud_parts,
    good_places,
    parts_left_out,
    rank,
    ranking_metrics,
    sums_by_place,
    threshold_at,
)

REPLICATES = 1_000
ALPHA = 0.05  # of every test

MEASURES = ("roc_auc", "pr_auc", "recall", "loss_minor_per_month")

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """The same n transactions with the scores of two models. Arrays are in the same order.

    Attributes:
        a, b: float64[n], 0 … 1.
        is_fraud: int8[n], 0 or 1, both present.
        amount_minor: int64[n].
        weight: [n], how many transactions each represents; the same for all of one class.
        days: how many days they are from.
        entity_keys: int64[n, entities], whose they are; None where that is not known: then each is taken as
            independent of the others.

    Raises:
        DataError: arrays that do not belong together, one class only, a score that is not a probability, or
            different weights within a class.
    """

    a: Float64
    b: Float64
    is_fraud: NDArray[np.int8]
    amount_minor: Int64
    weight: NDArray[np.float32] | Float64
    days: int
    entity_keys: Int64 | None = None

    def __post_init__(self) -> None:
        """Check that they can be compared."""
        for score in (self.a, self.b):
            check_scores([score, self.is_fraud, self.amount_minor, self.weight])
        for answer in (0, 1):
            if np.ptp(self.weight[self.is_fraud == answer]) != 0:
                raise DataError(
                    "Models are compared on samples in which all transactions of a class represent as many "
                    "others; the weights here differ."
                )

    def groups(self) -> Int64:
        """int64[frauds, entities]: which frauds belong together."""
        if self.entity_keys is None:
            return np.empty((int(np.count_nonzero(self.is_fraud)), 0), np.int64)
        return fraud_groups(self.entity_keys, self.is_fraud)


@dataclass(frozen=True)
class Measure:
    """One measure of both models.

    Attributes:
        a, b: its value for each.
        difference: of the second from the first, with its 95 % interval.
        p: two-sided, of the hypothesis that the true difference is 0.
    """

    a: float
    b: float
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Comparison:
    """What `compare_scores` found.

    Attributes:
        measures: by name, see `MEASURES`. `recall` is the share of frauds stopped while each model stops good
            transactions at the allowed rate; `loss_minor_per_month` the amounts of the others, in 30 days.
        delong: DeLong's test of the two ROC-AUCs.
        mean_a, mean_b: of the replicates of each ROC-AUC.
        t_test_p: of Student's test over these replicates, see `t_test_p`. It decides nothing.
        frauds, transactions: compared, not weighted, in how many `days`.
        frauds_effective: as many single frauds would say as much about ROC-AUC.
        replicates: of the bootstrap.
        drawn_a, drawn_b: float64[replicates], the ROC-AUC of each.
    """

    measures: Mapping[str, Measure]
    delong: DeLong
    mean_a: float
    mean_b: float
    t_test_p: float
    frauds: int
    frauds_effective: float
    transactions: int
    days: int
    replicates: int
    drawn_a: Float64 = field(repr=False, compare=False)
    drawn_b: Float64 = field(repr=False, compare=False)


def compare_scores(
    scored: Scored,
    *,
    false_positive_rate_max: float,
    seed: int,
    replicates: int = REPLICATES,
    progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Compare two models. A millisecond a replicate for 200,000 transactions with 1,500 frauds.

    Good transactions are taken as independent of each other: they are so many that hardly any doubt comes from them.

    Args:
        scored: the transactions.
        false_positive_rate_max: share of good transactions that may be stopped, 0 … 1.
        seed: of the bootstrap; the same one gives the same figures.
        replicates: at least 1.
        progress: called with 1 after every replicate.
    """
    sides = _sides(scored, false_positive_rate_max)
    replicated = _replicated(sides, replicates, seed, progress)
    values = [side.measures(side.ranking.counts) for side in sides]
    left_out = _left_out(sides)
    measures = {
        name: _measure(values[0][i], values[1][i], replicated[:, :, i], left_out[:, :, i])
        for i, name in enumerate(MEASURES)
    }
    of_a, of_b = replicated[:, 0, 0], replicated[:, 1, 0]
    groups = scored.groups()
    areas = delong(scored.a, scored.b, scored.is_fraud, groups)
    effects = _effects(sides, groups) | {"roc_auc": areas.effect}
    grouped = {name: _grouped(measure, effects[name]) for name, measure in measures.items()}
    return Comparison(
        _valid_at_small_counts(grouped, sides, scored, groups, effects), areas,
        float(of_a.mean()), float(of_b.mean()), t_test_p(of_a, of_b),
        len(groups), len(groups) / areas.effect.variance, len(scored.a), scored.days, replicates, of_a, of_b,
    )  # fmt: skip


def measure_scores(scored: Scored, *, false_positive_rate_max: float) -> list[dict[str, float]]:
    """`MEASURES` of the first model and of the second, without a comparison."""
    sides = _sides(scored, false_positive_rate_max)
    return [dict(zip(MEASURES, side.measures(side.ranking.counts), strict=True)) for side in sides]


class _Side:
    """One of the two models: its ranking of the transactions, and where each of them is in it."""

    def __init__(self, score: Float64, scored: Scored, rate: float) -> None:
        weight = np.asarray(scored.weight, np.float64)
        fraud = scored.is_fraud == 1
        self.ranking: Ranking = rank(score, scored.is_fraud, scored.amount_minor, weight)
        self.is_stopped = score[fraud] >= threshold_at(self.ranking, rate)
        self.good_place = good_places(self.ranking.score, score[~fraud])
        self._good_weight = float(weight[~fraud][0])
        self._rate, self._months = rate, scored.days / DAYS_PER_MONTH

    def drawn(self, frauds: Int64, good: Int64) -> Counts:
        """Counts of the drawn frauds and good transactions, by their numbers."""
        ranking, cells = self.ranking, len(self.ranking.score)
        cell = ranking.fraud_cell[frauds]
        drawn_at = np.bincount(self.good_place[good], minlength=2 * cells + 1)
        place: Float64 = self._good_weight * drawn_at.astype(np.float64)
        return Counts(
            sums_by_place(cell, ranking.fraud_weight[frauds], cells),
            sums_by_place(cell, ranking.fraud_minor[frauds], cells),
            place[1::2], place[:-1:2], place[-1:],
        )  # fmt: skip

    def measures(self, counts: Counts) -> tuple[float, ...]:
        """`MEASURES` of some counts."""
        found = ranking_metrics(counts, self.ranking.score, {}, (self._rate,))
        at = f"at_fpr_{100 * self._rate:g}pct"
        total_minor = float(counts.fraud_minor.sum())
        lost_minor = total_minor * (1 - found[f"recall_by_amount_{at}"]) if total_minor else 0.0
        return found["roc_auc"], found["pr_auc"], found[f"recall_{at}"], lost_minor / self._months


def _sides(scored: Scored, false_positive_rate_max: float) -> list[_Side]:
    return [_Side(score, scored, false_positive_rate_max) for score in (scored.a, scored.b)]


def _replicated(
    sides: Sequence[_Side], replicates: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> Float64:
    """float64[replicates, models, measures]: each replicate draws the same transactions for all models."""
    random = np.random.default_rng(seed)
    frauds, good = len(sides[0].ranking.fraud_cell), len(sides[0].good_place)
    found = np.empty((replicates, len(sides), len(MEASURES)))
    for number in range(replicates):
        drawn_frauds = random.integers(0, frauds, frauds)
        drawn_good = random.integers(0, good, good)
        for k, side in enumerate(sides):
            found[number, k] = side.measures(side.drawn(drawn_frauds, drawn_good))
        progress(1)
    return found


def _left_out(sides: Sequence[_Side]) -> Float64:
    """float64[parts, models, measures]: without each of the parts of the frauds."""
    parts = parts_left_out(len(sides[0].ranking.fraud_cell))
    found = [[side.measures(side.ranking.without(part)) for side in sides] for part in parts]
    return np.array(found).reshape(len(parts), len(sides), len(MEASURES))


def _measure(a: float, b: float, replicated: Float64, left_out: Float64) -> Measure:
    """The bootstrap's interval and p, and Student's where these are more cautious: with few frauds they are.

    Student's standard error is the jackknife's, over the parts of the frauds (Efron, "The jackknife, the bootstrap
    and other resampling plans", 1982).
    """
    drawn, without = replicated[:, 1] - replicated[:, 0], left_out[:, 1] - left_out[:, 0]
    interval, p = bootstrap_interval(b - a, drawn, without), bootstrap_p(b - a, drawn, without)
    parts = len(without)
    error = float(np.sqrt((parts - 1) * np.var(without))) if parts > 1 else 0.0
    if error > 0:
        half = student(parts - 1) * error
        interval = wider(interval, b - a - half, b - a + half)
        p = max(p, student_p((b - a) / error, parts - 1))
    return Measure(a, b, interval, p)


def _effects(sides: Sequence[_Side], groups: Int64) -> dict[str, DesignEffect]:
    """The design effect of each difference but that of ROC-AUC, by what every fraud adds to it."""
    a, b = sides
    precision = [fraud_parts(side.ranking.counts)["pr_auc"][side.ranking.fraud_cell] for side in sides]
    stopped = b.is_stopped.astype(np.float64) - a.is_stopped
    return {
        "pr_auc": design_effect(precision[1] - precision[0], groups),
        "recall": design_effect(stopped, groups),
        "loss_minor_per_month": design_effect(stopped * a.ranking.fraud_minor, groups),
    }


def _grouped(measure: Measure, effect: DesignEffect) -> Measure:
    if effect == SINGLE:
        return measure
    difference = effect.widened(measure.difference)
    return Measure(measure.a, measure.b, difference, max(measure.p, effect.p(difference)))


def _valid_at_small_counts(
    measures: Mapping[str, Measure], sides: Sequence[_Side], scored: Scored, groups: Int64,
    effects: Mapping[str, DesignEffect],
) -> dict[str, Measure]:  # fmt: skip
    """No certainty from few frauds: the bootstrap draws only from what was seen.

    Recall and loss depend on the frauds that exactly one model stops. If each is as likely to be stopped by
    the one as by the other, all d of them are on one side with probability 2 / 2^d (the sign test, McNemar
    1947), so p is not less; for the other measures d is all frauds. Of frauds that belong together, the groups
    count. An interval without width becomes as wide as the exact one of a rate; that of fewer frauds than can show a
    difference, as wide around 0.
    """
    ranking = sides[0].ranking
    counted = {"loss_minor_per_month": effective_count(ranking.fraud_minor)}
    unsure = {
        name: exact_interval(0.0, counted.get(name, len(groups)) / effects[name].variance)[1]
        for name in measures
    }
    unsure["loss_minor_per_month"] *= float(ranking.fraud_minor.sum()) * DAYS_PER_MONTH / scored.days
    differing = group_count(groups[sides[0].is_stopped != sides[1].is_stopped])
    deciding = {"recall": differing, "loss_minor_per_month": differing}
    same = np.array_equal(scored.a, scored.b)
    found = {}
    for name, measure in measures.items():
        floor = min(1.0, 2.0 ** (1 - deciding.get(name, group_count(groups))))
        has_no_width = measure.difference.low == measure.difference.high
        difference = measure.difference
        if not same and (floor >= ALPHA or has_no_width):
            centre = 0.0 if floor >= ALPHA else difference.value
            difference = wider(difference, centre - unsure[name], centre + unsure[name])
        if name != "loss_minor_per_month":  # no share differs by more than 1
            difference = Estimate(difference.value, max(-1.0, difference.low), min(1.0, difference.high))
        found[name] = Measure(measure.a, measure.b, difference, max(measure.p, floor))
    return found


def t_test_p(replicates_a: Float64, replicates_b: Float64) -> float:
    """P of Student's test for independent samples over bootstrap replicates; never a reason to decide.

    Replicates are not observations: drawing more of them brings no news of fraud, but the test divides their
    spread by the square root of their number. So any difference, however small, gets any p, see
    `t_test_by_replicates`.
    """
    from scipy.stats import ttest_ind_from_stats  # noqa: PLC0415  only comparisons need it

    if np.ptp(replicates_a) == np.ptp(replicates_b) == 0:
        return 1.0 if replicates_a[0] == replicates_b[0] else 0.0
    moments = [(r.mean(), r.std(ddof=1), len(r)) for r in (replicates_a, replicates_b)]
    return float(ttest_ind_from_stats(*moments[0], *moments[1]).pvalue)


def t_test_by_replicates(
    scored: Scored, counts: Sequence[int] = (10, 100, 1_000), *, seed: int = 0
) -> dict[int, float]:
    """A demonstration: `t_test_p` of the same two models and transactions, by how many replicates are drawn.

    The mission's comparison draws ten. Nothing but their number changes here, and p falls towards 0.
    """
    sides = _sides(scored, FALSE_POSITIVE_RATES[0])
    area = _replicated(sides, max(counts), seed)[:, :, 0]
    return {count: t_test_p(area[:count, 0], area[:count, 1]) for count in counts}
