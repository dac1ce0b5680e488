"""Clean days of files that were taken before: the first rows of one input, which new files continue.

A row of theirs is one that was new; its answer is the last one until then. So settling new rows among these gives what
settling all rows of all files gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.errors import InputError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.date_gaps import Int64, RowDays
from zaslon.intake.repeat_filter import RepeatFilter
from zaslon.intake.settling import TEXT, among

_ROWS_OF_DAY_BITS = 40  # of a row's place: a day has at most 2^40 rows


class EarlierDays:
    """Their rows, by day, as staged rows. `order` is negative: they come before every row of a new file.

    Args:
        days: the Parquet file of each day number.
        remember_seconds: for how long an id is known; only rows so near to new ones matter to these.
        has_text_ids: whether ids are texts; their keys have a column of their own.
    """

    def __init__(
        self, days: Mapping[int, Path], remember_seconds: int, *, has_text_ids: bool = False
    ) -> None:
        self._paths, self._has_text_ids = dict(days), has_text_ids
        self._reach_days = remember_seconds // SECONDS_PER_DAY + 1

    def near(self, days: Int64) -> list[int]:
        """Which of the earlier days have rows that rows of these ascending days may repeat."""
        known = np.array(sorted(self._paths), np.int64)
        if not len(days) or not len(known):
            return []
        place = np.searchsorted(days, known)
        after, before = days[np.minimum(place, len(days) - 1)], days[np.maximum(place - 1, 0)]
        distance = np.minimum(np.abs(after - known), np.abs(before - known))
        return [int(day) for day in known[distance <= self._reach_days]]

    def ids(self, day: int) -> Int64:
        """The ids of a day, in the order of its rows."""
        path = self._paths[day]
        try:
            name = "transaction_key" if self._has_text_ids else "transaction_id"
            return pl.read_parquet(path, columns=[name])[name].to_numpy()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(path, error) from error

    def rows(self, day: int) -> pl.DataFrame:
        """The rows of a day in staged columns; none where there is no such day."""
        path = self._paths.get(day)
        if path is None:
            return pl.DataFrame()
        try:
            rows = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(path, error) from error
        if self._has_text_ids:
            rows = rows.rename({"transaction_id": TEXT, "transaction_key": "transaction_id"})
        return rows.with_columns(pl.Series("order", _orders(day, len(rows))))

    def with_ids(self, days: Int64, wanted: Int64, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Columns of the rows near days whose ids are in the sorted `wanted`, by day."""
        for day in self.near(days):
            hits = among(self.ids(day), wanted)
            if hits.any():
                yield self.rows(day).filter(pl.Series(hits)).select(columns)


class KnownIds:
    """Finds ids that may have been seen before, in new files or in the earlier days near them."""

    def __init__(self, ids: RepeatFilter, earlier: EarlierDays) -> None:
        self._ids, self._earlier, self._entered = ids, earlier, set[int]()

    def suspects(self, ids: Int64, days: RowDays) -> NDArray[np.bool_]:
        """bool[n]; False means certainly new. Every id counts as seen from here on."""
        for day in self._earlier.near(np.flatnonzero(days.rows)):
            if day not in self._entered:
                self._ids.suspects(self._earlier.ids(day))
                self._entered.add(day)
        return self._ids.suspects(ids)


def _orders(day: int, rows: int) -> Int64:
    """Numbers that no other earlier row has, in the order of the log."""
    return np.arange(rows, dtype=np.int64) + ((day - (1 << 20)) << _ROWS_OF_DAY_BITS)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"Clean day '{path}' cannot be read: {error}.", hint="Clean all files again, without --only-new."
    )
