"""Parts of the transactions that no new model may pay for: amounts, hours, entities by age, values of a category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.events import NO_KEY
from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds
from zaslon.features.plan import FeaturePlan
from zaslon.models.dataset import Sample
from zaslon.services.featurising import Day

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]

AGE_DAYS = (7, 30)  # a week, then the longest window of the built-in catalogue
CATEGORIES_MAX = 20  # a field with more values is a measurement or a name, no category


def segments(sample: Sample, plan: FeaturePlan, days: Sequence[Day]) -> dict[str, Bool]:
    """bool[n] by name; they overlap. Segments without a transaction are left out.

    Args:
        sample: n transactions.
        plan: of their features.
        days: clean days, which say when an entity was first seen; later ones than the sample's do not matter.
    """
    found = {**_amounts(sample), **_hours(sample), **_new(sample, plan)}
    for position, entity in enumerate(plan.catalogue.entities):
        keys = sample.entity_keys[:, position]
        found |= _ages(entity, sample.event_time_seconds - _first_seen_seconds(days, entity, keys), keys)
        found |= _values(entity, keys, keys != NO_KEY)
    for field in plan.catalogue.number_fields:
        if field in sample.names:
            values = sample.x[:, sample.names.index(field)]
            found |= _values(field, values, ~np.isnan(values))
    return {name: mask for name, mask in found.items() if mask.any()}


def _amounts(sample: Sample) -> dict[str, Bool]:
    amount = sample.amount_minor
    large, larger = np.quantile(amount, (0.5, 0.9))
    return {
        "amounts up to the median": amount <= large,
        "amounts of the upper half": (amount > large) & (amount <= larger),
        "the largest tenth of amounts": amount > larger,
    }


def _hours(sample: Sample) -> dict[str, Bool]:
    hour = sample.event_time_seconds % SECONDS_PER_DAY // 3600
    return {
        f"{begin:02d}:00 to {begin + 6:02d}:00": (hour >= begin) & (hour < begin + 6)
        for begin in range(0, 24, 6)
    }


def _new(sample: Sample, plan: FeaturePlan) -> dict[str, Bool]:
    """Entities without transactions in the catalogue's longest count of them."""
    return {
        f"a new {entity}": ~(sample.x[:, column] > 0)
        for entity, column in _longest_counts(plan, sample.names)
    }


def _longest_counts(plan: FeaturePlan, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Of each entity the column of its count of transactions with the longest window."""
    longest: dict[str, tuple[int, str]] = {}
    for info in plan.infos:
        is_count = info.compute == "count" and info.where is None
        if is_count and info.entity and info.window and info.name in names:
            rank = (parse_duration_seconds(info.window), info.name)
            longest[info.entity] = max(longest.get(info.entity, rank), rank)
    for entity, (_, name) in longest.items():
        yield entity, list(names).index(name)


def _ages(entity: str, age_seconds: Int64, keys: Int64) -> dict[str, Bool]:
    """Bands of the time since an entity was first seen in the clean days."""
    week, month = (days * SECONDS_PER_DAY for days in AGE_DAYS)
    has_key = keys != NO_KEY
    return {
        f"a {entity} first seen within {AGE_DAYS[0]} days": has_key & (age_seconds < week),
        f"a {entity} first seen {AGE_DAYS[0]} to {AGE_DAYS[1]} days before": has_key
        & (age_seconds >= week)
        & (age_seconds < month),
        f"a {entity} first seen over {AGE_DAYS[1]} days before": has_key & (age_seconds >= month),
    }


def _first_seen_seconds(days: Sequence[Day], entity: str, keys: Int64) -> Int64:
    """int64[n]: when each key occurs first in the clean days, seconds since 1970."""
    column = f"{entity}_key"
    scanned = pl.scan_parquet([path for _, path in days]).select(column, "event_time_seconds")
    wanted = pl.DataFrame({column: np.unique(keys)})
    first = (
        scanned.join(wanted.lazy(), on=column, how="semi")
        .group_by(column)
        .agg(pl.col("event_time_seconds").min())
        .sort(column)
        .collect(engine="streaming")
    )
    known = first[column].to_numpy()
    if not len(known):
        return np.zeros(len(keys), np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    seconds = np.where(known[at] == keys, first["event_time_seconds"].to_numpy()[at], 0)
    return seconds.astype(np.int64)


def _values(field: str, values: NDArray[np.generic], is_known: Bool) -> dict[str, Bool]:
    """Each value of a field that has few of them; none of a field with many, or with one."""
    different = np.unique(values[is_known])
    if not 1 < len(different) <= CATEGORIES_MAX:
        return {}
    return {
        f"{field} {str(value).removesuffix('.0')}": is_known & (values == value)
        for value in different.tolist()
    }
