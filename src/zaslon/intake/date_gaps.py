"""Rows by day while an input is read, and which of its last days are there only by a wrong date.

The log of a file is in the order of event time, so one row with the year 2042 would be its newest, and
every honest row after it `too_late`. A date after the input's arrival is rejected at once. A wrong date
in the past shows only when all is read: it lies behind a gap, and few rows are with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text

Int64 = NDArray[np.int64]

# Behind a gap fewer rows than this, and fewer than one in this many of the input, are a wrong date.
ROWS_MAX = 1_000
# Where the input continues a log, this many rows of the log count as part of the input. A constant, so that
# the same input is cleaned to the same rows however much of it the log has already. The input that a log
# begins with is the exception: its first cleaning counts no rows of a log. If a crash interrupts it before the
# gap, the next one may take all rows of a stretch behind it for wrong dates that the first one kept: one with
# fewer than ROWS_OF_LOG / ROWS_MAX = 10 rows more than one in ROWS_MAX of the input. The rows before the gap
# are then duplicates of those in the log, and none is decided twice.
ROWS_OF_LOG = 10_000


class _Stretches(NamedTuple):
    """Stretches of days without a gap among them, oldest first: first day, last day and rows of each."""

    first: Int64
    last: Int64
    rows: Int64


@dataclass(frozen=True)
class WrongDates:
    """The days from `first_day` on, which lie behind a gap with too few rows.

    Attributes:
        first_day: day number of the first of them.
        day_before: the last day before the gap.
        rows: how many rows they have.
        rows_before: how many rows the input has before them.
    """

    first_day: int
    day_before: int
    rows: int
    rows_before: int

    def sentence(self, field: str, event_time_seconds: int, gap_max: str) -> str:
        """What is wrong with a row at this time."""
        day = event_time_seconds // SECONDS_PER_DAY
        return (
            f"Field '{field}' is on {day_text(day)}, {day - self.day_before} days after"
            f" {day_text(self.day_before)}, and only {self.rows} of {self.rows + self.rows_before} rows lie"
            f" behind that gap; expected none of more than {gap_max} with so few rows behind it"
            " (record.gap_max)."
        )


class DayCounts:
    """Counts rows by day.

    Args:
        gap_max_seconds: a longer gap between two days may have wrong dates behind it; 0: none has.
    """

    def __init__(self, gap_max_seconds: int) -> None:
        self._gap_max_seconds = gap_max_seconds
        self._rows = np.zeros(DAYS_MAX, np.int64)

    def add(self, event_time_seconds: Int64) -> NDArray[np.bool_]:
        """Count rows; returns bool[n], which of them may turn out to have a wrong date.

        A stretch of days only grows, so a row in one that has enough rows already is safe.
        """
        day = event_time_seconds // SECONDS_PER_DAY
        self._rows += np.bincount(day, minlength=DAYS_MAX)
        if not self._gap_max_seconds or not len(day):
            return np.zeros(len(day), np.bool_)
        found = self._stretches(self._rows)
        small = found.rows < ROWS_MAX
        if not small.any():
            return np.zeros(len(day), np.bool_)
        return small[np.searchsorted(found.last, day)]

    def wrong_dates(self, newest_seconds: int | None) -> WrongDates | None:
        """The input's last days, if they are there only by a wrong date. Call it when all is counted.

        Stretches are removed from the end while each has fewer than ROWS_MAX rows and one in ROWS_MAX,
        and at least as many rows stay as go. Days before others do no harm, however few their rows are.

        Args:
            newest_seconds: newest event time of the log that the input continues; None where it begins one.
        """
        stay = total = int(self._rows.sum())
        if not self._gap_max_seconds or not total:
            return None
        with_log = self._rows.copy()
        if newest_seconds is not None:
            with_log[newest_seconds // SECONDS_PER_DAY] += ROWS_OF_LOG
        found, all_rows = self._stretches(with_log), int(with_log.sum())
        kept = len(found.rows)
        while kept > 1:
            rows = int(found.rows[kept - 1])
            if rows >= ROWS_MAX or rows * ROWS_MAX >= all_rows or 2 * (stay - rows) < total:
                break
            kept, stay = kept - 1, stay - rows
        if stay == total:
            return None
        return WrongDates(int(found.first[kept]), int(found.last[kept - 1]), total - stay, stay)

    def _stretches(self, rows: Int64) -> _Stretches:
        days = np.flatnonzero(rows)
        is_first = np.concatenate([[True], np.diff(days) * SECONDS_PER_DAY > self._gap_max_seconds])
        is_last = np.concatenate([is_first[1:], [True]])
        counts = np.add.reduceat(rows[days], np.flatnonzero(is_first))
        return _Stretches(days[is_first], days[is_last], counts)
