"""DeLong's test: whether two scores of the same transactions have the same ROC-AUC.

DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves: a nonparametric approach", Biometrics 1988. Computed from mid-ranks in O(n log n), as in
Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE Signal Processing Letters 2014. Frauds that share an
entity count as Obuchowski has it, "Nonparametric analysis of clustered ROC curve data", Biometrics 1997.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zaslon.models.fraud_groups import SINGLE, DesignEffect, design_effect
from zaslon.models.intervals import student_p

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_NORMAL = NormalDist()


@dataclass(frozen=True)
class DeLong:
    """Two ROC-AUCs of the same transactions.

    Attributes:
        a, b: the two areas, 0 … 1.
        standard_error: of `b` - `a`; NaN where a class has fewer than two transactions.
        p: two-sided, of the hypothesis that both are equal; 1 where nothing can be said.
        effect: of frauds that belong together, in error and p already.
    """

    a: float
    b: float
    standard_error: float
    p: float
    effect: DesignEffect = SINGLE

    @property
    def difference(self) -> float:
        """How much higher the second area is."""
        return self.b - self.a


def delong(a: Float64, b: Float64, is_fraud: NDArray[np.int8], groups: Int64 | None = None) -> DeLong:
    """Compare two scores.

    Args:
        a, b: float64[n], higher for likelier frauds; only their order counts.
        is_fraud: int8[n], 0 or 1, both present.
        groups: int64[frauds, entities], which frauds belong together (`fraud_groups`); None: each is single.
    """
    of_fraud, of_good = placements(np.stack([a, b]), is_fraud == 1)
    area_a, area_b = of_fraud.mean(axis=1)
    parts, good_parts = of_fraud[1] - of_fraud[0], of_good[1] - of_good[0]
    effect = SINGLE
    if groups is not None:
        effect = design_effect(parts, groups, len(parts) ** 2 * float(np.var(good_parts)) / len(good_parts))
    error = _standard_error(parts, good_parts) * math.sqrt(effect.variance)
    return DeLong(float(area_a), float(area_b), error, _p(float(area_b - area_a), error, effect), effect)


def placements(scores: Float64, fraud: NDArray[np.bool_]) -> tuple[Float64, Float64]:
    """Each transaction's part in the areas: the share of the other class that it is on the right side of.

    Args:
        scores: float64[s, n], s scores of n transactions.
        fraud: bool[n].

    Returns:
        float64[s, frauds] and float64[s, good]; the mean of a row of either is the score's ROC-AUC.
    """
    from scipy.stats import rankdata  # noqa: PLC0415  only comparisons need it

    frauds, good = scores[:, fraud], scores[:, ~fraud]
    rank = rankdata(scores, axis=1)
    of_fraud = (rank[:, fraud] - rankdata(frauds, axis=1)) / good.shape[1]
    of_good = 1 - (rank[:, ~fraud] - rankdata(good, axis=1)) / frauds.shape[1]
    return of_fraud, of_good


def _standard_error(of_fraud: Float64, of_good: Float64) -> float:
    if min(len(of_fraud), len(of_good)) < 2:
        return math.nan
    return math.sqrt(np.var(of_fraud, ddof=1) / len(of_fraud) + np.var(of_good, ddof=1) / len(of_good))


def _p(difference: float, error: float, effect: DesignEffect) -> float:
    if math.isnan(error) or difference == 0:
        return 1.0
    if error == 0:
        return 0.0
    if math.isfinite(effect.degrees):
        return student_p(difference / error, effect.degrees)
    return math.erfc(abs(difference) / error / math.sqrt(2))


def power(difference: float, standard_error: float, alpha: float) -> float:
    """With what probability a two-sided test finds a true difference, in its direction.

    Args:
        difference: the true one, above 0.
        standard_error: of a measured difference, above 0.
        alpha: of the test.
    """
    return _NORMAL.cdf(difference / standard_error - _NORMAL.inv_cdf(1 - alpha / 2))


def error_needed(difference: float, wanted: float, alpha: float) -> float:
    """The standard error at which `power` is as wanted."""
    return difference / (_NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(wanted))
