"""Calibration: from the trees' log-odds to probabilities of fraud that mean what they say.

Every calibration is kept as points (log-odds of the trees, log-odds of fraud) joined by straight
lines that always rise, so the order of transactions stays exactly that of the trees.

Three are tried: none; Platt's line (Platt, "Probabilistic outputs for support vector machines",
1999), and an isotonic fit (Zadrozny and Elkan, KDD 2002) of at most `ISOTONIC_POINTS_MAX` points.
The one of least log-loss under cross-fitting is taken; a more complex one must win clearly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, DataError
from zaslon.system.compiled import compiled
from zaslon.system.portable_math import exponential

Float64 = NDArray[np.float64]

ISOTONIC_POINTS_MAX = 20
# With fewer frauds (or good transactions) than this, chance decides more than the data do.
ISOTONIC_FRAUDS_MIN = 200
PLATT_FRAUDS_MIN = 20
FOLDS = 5
# A more complex calibration must lower the log-loss by this share: less is chance.
CLEAR_GAIN = 0.002
# Slopes in log-odds per log-odds, kept within these: flat pieces would make ties of different
# scores, steep ones would make certainty of noise.
SLOPE_MIN, SLOPE_MAX = 0.05, 20.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising chain of straight lines in log-odds, going on straight beyond its ends.

    Attributes:
        kind: `none`, `platt` or `isotonic`.
        raw: float64[k], k >= 2, strictly rising: log-odds of the trees.
        calibrated: float64[k], strictly rising: log-odds of fraud.

    Raises:
        ArtefactError: the points do not rise.
    """

    kind: str
    raw: Float64
    calibrated: Float64

    def __post_init__(self) -> None:
        """Check that the points rise."""
        points = np.stack([self.raw, self.calibrated]) if len(self.raw) == len(self.calibrated) else None
        if points is None or points.shape[1] < 2 or not (np.diff(points) > 0).all():
            raise ArtefactError("The calibration's points do not rise: the model is damaged.")
        if not np.isfinite(points).all():
            raise ArtefactError("The calibration's points are not all numbers: the model is damaged.")

    def probability(self, raw: Float64) -> Float64:
        """float64[n], 0 … 1: probability of fraud for log-odds of the trees, row by row."""
        result = np.empty(len(raw), np.float64)
        _probabilities(raw, self.raw, self.calibrated, result)
        return result


def no_calibration() -> Calibration:
    """The identity."""
    return Calibration("none", np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))


def calibrate(
    raw: Float64, is_fraud: NDArray[np.int8], weight: NDArray[np.float32], seed: int
) -> Calibration:
    """The calibration of least cross-fitted log-loss on data that the trees have not seen.

    Args:
        raw: float64[n], log-odds of the trees.
        is_fraud: int8[n], 0 or 1.
        weight: float32[n], positive.
        seed: of the folds.

    Raises:
        DataError: there are no frauds or no good transactions.
    """
    frauds = int(np.count_nonzero(is_fraud))
    rarer = min(frauds, len(is_fraud) - frauds)
    if rarer == 0:
        raise DataError(
            f"A model cannot be calibrated on {len(is_fraud)} transactions of which {frauds} are frauds.",
            hint="Validate on a period with both frauds and good transactions.",
        )
    y, w = is_fraud.astype(np.float64), weight.astype(np.float64)
    best = no_calibration()
    loss = _log_loss(best.probability(raw), y, w)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(raw))
    for needed, fit in ((PLATT_FRAUDS_MIN, _platt), (ISOTONIC_FRAUDS_MIN, _isotonic)):
        if rarer < needed:
            break
        tried = _cross_fitted_loss(fit, raw, y, w, fold)
        if tried < loss * (1 - CLEAR_GAIN):
            best, loss = fit(raw, y, w), tried
    return best


def _cross_fitted_loss(
    fit: Callable[[Float64, Float64, Float64], Calibration],
    raw: Float64, y: Float64, w: Float64, fold: NDArray[np.int64],
) -> float:  # fmt: skip
    probability = np.empty(len(raw))
    for k in range(FOLDS):
        outside = fold != k
        probability[~outside] = fit(raw[outside], y[outside], w[outside]).probability(raw[~outside])
    return _log_loss(probability, y, w)


def _log_loss(probability: Float64, y: Float64, w: Float64) -> float:
    clipped = np.clip(probability, 1e-15, 1 - 1e-15)
    return float(-np.average(np.log(np.where(y == 1, clipped, 1 - clipped)), weights=w))


def _platt(raw: Float64, y: Float64, w: Float64) -> Calibration:
    """A line a·raw + b of least log-loss, pulled weakly towards a = 0, as scikit-learn does by default."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  takes a second to load

    fit = LogisticRegression(solver="newton-cholesky").fit(raw[:, np.newaxis], y, sample_weight=w)
    fitted, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    slope = min(max(fitted, SLOPE_MIN), SLOPE_MAX)
    # A limited slope turns the line about the scores from which it was learned most.
    probability = fit.predict_proba(raw[:, np.newaxis])[:, 1]
    pivot = float(np.average(raw, weights=w * probability * (1 - probability)))
    ends = np.array([-1.0, 1.0])
    return Calibration("platt", ends, slope * ends + intercept + (fitted - slope) * pivot)


def _isotonic(raw: Float64, y: Float64, w: Float64) -> Calibration:
    """Isotonic fraud rates of bins with equally many frauds, joined in log-odds.

    Each bin's rate is smoothed by half a fraud and half a good transaction (Jeffreys), then
    neighbours that fall are pooled, then slopes are kept within their limits.
    """
    from sklearn.isotonic import isotonic_regression  # noqa: PLC0415  takes a second to load

    order = np.argsort(raw, kind="stable")
    z, y, w = raw[order], y[order], w[order]
    frauds = np.cumsum(y)
    bins = int(min(ISOTONIC_POINTS_MAX, max(2, frauds[-1] // 20)))
    bin_of = np.minimum((frauds - y) * bins // frauds[-1], bins - 1).astype(np.int64)
    total = np.bincount(bin_of, w, bins)
    per_row = total / np.maximum(np.bincount(bin_of, minlength=bins), 1)
    rate = (np.bincount(bin_of, w * y, bins) + 0.5 * per_row) / (total + per_row)
    pooled = isotonic_regression(rate, sample_weight=total, y_min=1e-9, y_max=1 - 1e-9)
    place = np.bincount(bin_of, w * z, bins) / total
    keep = np.append(True, np.diff(place) > 1e-6)
    return _with_kept_slopes("isotonic", place[keep], np.log(pooled[keep] / (1 - pooled[keep])))


def _with_kept_slopes(kind: str, raw: Float64, calibrated: Float64) -> Calibration:
    if len(raw) < 2:
        return no_calibration()
    slope = np.clip(np.diff(calibrated) / np.diff(raw), SLOPE_MIN, SLOPE_MAX)
    rising = np.concatenate([[0.0], np.cumsum(slope * np.diff(raw))])
    rising += np.mean(calibrated - rising)
    # Beyond the outer points nothing was measured: there the trees' own slope holds.
    raw = np.concatenate([[raw[0] - 1], raw, [raw[-1] + 1]])
    return Calibration(kind, raw, np.concatenate([[rising[0] - 1], rising, [rising[-1] + 1]]))


@compiled
def _probabilities(raw: Float64, points: Float64, calibrated: Float64, result: Float64) -> None:
    """One row at a time, so that a row's result does not depend on the rows around it."""
    for i in range(len(raw)):
        k = 1
        while k < len(points) - 1 and raw[i] > points[k]:
            k += 1
        slope = (calibrated[k] - calibrated[k - 1]) / (points[k] - points[k - 1])
        log_odds = calibrated[k - 1] + slope * (raw[i] - points[k - 1])
        if log_odds >= 0:
            result[i] = 1.0 / (1.0 + exponential(-log_odds))
        else:
            odds = exponential(log_odds)
            result[i] = odds / (1.0 + odds)
