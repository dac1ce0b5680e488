"""Intervals that hold at small counts: 49 of 49 frauds stopped does not show that all of them are.

The bootstrap draws from what was seen. Where no fraud was missed it never draws one, so its interval has
no width, however few frauds there were. For a rate the exact interval is known (`domain.estimates`), for a sum of
unequal parts one that is nearly exact (Fay and Feuer, "Confidence intervals for directly standardized rates: a
method based on the gamma distribution", 1997).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import LEVEL, Estimate

Float64 = NDArray[np.float64]

_TAIL = (1 - LEVEL) / 2
_NORMAL = NormalDist()


def effective_count(weight: Float64) -> float:
    """How many equal weights carry as much information as these (Kish, "Survey Sampling", 1965); 0 for none.

    Args:
        weight: float64[n], 0 or more.
    """
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def sum_interval(parts: Float64, largest: float) -> tuple[float, float]:
    """What a sum of parts may be expected to be, by chance of how many there are and which (Fay and Feuer).

    One more part of the largest size may always have been missed by luck, so nothing seen is not nothing. Both
    limits are those of a Poisson count, to be multiplied, where all parts are equal.

    Args:
        parts: float64[n], 0 or more.
        largest: what one part can be, over 0.
    """
    from scipy.special import gammaincinv  # noqa: PLC0415  only evaluation needs it

    total, squares = float(parts.sum()), float(parts @ parts)
    low = 0.0
    if squares > 0:
        low = squares / total * float(gammaincinv(total**2 / squares, _TAIL))
    total, squares = total + largest, squares + largest**2
    return low, squares / total * float(gammaincinv(total**2 / squares, 1 - _TAIL))


def mean_interval(values: Float64) -> tuple[float, float]:
    """Student's interval of a mean.

    Args:
        values: float64[n], 2 or more.
    """
    half = student(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def student(degrees: float) -> float:
    """How many standard errors to either side hold 95 %, with so many degrees of freedom (1 or more)."""
    from scipy.special import stdtrit  # noqa: PLC0415  only evaluation needs it

    return float(stdtrit(degrees, 1 - _TAIL))


def student_p(deviations: float, degrees: float) -> float:
    """Two-sided p of a value so many standard errors from 0."""
    from scipy.special import stdtr  # noqa: PLC0415  only comparisons need it

    return 2 * float(stdtr(degrees, -abs(deviations)))


def wider(estimate: Estimate, low: float, high: float) -> Estimate:
    """The estimate with an interval that also holds `low` … `high`."""
    return Estimate(estimate.value, float(np.fmin(estimate.low, low)), float(np.fmax(estimate.high, high)))


def bootstrap_interval(value: float, replicated: Float64, left_out: Float64) -> Estimate:
    """BCa: the bootstrap's interval, corrected for bias and skewness.

    Efron, "Better bootstrap confidence intervals", 1987. Where nothing can be corrected, as when all
    replicates lie on one side, it is the plain interval between the quantiles.

    Args:
        value: of all the data.
        replicated: float64[r], of each replicate; NaN where not defined.
        left_out: float64[g], without each of g equal parts of the data (a grouped jackknife).
    """
    known = np.sort(replicated[np.isfinite(replicated)])
    if not len(known):
        return Estimate(value, math.nan, math.nan)
    below = _share_below(known, value)
    shares = [_TAIL, 1 - _TAIL]
    if 0 < below < 1:
        bias, skewness = _NORMAL.inv_cdf(below), _acceleration(left_out)
        shares = [_corrected(share, bias, skewness) for share in shares]
    low, high = np.quantile(known, shares)
    return Estimate(value, float(low), float(high))


def bootstrap_p(value: float, replicated: Float64, left_out: Float64) -> float:
    """Two-sided p of the hypothesis that the truth is 0: one minus the level at which BCa's interval touches it.

    So p is below 0.05 where `bootstrap_interval` of the same does not hold 0. It is at least 2 / (r + 1): r
    replicates say nothing about rarer events. NaN without a replicate. Arguments as there.
    """
    known = replicated[np.isfinite(replicated)]
    if not len(known):
        return math.nan
    rarest = 1 / (len(known) + 1)
    share = min(max(_share_below(known, 0.0), rarest), 1 - rarest)
    below = _share_below(known, value)
    if 0 < below < 1:
        share = _uncorrected(share, _NORMAL.inv_cdf(below), _acceleration(left_out))
    return min(1.0, max(2 * min(share, 1 - share), 2 * rarest))


def _share_below(known: Float64, value: float) -> float:
    """Share of replicates below a value; those equal to it count half."""
    return float((np.count_nonzero(known < value) + np.count_nonzero(known <= value)) / 2 / len(known))


def _acceleration(left_out: Float64) -> float:
    known = left_out[np.isfinite(left_out)]
    if not len(known):
        return 0.0
    deviation = known.mean() - known
    spread = float(np.sum(deviation**2)) ** 1.5
    return float(np.sum(deviation**3)) / (6 * spread) if spread > 0 else 0.0


def _corrected(share: float, bias: float, skewness: float) -> float:
    moved = bias + _NORMAL.inv_cdf(share)
    scale = 1 - skewness * moved
    return _NORMAL.cdf(bias + moved / scale) if scale > 0 else share


def _uncorrected(share: float, bias: float, skewness: float) -> float:
    """The inverse of `_corrected`."""
    distance = _NORMAL.inv_cdf(share) - bias
    scale = 1 + skewness * distance
    return _NORMAL.cdf(distance / scale - bias) if scale > 0 else share
