"""A confidence sequence: an interval of a mean that may be looked at as often as one likes.

An ordinary interval holds the truth in 95 of 100 samples whose size was fixed beforehand. Whoever looks every day and
stops at the first that holds no zero finds a difference between equal models sooner or later. Here all looks
together err with a probability of at most 5 %, and nobody needs to know beforehand when the last one will be.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024: the hedged capital
confidence sequence with predictable plug-in bets. It holds at any number of observations, not only at large ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.models.comparison import ALPHA

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_BET_MAX = 0.5  # of the capital that a bet may lose, so that no observation ends the game
_PRECISION = 1e-9  # of a bound, as a share of the range


def stopped_differences(stopped_a: Bool, stopped_b: Bool) -> Float64:
    """float64[n]: 1 where only the second model stops a fraud, -1 where only the first does, else 0.

    Their mean is the difference in recall. All lie between -1 and 1.
    """
    return stopped_b.astype(np.float64) - stopped_a.astype(np.float64)


def loss_differences(
    stopped_a: Bool, stopped_b: Bool, amount_minor: NDArray[np.int64], most_minor: int
) -> Float64:
    """float64[n]: how much more of a fraud the second model loses than the first, minor units.

    Args:
        stopped_a, stopped_b: bool[n], by fraud.
        amount_minor: int64[n].
        most_minor: a larger fraud counts as one of this amount; all lie between minus this and this.
    """
    return -stopped_differences(stopped_a, stopped_b) * np.minimum(amount_minor, most_minor)


def confidence_sequence(
    values: Float64, looks: Sequence[int], *, low: float, high: float, alpha: float = ALPHA
) -> tuple[Float64, Float64]:
    """Bounds of the mean at every look; with probability 1 - `alpha` all of them hold it.

    Observations come in order, and each has the same mean given those before it. If that changes, a lower bound
    above 0 still shows that the mean was above 0 at some time.

    Args:
        values: float64[n], each from `low` to `high`.
        looks: after how many observations, ascending, at most n.
        low, high: known before any observation.
        alpha: how often some bound may be wrong.

    Returns:
        Two float64[looks]: lower bounds never fall and upper ones never rise.

    Raises:
        DataError: a value outside the range.
    """
    if not ((values >= low) & (values <= high)).all():
        raise DataError(f"Some values are not between {low:g} and {high:g}.")
    share = (values - low) / (high - low)
    bets = _bets(share, alpha)
    lower = _lower_bounds(share, bets, looks, alpha)
    upper = 1 - _lower_bounds(1 - share, bets, looks, alpha)
    return low + lower * (high - low), low + upper * (high - low)


def _bets(share: Float64, alpha: float) -> Float64:
    """float64[n]: what is staked on each observation, from those before it: more where they vary little."""
    count = np.arange(1, len(share) + 1)
    mean = (0.5 + np.cumsum(share)) / (count + 1)
    variance = (0.25 + np.cumsum((share - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance])[: len(share)]
    return np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log1p(count)))


def _lower_bounds(share: Float64, bets: Float64, looks: Sequence[int], alpha: float) -> Float64:
    """float64[looks]: the least mean that is not refuted: betting that it is higher has not won enough.

    Who bets that a mean is higher than it is, fairly, multiplies a capital of 1 by 2 / alpha with a probability of
    at most alpha / 2, at whatever time (Ville 1939). The capital falls with the mean that is bet against.
    """
    from scipy.optimize import brentq  # noqa: PLC0415  only comparisons need it

    enough, bound = math.log(2 / alpha), 0.0
    found = np.empty(len(looks))
    for number, look in enumerate(looks):
        seen, staked = share[:look], bets[:look]
        if _log_capital(bound, seen, staked, enough) > 0:
            root = brentq(_log_capital, bound, 1.0, (seen, staked, enough), xtol=_PRECISION)
            bound = max(bound, float(root) - _PRECISION)
        found[number] = bound
    return found


def _log_capital(mean: float, share: Float64, bets: Float64, enough: float) -> float:
    """By how much the logarithm of the capital exceeds `enough`, betting that the mean is above `mean`."""
    staked = np.minimum(bets, _BET_MAX / mean) if mean > 0 else bets
    return float(np.log1p(staked * (share - mean)).sum()) - enough
