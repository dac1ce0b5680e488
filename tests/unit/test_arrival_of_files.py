"""A row with a wrong date is one rejection: of the future at once, of the past by the gap before it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.intake_cases import ARRIVAL_SECONDS, HEADER, MISSION, content_of, line, quarantine_of, run

from zaslon.domain.catalogue import Catalogue, parse_catalogue
from zaslon.domain.errors import CatalogueError, InputError
from zaslon.domain.time import DAYS_MAX, SECONDS_PER_DAY, day_text, parse_day, time_text
from zaslon.intake.date_gaps import ROWS_MAX, DayCounts, RowDays, WrongDates

FIRST_DAY = parse_day("2019-08-22")
ONE_DAY, GAP_DAYS = SECONDS_PER_DAY, 30


def honest(count: int) -> list[str]:
    """Rows of three days."""
    moments = [time_text((FIRST_DAY + i % 3) * ONE_DAY + i) for i in range(count)]
    return [line(transaction_id=i, tx_datetime=moment) for i, moment in enumerate(moments)]


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([HEADER, *lines, ""]))
    return path


def days_of(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in content_of(out).items() if name.startswith("day=")}


def with_gap_max(text: str) -> Catalogue:
    record = MISSION.record.model_copy(update={"gap_max": text})
    return MISSION.model_copy(update={"record": record})


def assert_is_one_rejection(wrong: str, place: int, rows: int, tmp_path: Path, chunk_bytes: int) -> str:
    """A wrong row among honest ones changes nothing else; returns the sentence about it."""
    lines = honest(rows)
    clean = run([write(tmp_path / "honest.txt", lines)], tmp_path / "expected")
    source = write(tmp_path / "in.txt", [*lines[:place], wrong, *lines[place:]])
    report = run([source], tmp_path / "out", chunk_bytes=chunk_bytes, filter_bytes=1 << 10)
    assert report.rows_rejected == {"after_arrival:tx_datetime": 1}
    assert report.rows_clean == clean.rows_clean == rows
    assert days_of(tmp_path / "out") == days_of(tmp_path / "expected")
    (row,) = quarantine_of(tmp_path / "out").rows(named=True)
    assert (row["source"], row["record"], row["raw"]) == (str(source), place + 1, wrong.encode())
    assert source.read_bytes()[row["offset"] :].startswith(wrong.encode() + b"\n")
    return str(row["detail"])


@pytest.mark.parametrize("chunk_bytes", [300, 1 << 20])
@pytest.mark.parametrize("place", [0, 700, 1500])
@pytest.mark.parametrize("wrong_id", [999_999, 3])
def test_one_wrong_year_in_the_past_is_exactly_one_rejection(
    wrong_id: int, place: int, chunk_bytes: int, tmp_path: Path
) -> None:
    wrong = line(transaction_id=wrong_id, tx_datetime="2022-08-22 10:00:00")
    detail = assert_is_one_rejection(wrong, place, 1500, tmp_path, chunk_bytes)
    assert detail == (
        "Field 'tx_datetime' is on 2022-08-22, 1094 days after 2019-08-24, and only 1 of 1501 rows lie"
        " behind that gap; expected none (record.gap_max) with so few rows, where a usual day has 500."
    )


@pytest.mark.parametrize("place", [0, 5, 10])
def test_one_row_of_the_future_is_exactly_one_rejection(place: int, tmp_path: Path) -> None:
    wrong = line(transaction_id=3, tx_datetime="2099-01-01 00:00:00")
    detail = assert_is_one_rejection(wrong, place, 10, tmp_path, 300)
    assert detail.endswith("more than 1d after the record arrived; expected a time that has passed.")


def test_clocks_may_differ_by_the_skew_and_no_second_more(tmp_path: Path) -> None:
    moments = [time_text(ARRIVAL_SECONDS + ONE_DAY + more) for more in (0, 1)]
    lines = [line(transaction_id=i, tx_datetime=moment) for i, moment in enumerate(moments)]
    report = run([write(tmp_path / "in.txt", lines)], tmp_path / "out")
    assert report.rows_rejected == {"after_arrival:tx_datetime": 1}
    assert quarantine_of(tmp_path / "out")["raw"].to_list() == [lines[1].encode()]


def test_the_same_input_and_arrival_give_the_same_bytes(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.txt", [*honest(20), line(transaction_id=99, tx_datetime="2022-01-01 00:00:00")]
    )
    early, late = parse_day("2019-08-30") * ONE_DAY, parse_day("2022-01-01") * ONE_DAY
    report = run([source], tmp_path / "out", arrival=early)
    assert report.arrived == "2019-08-30 00:00:00" and report.rows_clean == 20
    first = content_of(tmp_path / "out")
    run([source], tmp_path / "out", arrival=early)
    assert content_of(tmp_path / "out") == first
    assert run([source], tmp_path / "out", arrival=late).rows_clean == 21


def test_wrong_dates_of_several_files_are_all_rejected(tmp_path: Path) -> None:
    wrong = [line(transaction_id=10_000 + i % 4, tx_datetime=f"202{i % 4}-01-01 10:00:00") for i in range(8)]
    lines = honest(9000)
    first = write(tmp_path / "1.txt", [*wrong[:3], *lines[:4000]])
    second = write(tmp_path / "2.txt", [*lines[4000:], *wrong[3:], lines[0]])
    report = run([first, second], tmp_path / "out", chunk_bytes=5000, filter_bytes=64)
    assert report.rows_rejected == {"after_arrival:tx_datetime": 8, "duplicate": 1}
    late = quarantine_of(tmp_path / "out").filter(pl.col("reason") == "after_arrival")
    assert late["raw"].to_list() == [row.encode() for row in wrong]
    assert all(f"of {9009} rows" in detail for detail in late["detail"])


def test_few_rows_before_or_among_others_are_kept(tmp_path: Path) -> None:
    odd = [line(transaction_id=8000 + i, tx_datetime=t) for i, t in enumerate(
        ["1970-01-01 00:00:00", "2015-05-05 05:05:05"])]  # fmt: skip
    report = run([write(tmp_path / "in.txt", [*odd, *honest(3000)])], tmp_path / "out")
    assert report.rows_clean == 3002 and not report.rows_rejected


@pytest.mark.parametrize(("a_day", "rejected"), [(10, 0), (11, 1)])
def test_where_all_days_have_few_rows_a_gap_may_be_real(tmp_path: Path, a_day: int, rejected: int) -> None:
    late = line(transaction_id=9999, tx_datetime="2022-08-22 10:00:00")
    report = run([write(tmp_path / "in.txt", [*honest(3 * a_day), late])], tmp_path / "out")
    assert report.rows_in - report.rows_clean == rejected


@pytest.mark.parametrize(("days", "rejected"), [(6, 0), (7, 1), (20, 1), (30, 1)])
def test_the_gap_is_what_would_make_the_next_file_late(tmp_path: Path, days: int, rejected: int) -> None:
    """By default a day less than `late_within`: a row on the seventh day may be seven days newer."""
    moment = time_text((FIRST_DAY + 2 + days) * ONE_DAY)
    late = line(transaction_id=9999, tx_datetime=moment)
    report = run([write(tmp_path / "in.txt", [*honest(300), late])], tmp_path / "out")
    assert report.rows_in - report.rows_clean == rejected


def test_a_gap_max_of_nothing_allows_any_gap(tmp_path: Path) -> None:
    late = line(transaction_id=9999, tx_datetime="2022-08-22 10:00:00")
    source = write(tmp_path / "in.txt", [*honest(2000), late])
    assert run([source], tmp_path / "out", catalogue=with_gap_max("0d")).rows_clean == 2001
    shorter = time_text((FIRST_DAY + 2 + 2) * ONE_DAY)
    source = write(tmp_path / "in.txt", [*honest(2000), line(transaction_id=9999, tx_datetime=shorter)])
    assert run([source], tmp_path / "out", catalogue=with_gap_max("2d")).rows_clean == 2001
    assert run([source], tmp_path / "out", catalogue=with_gap_max("1d")).rows_clean == 2000


def test_a_file_of_a_wrong_month_in_part_loses_that_part(tmp_path: Path) -> None:
    """One row in twenty has the month after."""
    moments = [(FIRST_DAY + (30 if i % 20 == 7 else 0)) * ONE_DAY + i for i in range(19_000)]
    lines = [line(transaction_id=i, tx_datetime=time_text(moment)) for i, moment in enumerate(moments)]
    report = run([write(tmp_path / "in.txt", lines)], tmp_path / "out", chunk_bytes=1 << 16)
    assert report.rows_rejected == {"after_arrival:tx_datetime": 950}


def trading(path: Path, first_id: int, *days: tuple[int, int]) -> Path:
    """A file with so many rows on each day, evenly over the day."""
    moments = [day * ONE_DAY + i * ONE_DAY // rows for day, rows in days for i in range(rows)]
    return write(
        path, [line(transaction_id=first_id + i, tx_datetime=time_text(t)) for i, t in enumerate(moments)]
    )


@pytest.mark.parametrize(
    "reopened", [[(20, 100)], [(20, 15)], [(20, 2), (21, 60)], [(20, 3), (22, 5), (25, 10)]]
)
def test_a_company_that_closes_for_two_weeks_loses_nothing(
    tmp_path: Path, reopened: list[tuple[int, int]]
) -> None:
    days = [(FIRST_DAY + day, rows) for day, rows in [*((d, 100) for d in range(6)), *reopened]]
    report = run([trading(tmp_path / "in.txt", 0, *days)], tmp_path / "out")
    assert not report.rows_rejected


def test_a_trade_that_fades_away_loses_nothing(tmp_path: Path) -> None:
    days = [(FIRST_DAY + day, 200 if day < 10 else 3) for day in range(60)]
    assert not run([trading(tmp_path / "in.txt", 0, *days)], tmp_path / "out").rows_rejected


def log_of(*days: tuple[int, int]) -> NDArray[np.int64]:
    """Rows by day of a log."""
    rows = np.zeros(DAYS_MAX, np.int64)
    for day, count in days:
        rows[day] = count
    return rows


JANUARY = log_of(*((FIRST_DAY + day, 40) for day in range(31)))


def test_a_file_of_march_after_one_of_january_is_taken(tmp_path: Path) -> None:
    march = trading(tmp_path / "march.txt", 0, *((FIRST_DAY + 60 + day, 30) for day in range(3)))
    assert not run([march], tmp_path / "out", rows_of_log=JANUARY).rows_rejected


def test_few_rows_long_after_the_log_are_a_question(tmp_path: Path) -> None:
    source, busy = trading(tmp_path / "in.txt", 0, (FIRST_DAY + 50, 3)), 10 * JANUARY
    with pytest.raises(
        InputError, match="3 of 3 rows are on 2019-10-11 or later, 20 days or more after"
    ) as found:
        run([source], tmp_path / "out", rows_of_log=busy)
    assert "--arrived" in str(found.value.hint) and not (tmp_path / "out").exists()
    arrived = (FIRST_DAY + 51) * ONE_DAY
    report = run([source], tmp_path / "out", rows_of_log=busy, arrival=arrived)
    assert report.rows_clean == 3, "they come when they arrive, as after a pause"
    more = trading(tmp_path / "more.txt", 0, (FIRST_DAY + 50, 4))
    assert run([more], tmp_path / "out", rows_of_log=busy).rows_clean == 4
    assert run([source], tmp_path / "out", rows_of_log=JANUARY).rows_clean == 3, "of 40 a day 3 may come"


def test_a_wrong_date_beside_one_honest_row_is_one_rejection(tmp_path: Path) -> None:
    source = trading(tmp_path / "in.txt", 0, (FIRST_DAY + 31, 1), (FIRST_DAY + 40, 1))
    report = run([source], tmp_path / "out", rows_of_log=JANUARY)
    assert report.rows_rejected == {"after_arrival:tx_datetime": 1} and report.rows_clean == 1


def test_a_gap_max_of_less_than_a_day_is_refused() -> None:
    text = 'name = "a"\nversion = 1\n[record]\ngap_max = "12h"\n'
    with pytest.raises(CatalogueError, match=r"record\.gap_max: '12h' is less than a day"):
        parse_catalogue(text)


def wrong_dates(rows: dict[int, int], log: dict[int, int] | None = None) -> WrongDates | None:
    """Of so many rows by day, all counted at once."""
    counts = DayCounts(GAP_DAYS * ONE_DAY)
    counts.add(RowDays.of(np.repeat(list(rows), list(rows.values())) * ONE_DAY))
    return counts.wrong_dates(None if log is None else log_of(*log.items()))


def test_few_rows_are_less_than_a_tenth_of_a_usual_day() -> None:
    assert wrong_dates({100: 100, 200: 10}) is None
    assert wrong_dates({100: 100, 200: 9}) == WrongDates(200, 100, 9, 100, 100)
    assert wrong_dates({100: 100, 130: 1}) is None, "30 days are no longer gap than gap_max"
    assert wrong_dates({100: 100, 131: 1}) == WrongDates(131, 100, 1, 100, 100)
    assert wrong_dates({100: 10**6, 200: ROWS_MAX - 1}) == WrongDates(200, 100, ROWS_MAX - 1, 10**6, 10**6)
    assert wrong_dates({100: 10**6, 200: ROWS_MAX}) is None


def test_a_few_rows_before_the_gap_bridge_nothing() -> None:
    assert wrong_dates({100: 100, 120: 2, 131: 2}) == WrongDates(131, 100, 2, 102, 100)
    assert wrong_dates({100: 100, 120: 5, 131: 5}) is None, "together they are not few"


def test_a_busy_day_of_the_log_counts_as_one_of_the_file() -> None:
    assert wrong_dates({100: 1, 200: 1}) is None
    assert wrong_dates({100: 1, 200: 1}, {99: 50}) == WrongDates(200, 99, 1, 1, 50)
    assert wrong_dates({100: 1, 200: 1}, {99: 50, 180: 50}) is None
    assert wrong_dates({60: 5}, {100: 90}) is None, "days before the newest of the log do no harm"
    found = wrong_dates({200: 5}, {100: 90})
    assert found is not None and found.are_most


@given(st.dictionaries(st.integers(0, 300), st.integers(1, 1_500), min_size=1, max_size=6), st.data())
def test_how_much_the_log_has_of_a_file_changes_nothing(rows: dict[int, int], data: st.DataObject) -> None:
    """After a crash the log has a part of the days that the first cleaning kept."""
    log = {-1 + min(rows) if min(rows) else 301: data.draw(st.integers(1, 1000))}
    before = wrong_dates(rows, log)
    kept = [day for day in sorted(rows) if before is None or day < before.first_day]
    part = {day: data.draw(st.integers(0, rows[day])) for day in kept}
    assert wrong_dates(rows, log | part) == before


def naive(days: list[int]) -> set[int]:
    """The rule, day by day."""
    counts = Counter(days)

    def runs(some: list[int]) -> list[list[int]]:
        found: list[list[int]] = []
        for day in some:
            if found and day <= found[-1][-1] + GAP_DAYS:
                found[-1].append(day)
            else:
                found.append([day])
        return found

    def rows(some: list[int]) -> int:
        return sum(counts[day] for day in some)

    def few(count: int, usual: int) -> bool:
        return count * 10 < usual and count < ROWS_MAX

    telling = sorted(counts[day] for day in max(runs(sorted(counts)), key=rows) if counts[day] >= 10)
    usual = telling[len(telling) // 2] if telling else 0
    last = max(day for day in counts if not few(counts[day], usual))
    tail = sorted(day for day in counts if day > last)
    before = sorted(counts[day] for day in runs(sorted(day for day in counts if day <= last))[-1])
    if few(rows(tail), min(usual, before[(len(before) - 1) // 2])):
        return {day for day in tail if day > last + GAP_DAYS}
    for day, next_day in itertools.pairwise([last, *tail]):
        if next_day > day + GAP_DAYS:
            return {later for later in tail if later >= next_day}
    return set()


@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=12), st.integers(0, 3000), st.integers(0, 400),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_what_is_wrong_depends_on_no_order_and_no_chunk(
    few: list[int], many: int, busy_day: int, random: Any
) -> None:
    days = [*few, *[busy_day] * many]
    random.shuffle(days)
    expected = naive(days)
    counts, kept_aside, at = DayCounts(GAP_DAYS * ONE_DAY), set[int](), 0
    while at < len(days):
        part = np.array(days[at : at + 1 + random.randrange(500)])
        kept_aside |= set(part[counts.add(RowDays.of(part * ONE_DAY))].tolist())
        at += len(part)
    found = counts.wrong_dates()
    assert {day for day in days if found is not None and day >= found.first_day} == expected
    assert expected <= kept_aside, "the bytes of a rejected row were not kept"
    assert found is None or (found.rows, found.rows_before) == (
        sum(day in expected for day in days), sum(day not in expected for day in days)
    )  # fmt: skip


def test_the_sentence_names_the_days() -> None:
    sentence = WrongDates(200, 100, 2, 5000, 900).sentence("at", 210 * ONE_DAY)
    assert day_text(210) in sentence and day_text(100) in sentence and "2 of 5002 rows" in sentence
