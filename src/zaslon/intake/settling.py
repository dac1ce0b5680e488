"""Which of the rows that may be repeats are some, and the answers that came with them."""

from __future__ import annotations

from bisect import bisect
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason
from zaslon.domain.time import SECONDS_PER_DAY

DIGEST = ("digest_0", "digest_1")  # the two words of a transaction's digest
TEXT = (
    "transaction_text"  # ids that are texts: staged rows have their hashes as ids until the days are written
)
# Of staged rows, what settling needs; and of suspects, what they have beside the staged columns.
SETTLING = ("transaction_id", "event_time_seconds", *DIGEST, "order", "is_fraud")
ASIDE = ("source", "record", "offset", "raw", "layout")


class Settled(NamedTuple):
    """What became of suspects.

    Attributes:
        fresh: those that are no repeats, in the columns of staged rows.
        repeats: the others, with their `reason`.
        answers: `day`, `order`, `is_fraud` and `scenario` of rows whose answer came, or changed, with a repeat.
        answers_changed: how often one came or changed.
    """

    fresh: pl.DataFrame
    repeats: pl.DataFrame
    answers: pl.DataFrame
    answers_changed: int


def settle(suspects: pl.DataFrame, rows: pl.DataFrame, remember_seconds: int) -> Settled:
    """Look suspects up exactly.

    Of records with one id, less than `remember_seconds` apart, the first in the order of input is kept.

    Args:
        suspects: all of their ids, in the order of input.
        rows: columns SETTLING of every row with one of their ids, in the order of input, theirs included.
        remember_seconds: for how long an id is known.
    """
    ids, moments = rows["transaction_id"].to_numpy(), rows["event_time_seconds"].to_numpy()
    first = rows[repeated_rows(ids, moments, remember_seconds)].select(pl.all().name.prefix("first_"))
    joined = suspects.join(
        pl.concat([rows.select("order"), first], how="horizontal"),
        on="order", how="left", maintain_order="left",
    )  # fmt: skip
    new = pl.col("order") == pl.col("first_order")
    same = pl.all_horizontal(
        pl.col(name) == pl.col(f"first_{name}") for name in ("event_time_seconds", *DIGEST)
    )
    reason = pl.when(same).then(int(Reason.DUPLICATE)).otherwise(int(Reason.CONFLICTING_DUPLICATE))
    return Settled(
        joined.filter(new).select([c for c in suspects.columns if c not in ASIDE]),
        joined.filter(~new).with_columns(reason.cast(pl.UInt8).alias("reason")),
        *_answers(joined.filter(~new & same)),
    )


def _answers(repeats: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The last answer to each transaction that differs from the one before, in the order of input; how many do.

    Each answer is compared with the one before only, so that an input in two parts gives what the whole gives.
    """
    given = repeats.filter(pl.col("is_fraud") >= 0)
    before = pl.coalesce(pl.col("is_fraud").shift(1).over("first_order"), "first_is_fraud")
    news = given.filter(pl.col("is_fraud") != before)
    last = news.group_by("first_order", maintain_order=True).last()
    day = pl.col("event_time_seconds") // SECONDS_PER_DAY
    return last.select(day.alias("day"), pl.col("first_order").alias("order"), "is_fraud", "scenario"), len(
        news
    )


def repeated_rows(
    ids: NDArray[np.int64], event_time_seconds: NDArray[np.int64], remember_seconds: int
) -> NDArray[np.int64]:
    """int64[n], which row each repeats, itself where it is new. Rows are in the order of input.

    A row repeats the nearest new one with its id that is less than `remember_seconds` away.
    """
    _, first, group = np.unique(ids, return_index=True, return_inverse=True)
    repeats = first[group]
    is_far = np.abs(event_time_seconds - event_time_seconds[repeats]) >= remember_seconds
    if not is_far.any():
        return np.asarray(repeats)
    is_used_again = np.zeros(len(first), np.bool_)
    is_used_again[group[is_far]] = True
    new: dict[int, list[tuple[int, int]]] = {}  # by group, times and rows, in the order of time
    for row in np.flatnonzero(is_used_again[group]).tolist():
        known, moment = new.setdefault(int(group[row]), []), int(event_time_seconds[row])
        place = bisect(known, (moment,))
        near = known[max(place - 1, 0) : place + 1]  # of two equally near ones the earlier
        time, nearest = min(near, key=lambda other: abs(moment - other[0]), default=(-remember_seconds, row))
        if abs(moment - time) >= remember_seconds:
            known.insert(place, (moment, row))
            nearest = row
        repeats[row] = nearest
    return np.asarray(repeats)


def among(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n]: which ids are in the sorted `wanted`."""
    place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[place] == ids)
