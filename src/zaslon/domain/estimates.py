"""A measured figure, and between which limits the truth lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, `low` … `high`; NaN where not defined."""

    value: float
    low: float
    high: float


def exact_interval(rate: float, count: float) -> tuple[float, float]:
    """The rates that so many trials do not speak against at 95 %, however few they are.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.

    Args:
        rate: share of successes, 0 … 1.
        count: of trials; a fraction where they are weighted, see `models.intervals`. Zero carry no information.
    """
    from scipy.special import betaincinv  # noqa: PLC0415  only evaluation needs it

    if count <= 0 or math.isnan(rate):
        return 0.0, 1.0
    tail = (1 - LEVEL) / 2
    hits = min(max(rate * count, 0.0), count)
    low = float(betaincinv(hits, count - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, count - hits, 1 - tail)) if hits < count else 1.0
    return min(low, rate), max(high, rate)


def trials_needed(rate: float, limit: float, trials: float) -> float | None:
    """From how many trials on the exact interval of the same rate lies clear of a limit.

    Args:
        rate, limit: 0 … 1.
        trials: too few so far, over 0.

    Returns:
        None where the rate is at the limit, or more than a million times as many would not do.
    """

    def is_clear(count: float) -> bool:
        low, high = exact_interval(rate, count)
        return high <= limit or low > limit

    few, enough = trials, 2 * trials
    while not is_clear(enough):
        few, enough = enough, 2 * enough
        if enough > 1e6 * trials:
            return None
    while enough - few > 0.01 * few:
        middle = (few + enough) / 2
        few, enough = (few, middle) if is_clear(middle) else (middle, enough)
    return enough
