"""Rows by day while an input is read, and which of its last days are there only by a wrong date.

The log of a file is in the order of event time, so one row with the year 2042 would be its newest, and
every honest row after it `too_late`. A date after the input's arrival is rejected at once. A wrong date
before it shows only when all is read: it lies far behind the last day with usual traffic, and few rows are
with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text

Int64 = NDArray[np.int64]

# A day with fewer rows than one in so many of a usual day's has few. A usual day: half of all rows come on
# days with at least as many. So in a source with ten rows a day or fewer no day has few.
FEW_SHARE = 10
# An input that lies mostly behind a gap is doubtful with fewer rows than one in so many of a usual day's.
HARDLY_ANY_SHARE = 100
# No day with as many rows has few: of the others the original bytes are kept until all is read.
ROWS_MAX = 1_000


@dataclass(frozen=True)
class WrongDates:
    """The days from `first_day` on, which have few rows and lie behind a gap.

    Attributes:
        first_day: day number of the first of them.
        day_before: the last day before them that has more than few rows.
        rows: how many rows of the input they have.
        rows_before: how many rows the input has before them.
        rows_usual: rows of a usual day.
    """

    first_day: int
    day_before: int
    rows: int
    rows_before: int
    rows_usual: int

    @property
    def are_most(self) -> bool:
        """Whether the input has more of these rows than others: then the gap may as well be real."""
        return self.rows > self.rows_before

    @property
    def are_hardly_any(self) -> bool:
        """Whether they are so few that even the first rows after a true pause would be more."""
        return self.rows * HARDLY_ANY_SHARE < self.rows_usual

    def sentence(self, field: str, event_time_seconds: int) -> str:
        """What is wrong with a row at this time."""
        day = event_time_seconds // SECONDS_PER_DAY
        return (
            f"Field '{field}' is on {day_text(day)}, {day - self.day_before} days after"
            f" {day_text(self.day_before)}, and only {self.rows} of {self.rows + self.rows_before} rows lie"
            f" behind that gap; expected none (record.gap_max) with so few rows, where a usual day has"
            f" {self.rows_usual}."
        )

    def question(self) -> str:
        """What is doubtful about an input that consists mostly of such rows."""
        return (
            f"{self.rows} of {self.rows + self.rows_before} rows are on {day_text(self.first_day)} or later,"
            f" {self.first_day - self.day_before} days or more after {day_text(self.day_before)}, and a usual"
            f" day has {self.rows_usual}: if these dates are wrong, all rows before them would be too late."
        )


class DayCounts:
    """Counts rows by day.

    Args:
        gap_max_seconds: few rows more than this after the last day with more may have a wrong date; 0: none has.
    """

    def __init__(self, gap_max_seconds: int) -> None:
        self._gap_days_max = gap_max_seconds // SECONDS_PER_DAY
        self._rows = np.zeros(DAYS_MAX, np.int64)

    def add(self, event_time_seconds: Int64) -> NDArray[np.bool_]:
        """Count rows; returns bool[n], which of them may turn out to have a wrong date.

        Rows only become more, so a row near a day that has ROWS_MAX already, or before it, is safe.
        """
        day = event_time_seconds // SECONDS_PER_DAY
        self._rows += np.bincount(day, minlength=DAYS_MAX)
        if not self._gap_days_max or not len(day):
            return np.zeros(len(day), np.bool_)
        safe = np.flatnonzero(self._rows >= ROWS_MAX)
        if not len(safe):
            return np.ones(len(day), np.bool_)
        return np.asarray(day > safe[-1] + self._gap_days_max)

    def wrong_dates(self, rows_of_log: Int64 | None = None) -> WrongDates | None:
        """The input's last days, if they are there only by a wrong date. Call it when all is counted.

        They come after the last day with more than few rows, by more than the gap. They are dropped where
        they come after as long a time without any row, or where all rows after that last day together are few:
        so a trade that fades away day by day loses nothing. Days before others do no harm, however few
        their rows are.

        Args:
            rows_of_log: int64[DAYS_MAX], rows by day of the log that the input continues, as far as it knows
                them; None where it begins one.
        """
        if not self._gap_days_max or not self._rows.any():
            return None
        # A day that both have: the log may hold a part of the input already.
        rows = self._rows if rows_of_log is None else np.maximum(self._rows, rows_of_log)
        days, usual = np.flatnonzero(rows), _usual(rows)
        last = int(days[_are_many(rows[days], usual)][-1])
        first = self._first_wrong_day(last, usual)
        if first is None:
            return None
        wrong = int(self._rows[first:].sum())
        return WrongDates(first, last, wrong, int(self._rows.sum()) - wrong, usual)

    def _first_wrong_day(self, last: int, usual: int) -> int | None:
        """The first day of the input to be dropped; `last` is the last one with more than few rows."""
        days = last + np.flatnonzero(self._rows[last:])
        behind = days[days > last + self._gap_days_max]
        if len(behind) and not _are_many(self._rows[last + 1 :].sum(), usual):
            return int(behind[0])
        follow = days[days > last]
        after_gap = np.diff(follow, prepend=last) > self._gap_days_max
        return int(follow[after_gap][0]) if after_gap.any() else None


def _usual(rows: Int64) -> int:
    """Rows of a usual day: the greatest number such that half of all rows come on days with at least as many."""
    falling = np.sort(rows[rows > 0])[::-1]
    return int(falling[np.searchsorted(np.cumsum(falling), falling.sum() / 2)])


def _are_many(rows: Int64, usual: int) -> NDArray[np.bool_]:
    return np.asarray((rows >= ROWS_MAX) | (rows * FEW_SHARE >= usual))
