"""Rows by day while an input is read, and which of its last days are there only by a wrong date.

The log of a file is in the order of event time, so one row with the year 2042 would be its newest, and
every honest row after it `too_late`. A date after the input's arrival is rejected at once. A wrong date
before it shows only when all is read: it lies behind a gap, and few rows are with it.

A usual day has as many rows as the median of the days with ten or more, in the run of days that has most
rows; runs are separated by more than `gap_max` days without any row. A day has few rows with less than a
tenth of that, and less than 1,000. The days after the last one with more than few rows are the tail. They
lie behind a gap if more than `gap_max` days before them have no row, or if they come more than `gap_max`
days after that last day and the whole tail together is few rows: a row a day fills no gap.

What lies behind a gap is rejected if it is fewer than ten rows; or if it is few rows together and no run of
the tail's days is traffic: ten rows or more, on several days, with two or more a day on average. Otherwise it
is a question to the user.

Promised:

- Wrong dates are no more than rejections if they are fewer rows than a tenth of a usual day, and on one
  day, fewer than ten, or fewer than two a day.
- Days of which none comes more than `gap_max` after the one before lose nothing, whatever their counts are,
  except such a tail. Where they have two rows a day or more, that is fewer than ten rows.
- A burst, on fewer than half of the days, changes nothing: of the days with ten rows or more, or, in a
  source with fewer, of the days up to the last burst.
- Traffic after a pause is kept or is a question.

Not promised:

- Honest rows after a gap are lost where nothing tells them from wrong dates: fewer than ten, or fewer than
  a tenth of a usual day and all on one day or one a day.
- Wrong dates are kept in a source with ten rows a day or fewer, where any gap may be real; where they fill
  the gap and are a tenth of a usual day or more, or of the median of all days before them; and where most
  days with ten rows or more have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import InputError
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text, parse_duration_seconds
from zaslon.system.isolation import fault_text, is_fault_of_ours

Int64 = NDArray[np.int64]

# A day with fewer rows than one in so many of a usual day's has few. So days with fewer rows than this say
# nothing about what is usual, and in a source with no more a day no day has few.
FEW_SHARE = 10
# An input that lies mostly behind a gap is doubtful with fewer rows than one in so many of a usual day's.
HARDLY_ANY_SHARE = 100
# No day with as many rows has few: of the others the original bytes are kept until all is read.
ROWS_MAX = 1_000
# Several days with so many rows in all, and so many a day, may be traffic. Fewer rows are worth no question.
TRAFFIC_ROWS_MIN, TRAFFIC_ROWS_A_DAY_MIN = 10, 2

_HINT_MOST = "Correct the dates; if they are right, say with --arrived when these rows arrived."
_HINT_SOME = (
    "If they are wrong, say with --arrived when the input was made: later rows are rejected. If they are right,"
    ' give them in a file of their own after the others, or allow any gap with gap_max = "0d" (record.gap_max).'
)


@dataclass(frozen=True)
class WrongDates:
    """The days from `first_day` on, which have few rows each and lie behind a gap.

    Attributes:
        first_day: day number of the first of them.
        day_before: the last day before them that has more than few rows.
        rows: how many rows of the input they have.
        rows_before: how many rows the input has before them.
        rows_usual: rows of a usual day.
        may_be_traffic: whether they are too many, or too regular, to be rejected without a question.
    """

    first_day: int
    day_before: int
    rows: int
    rows_before: int
    rows_usual: int
    may_be_traffic: bool = False

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
        """What is doubtful about an input with such rows."""
        return (
            f"{self.rows} of {self.rows + self.rows_before} rows are on {day_text(self.first_day)} or later,"
            f" {self.first_day - self.day_before} days or more after {day_text(self.day_before)}, and a usual"
            f" day has {self.rows_usual}: if these dates are wrong, all rows before them would be too late."
        )


class RowDays(NamedTuple):
    """The days of rows.

    Attributes:
        day: int64[n], day number of each row.
        rows: int64[DAYS_MAX], how many rows each day has.
    """

    day: Int64
    rows: Int64

    @classmethod
    def of(cls, event_time_seconds: Int64) -> RowDays:
        """The days of rows with these times."""
        day = event_time_seconds // SECONDS_PER_DAY
        return cls(day, np.bincount(day, minlength=DAYS_MAX))


class DayCounts:
    """Counts rows by day.

    Args:
        gap_max_seconds: few rows more than this after the last day with more may have a wrong date; 0: none has.
    """

    def __init__(self, gap_max_seconds: int) -> None:
        self._gap_days_max = gap_max_seconds // SECONDS_PER_DAY
        self._rows = np.zeros(DAYS_MAX, np.int64)

    def add(self, rows: RowDays) -> NDArray[np.bool_]:
        """Count rows; returns bool[n], which of them may turn out to have a wrong date.

        Rows only become more, so a row near a day that has ROWS_MAX already, or before it, is safe.
        """
        day = rows.day
        self._rows += rows.rows
        if not self._gap_days_max or not len(day):
            return np.zeros(len(day), np.bool_)
        safe = np.flatnonzero(self._rows >= ROWS_MAX)
        if not len(safe):
            return np.ones(len(day), np.bool_)
        return np.asarray(day > safe[-1] + self._gap_days_max)

    def add_days(self, rows_by_day: dict[int, int]) -> None:
        """Count rows that another process has counted by day."""
        for day, rows in rows_by_day.items():
            self._rows[day] += rows

    def rows_by_day(self) -> dict[int, int]:
        """How many rows were counted, by day number."""
        return {int(day): int(self._rows[day]) for day in np.flatnonzero(self._rows)}

    def rejected(
        self, catalogue: Catalogue, arrival_time_seconds: int, rows_of_log: Int64 | None = None
    ) -> WrongDates | None:
        """The days to reject. An input that is mostly behind the gap is taken: it may follow a pause.

        Raises:
            InputError: nothing says whether the dates behind the gap are right. They may be traffic; or the
                input is little else, hardly any rows, and of long before its arrival. Or our own code fails
                on the days: they are those of all rows, so no row is to blame.
        """
        wrong = self._wrong_dates_if_sound(rows_of_log)
        if wrong is None or not (wrong.are_most or wrong.may_be_traffic):
            return wrong
        late_within = parse_duration_seconds(catalogue.retention.late_within)
        is_recent = wrong.first_day >= (arrival_time_seconds - late_within) // SECONDS_PER_DAY
        if wrong.are_most and (is_recent or not wrong.are_hardly_any):
            return None
        raise InputError(wrong.question(), hint=_HINT_MOST if wrong.are_most else _HINT_SOME)

    def _wrong_dates_if_sound(self, rows_of_log: Int64 | None) -> WrongDates | None:
        try:
            return self.wrong_dates(rows_of_log)
        except Exception as error:
            if not is_fault_of_ours(error):
                raise
            raise InputError(
                f"Whether dates of this input are wrong is not known: {fault_text(error)} in Zaslon's own code.",
                hint='Report it as a bug in Zaslon; meanwhile allow any gap with gap_max = "0d" (record.gap_max).',
            ) from error

    def wrong_dates(self, rows_of_log: Int64 | None = None) -> WrongDates | None:
        """The input's last days, if they are there only by a wrong date. Call it when all is counted.

        Days before others do no harm, however few their rows are.

        Args:
            rows_of_log: int64[DAYS_MAX], rows by day of the log that the input continues, as far as it knows
                them; None where it begins one.
        """
        if not self._gap_days_max or not self._rows.any():
            return None
        # A day that both have: the log may hold a part of the input already.
        rows = self._rows if rows_of_log is None else np.maximum(self._rows, rows_of_log)
        days = np.flatnonzero(rows)
        usual = max((rows[run] for run in self._runs(days)), key=np.sum)
        rows_usual = _median(usual[usual >= FEW_SHARE])
        last = int(days[_are_many(rows[days], rows_usual)][-1])
        behind = self._behind_gap(rows, last, rows_usual)
        mine = behind[self._rows[behind] > 0]
        if not len(mine):
            return None
        runs = [run for run in self._runs(days[days > last]) if run[-1] >= behind[0]]
        total = rows[behind].sum()
        may_be_traffic = bool(total >= TRAFFIC_ROWS_MIN and _are_many(total, rows_usual)) or any(
            _is_traffic(rows[run]) for run in runs
        )
        wrong = int(self._rows[mine].sum())
        return WrongDates(
            int(mine[0]), last, wrong, int(self._rows.sum()) - wrong, rows_usual, may_be_traffic
        )

    def _behind_gap(self, rows: Int64, last: int, rows_usual: int) -> Int64:
        """The days behind a gap; `last` is the last one with more than few rows."""
        days = np.flatnonzero(rows)
        tail = days[days > last]
        before = self._runs(days[days <= last])[-1]
        # In a source with few rows a day only bursts have ten, and the tail is compared with its other days.
        if not _are_many(rows[tail].sum(), min(rows_usual, _median(rows[before], lower=True))):
            return tail[tail > last + self._gap_days_max]
        return tail[np.maximum.accumulate(np.diff(tail, prepend=last) > self._gap_days_max)]

    def _runs(self, days: Int64) -> list[Int64]:
        """Ascending days, split where a gap lies between them."""
        return np.split(days, np.flatnonzero(np.diff(days) > self._gap_days_max) + 1)


def _median(rows: Int64, *, lower: bool = False) -> int:
    """The median, of an even number the upper one; 0 of none."""
    return int(np.sort(rows)[(len(rows) - lower) // 2]) if len(rows) else 0


def _are_many(rows: Int64, usual: int) -> NDArray[np.bool_]:
    return np.asarray((rows >= ROWS_MAX) | (rows * FEW_SHARE >= usual))


def _is_traffic(rows: Int64) -> bool:
    """Whether these days look like traffic rather than like wrong dates."""
    return len(rows) > 1 and rows.sum() >= max(TRAFFIC_ROWS_MIN, TRAFFIC_ROWS_A_DAY_MIN * len(rows))
