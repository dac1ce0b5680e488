"""Series of frauds: what a test counts once where frauds come together and people look every day.

The design effect of `fraud_groups` belongs to a sample of a fixed size. A test that is looked at every day needs
observations of which each has the same mean whatever came before it. Frauds of one customer or terminal are none: after
the first one the others are half known. So frauds that share an entity are a series, and its mean is one observation
(Donner and Klar, "Design and Analysis of Cluster Randomization Trials in Health Research", 2000, ch. 6: analysis at the
level of the cluster).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import SECONDS_PER_DAY

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# A series counts with the frauds of its first week: one that has no end would otherwise never be counted.
SERIES_SECONDS = 7 * SECONDS_PER_DAY
# What shares an entity with it later is the same attack, and no news. Of the attacks that the handbook simulates the
# longest last 28 days (Le Borgne and others, "Reproducible Machine Learning for Credit Card Fraud Detection", ch. 3.2).
APART_SECONDS = SERIES_SECONDS + 28 * SECONDS_PER_DAY

NO_SERIES = -1


def fraud_series(groups: Int64, event_time_seconds: Int64, before_seconds: int) -> Int64:
    """int64[frauds]: the series in which each counts, numbered in the order of their first frauds.

    No two frauds that share an entity are in different series, unless these began `APART_SECONDS` apart. A fraud that
    belongs to two is in none, which keeps chains of customers and terminals from joining all frauds into one.

    Args:
        groups: int64[frauds, entities], see `fraud_groups.fraud_groups`.
        event_time_seconds: int64[frauds].
        before_seconds: series that are not over at this moment are left out: they may get more frauds.

    Returns:
        `NO_SERIES` for frauds that count in none.
    """
    found = np.full(len(groups), NO_SERIES)
    owners: list[dict[int, int]] = [{} for _ in range(groups.shape[1])]
    began: list[int] = []
    times = event_time_seconds.tolist()
    for fraud in np.argsort(event_time_seconds, kind="stable").tolist():
        moment, entities = times[fraud], groups[fraud].tolist()
        if moment >= before_seconds:
            break
        known = {owner.get(entity, NO_SERIES) for owner, entity in zip(owners, entities, strict=True)}
        known = {series for series in known if series >= 0 and moment < began[series] + APART_SECONDS}
        if not known:
            began.append(moment)
        elif len(known) > 1 or moment >= began[min(known)] + SERIES_SECONDS:
            continue
        series = min(known, default=len(began) - 1)
        found[fraud] = series
        for owner, entity in zip(owners, entities, strict=True):
            owner[entity] = series
    over = np.searchsorted(began, before_seconds - SERIES_SECONDS, "right")
    return np.where(found < over, found, NO_SERIES)


def series_means(values: Float64, series: Int64) -> Float64:
    """float64[series]: the mean of the values of each series, in order.

    Args:
        values: float64[frauds].
        series: int64[frauds], see `fraud_series`.
    """
    counted = series != NO_SERIES
    sums = np.bincount(series[counted], values[counted])
    return np.asarray(sums / np.bincount(series[counted]), np.float64)
