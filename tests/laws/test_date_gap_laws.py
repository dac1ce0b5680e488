"""Which rows of an input are rejected for their date: without a gap none, after a pause none in silence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.intake_cases import HEADER, line, quarantine_of, run

from zaslon.domain.errors import InputError
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, time_text
from zaslon.intake.date_gaps import FEW_SHARE, ROWS_MAX, DayCounts, RowDays, WrongDates

GAP_DAYS = 6
FIRST_DAY = 18_000
Rows = dict[int, int]  # by day


def from_day(first: int, counts: Sequence[int]) -> Rows:
    """A day for each count."""
    return {first + i: count for i, count in enumerate(counts)}


def wrong_dates(rows: Rows, log: Rows | None = None) -> WrongDates | None:
    counts, of_log = DayCounts(GAP_DAYS * SECONDS_PER_DAY), np.zeros(DAYS_MAX, np.int64)
    counts.add(RowDays.of(np.repeat(list(rows), list(rows.values())) * SECONDS_PER_DAY))
    of_log[list(log or {})] = list((log or {}).values())
    return counts.wrong_dates(None if log is None else of_log)


def is_dropped(found: WrongDates | None) -> bool:
    """Whether rows are rejected without a question."""
    return found is not None and not found.may_be_traffic and not found.are_most


def parted(rows: Rows, is_in_log: Sequence[bool]) -> tuple[Rows, Rows]:
    """The same days, some of them in the log that the file continues."""
    log = {day: count for (day, count), logged in zip(rows.items(), is_in_log, strict=True) if logged}
    return {day: count for day, count in rows.items() if day not in log}, log


@st.composite
def contiguous(draw: st.DrawFn, rows_min: int) -> tuple[Rows, Rows | None]:
    """A file, perhaps with the log that it continues: no day comes more than the gap after the one before."""
    many = st.one_of(st.integers(rows_min, 30), st.integers(rows_min, 5_000))
    counts = draw(st.lists(many, min_size=2, max_size=40))
    steps = draw(st.lists(st.integers(1, GAP_DAYS), min_size=len(counts), max_size=len(counts)))
    rows = dict(zip(itertools.accumulate(steps, initial=FIRST_DAY), counts, strict=False))
    of_log = draw(st.integers(0, len(rows) - 1))
    if not of_log:
        return rows, None
    return parted(rows, [i < of_log for i in range(len(rows))])


@given(contiguous(rows_min=2))
def test_days_without_a_gap_lose_nine_rows_at_most(given_rows: tuple[Rows, Rows | None]) -> None:
    """Whatever their counts are: after one with 5,000 rows there may be two on each."""
    found = wrong_dates(*given_rows)
    assert not is_dropped(found) or (found is not None and found.rows < 10)


@given(contiguous(rows_min=10))
def test_ten_rows_a_day_without_a_gap_lose_nothing(given_rows: tuple[Rows, Rows | None]) -> None:
    assert not is_dropped(wrong_dates(*given_rows))


@given(contiguous(rows_min=1))
def test_without_a_gap_only_a_thin_end_is_rejected(given_rows: tuple[Rows, Rows | None]) -> None:
    rows, log = given_rows
    found, all_rows = wrong_dates(rows, log), rows | (log or {})
    if not is_dropped(found):
        return
    assert found is not None and found.first_day > found.day_before + GAP_DAYS
    end = [count for day, count in all_rows.items() if day > found.day_before]
    assert 10 * sum(end) < max(all_rows.values()) and sum(end) < max(10, 2 * len(end))


@given(
    usual=st.integers(10, 500),
    days=st.integers(2, 60),
    bursts=st.lists(st.tuples(st.integers(0, 59), st.integers(500, 20_000)), max_size=10),
    wrong=st.lists(st.integers(1, 400), max_size=4),
    data=st.data(),
)
def test_a_burst_changes_nothing(
    usual: int, days: int, bursts: list[tuple[int, int]], wrong: list[int], data: st.DataObject
) -> None:
    """On fewer than half of the days: neither without wrong dates nor with them."""
    rows = from_day(FIRST_DAY, [usual] * days)
    with_bursts = rows | {FIRST_DAY + at % days: count for at, count in bursts[: (days - 1) // 2]}
    assert wrong_dates(with_bursts) is None
    for day in wrong[: (usual - 1) // FEW_SHARE]:
        rows[FIRST_DAY + days + day] = with_bursts[FIRST_DAY + days + day] = 1
    expected, found = wrong_dates(rows), wrong_dates(with_bursts)
    assert (expected is None) == (found is None)
    if expected is not None and found is not None:
        assert (found.first_day, found.rows, found.may_be_traffic) == (
            expected.first_day, expected.rows, expected.may_be_traffic,
        )  # fmt: skip


@given(st.integers(1, 9), st.integers(2, 80), st.integers(500, 20_000), st.data())
def test_a_burst_in_a_small_source_loses_nothing(
    usual: int, days: int, burst: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(1, days - 1))
    assert wrong_dates(from_day(FIRST_DAY, [usual] * days) | {FIRST_DAY + at: burst}) is None


before_the_gap = st.lists(st.integers(11, 5_000), min_size=1, max_size=40)


@given(before_the_gap, st.integers(GAP_DAYS + 1, 2_000), st.booleans())
def test_one_wrong_date_is_one_rejection(counts: list[int], gap: int, are_logged: bool) -> None:
    rows = from_day(FIRST_DAY, counts)
    wrong = FIRST_DAY + len(counts) - 1 + gap
    if are_logged and len(counts) > 1:
        file, log = parted(rows | {wrong: 1}, [i < len(counts) // 2 for i in range(len(counts) + 1)])
        found = wrong_dates(file, log)
    else:
        found = wrong_dates(rows | {wrong: 1})
    assert found is not None and not found.may_be_traffic and not found.are_most
    assert (found.first_day, found.rows) == (wrong, 1)


@given(
    st.lists(st.integers(11, 12_000), min_size=2, max_size=40),
    st.lists(st.integers(1, 60), max_size=60),
    st.booleans(),
)
def test_a_thin_tail_of_wrong_dates_is_rejected(counts: list[int], wrong: list[int], daily: bool) -> None:
    """One on every day of the coming weeks, or on some: no more than a tenth of a usual day's rows."""
    counts = [max(counts)] * len(counts)
    days = sorted(set(range(1, 1 + len(wrong)) if daily else wrong))
    days = days[: (min(counts[0], 10 * ROWS_MAX) - 1) // 10]
    last = FIRST_DAY + len(counts) - 1
    found = wrong_dates(from_day(FIRST_DAY, counts) | {last + day: 1 for day in days})
    behind = [last + day for day in days if day > GAP_DAYS]
    assert (found is not None) == bool(behind)
    assert found is None or (found.first_day, found.rows) == (behind[0], len(behind))
    assert not behind or is_dropped(found)


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=40),
    st.integers(GAP_DAYS + 1, 400),
    st.lists(st.tuples(st.integers(1, GAP_DAYS), st.integers(2, 2_000)), min_size=2, max_size=40),
    st.lists(st.integers(GAP_DAYS + 1, 100), max_size=3),
)
def test_traffic_after_a_pause_is_kept_or_asked(
    before: list[int], pause: int, after: list[tuple[int, int]], wrong: list[int]
) -> None:
    """However few rows a day it has, and if wrong dates follow it: ten rows of it are never rejected."""
    rows = from_day(FIRST_DAY, before)
    day = FIRST_DAY + len(before) - 1 + pause
    for step, count in after:
        rows[day] = count
        day += step
    traffic = {day: count for day, count in rows.items() if day >= FIRST_DAY + len(before)}
    for gap in wrong:
        rows[max(rows) + gap] = 1
    found = wrong_dates(rows)
    if is_dropped(found):
        assert found is not None
        assert sum(count for day, count in traffic.items() if day >= found.first_day) < 10


def test_fewer_than_ten_rows_are_no_question() -> None:
    before = from_day(FIRST_DAY, [40] * 5)
    assert is_dropped(wrong_dates(before | from_day(FIRST_DAY + 30, [3] * 3)))
    found = wrong_dates(before | from_day(FIRST_DAY + 30, [1] * 10))
    assert found is not None and found.may_be_traffic
    found = wrong_dates(from_day(FIRST_DAY, [200] * 5) | from_day(FIRST_DAY + 30, [1] * 19))
    assert is_dropped(found), "one a day, and less than a tenth of a usual day"


def lines_of(rows: Rows) -> list[str]:
    return [
        line(transaction_id=1000 * (day - FIRST_DAY) + i, tx_datetime=time_text(day * SECONDS_PER_DAY + i))
        for day, count in rows.items()
        for i in range(count)
    ]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("\n".join([HEADER, *lines_of(rows), ""]))
    return path


def test_a_file_with_a_burst_keeps_every_row(tmp_path: Path) -> None:
    rows = from_day(FIRST_DAY, [12] * 25) | {FIRST_DAY + 15: 900}
    source = write(tmp_path / "in.txt", rows | {FIRST_DAY + 60: 1})
    report = run([source], tmp_path / "out", chunk_bytes=5000)
    assert report.rows_clean == sum(rows.values())
    assert report.rows_rejected == {"after_arrival:tx_datetime": 1}
    assert quarantine_of(tmp_path / "out")["raw"].to_list() == [lines_of({FIRST_DAY + 60: 1})[0].encode()]


def test_a_file_with_few_rows_after_a_month_is_asked_about(tmp_path: Path) -> None:
    before, after = from_day(FIRST_DAY, [150] * 20), from_day(FIRST_DAY + 50, [9] * 30)
    source = write(tmp_path / "in.txt", before | after)
    with pytest.raises(InputError, match="270 of 3270 rows are on 2019-06-03 or later, 31 days") as found:
        run([source], tmp_path / "out")
    hint = str(found.value.hint)
    assert "--arrived" in hint and "file of their own" in hint and "record.gap_max" in hint
    assert not (tmp_path / "out").exists()
    arrived = (FIRST_DAY + 21) * SECONDS_PER_DAY
    assert run([source], tmp_path / "wrong", arrival=arrived).rows_clean == 3_000, "they are wrong"
    log = np.zeros(DAYS_MAX, np.int64)
    log[list(before)] = list(before.values())
    own = write(tmp_path / "own.txt", after)
    assert run([own], tmp_path / "right", rows_of_log=log).rows_clean == 270, "they are right"
