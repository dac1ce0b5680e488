"""A row with a wrong date is one rejection: of the future at once, of the past by the gap before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.intake_cases import ARRIVAL_SECONDS, HEADER, MISSION, content_of, line, quarantine_of, run

from zaslon.domain.catalogue import Catalogue, parse_catalogue
from zaslon.domain.errors import CatalogueError
from zaslon.domain.time import SECONDS_PER_DAY, day_text, parse_day, time_text
from zaslon.intake.date_gaps import ROWS_MAX, ROWS_OF_LOG, DayCounts, WrongDates

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
        " behind that gap; expected none of more than 30d with so few rows behind it (record.gap_max)."
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


def test_few_rows_before_or_among_others_are_no_harm_and_stay(tmp_path: Path) -> None:
    odd = [line(transaction_id=8000 + i, tx_datetime=t) for i, t in enumerate(
        ["1970-01-01 00:00:00", "2015-05-05 05:05:05"])]  # fmt: skip
    report = run([write(tmp_path / "in.txt", [*odd, *honest(3000)])], tmp_path / "out")
    assert report.rows_clean == 3002 and not report.rows_rejected


def test_in_small_inputs_a_gap_may_be_real(tmp_path: Path) -> None:
    late = line(transaction_id=9999, tx_datetime="2022-08-22 10:00:00")
    for rows, rejected in ((999, 0), (1000, 1)):
        report = run([write(tmp_path / "in.txt", [*honest(rows), late])], tmp_path / "out")
        assert report.rows_in - report.rows_clean == rejected


def test_a_gap_max_of_nothing_allows_any_gap(tmp_path: Path) -> None:
    late = line(transaction_id=9999, tx_datetime="2022-08-22 10:00:00")
    source = write(tmp_path / "in.txt", [*honest(2000), late])
    assert run([source], tmp_path / "out", catalogue=with_gap_max("0d")).rows_clean == 2001
    shorter = time_text((FIRST_DAY + 2 + 2) * ONE_DAY)
    source = write(tmp_path / "in.txt", [*honest(2000), line(transaction_id=9999, tx_datetime=shorter)])
    assert run([source], tmp_path / "out", catalogue=with_gap_max("2d")).rows_clean == 2001
    assert run([source], tmp_path / "out", catalogue=with_gap_max("1d")).rows_clean == 2000


def test_a_gap_max_of_less_than_a_day_is_refused() -> None:
    text = 'name = "a"\nversion = 1\n[record]\ngap_max = "12h"\n'
    with pytest.raises(CatalogueError, match=r"record\.gap_max: '12h' is less than a day"):
        parse_catalogue(text)


def wrong_dates(rows: dict[int, int], newest_day: int | None = None) -> WrongDates | None:
    """Of so many rows by day, all counted at once."""
    counts = DayCounts(GAP_DAYS * ONE_DAY)
    counts.add(np.repeat(list(rows), list(rows.values())) * ONE_DAY)
    return counts.wrong_dates(None if newest_day is None else newest_day * ONE_DAY)


def test_many_rows_after_a_gap_are_real() -> None:
    most = ROWS_MAX - 1
    before = ROWS_MAX * ROWS_MAX
    assert wrong_dates({100: before, 200: most}) == WrongDates(200, 100, most, before)
    assert wrong_dates({100: before * 2, 200: ROWS_MAX}) is None
    assert wrong_dates({100: before, 130: 1}) is None, "30 days are no longer gap than gap_max"
    assert wrong_dates({100: before, 131: 1}) == WrongDates(131, 100, 1, before)


def test_a_small_file_is_judged_by_the_log_that_it_continues() -> None:
    day = 17_000
    assert wrong_dates({day: 1, day + 365: 1}) is None
    assert wrong_dates({day: 1, day + 365: 1}, day - 1) == WrongDates(day + 365, day, 1, 1)
    few = ROWS_OF_LOG // ROWS_MAX
    assert wrong_dates({day: few, day + 365: few}, day) == WrongDates(day + 365, day, few, few)
    assert wrong_dates({day: few, day + 365: few + 1}, day) is None


@given(
    st.dictionaries(st.integers(0, 300), st.integers(1, 1_500), min_size=1, max_size=6), st.integers(0, 5),
    st.integers(0, 5),
)  # fmt: skip
def test_how_much_the_log_has_of_a_file_changes_nothing(
    rows: dict[int, int], first: int, second: int
) -> None:
    """After a crash the log ends at a day that the first cleaning kept."""
    days = sorted(rows)
    before = wrong_dates(rows, days[0])
    kept = days if before is None else [day for day in days if day < before.first_day]
    for reached in (first, second):
        assert wrong_dates(rows, kept[min(reached, len(kept) - 1)]) == before


@given(st.integers(1, 3_000), st.integers(1, 3_000))
def test_only_a_files_first_rows_in_a_log_may_be_judged_otherwise(before: int, behind: int) -> None:
    rows = {100: before, 200: behind}
    first, again = wrong_dates(rows), wrong_dates(rows, 100)
    if first != again:
        assert first is None
        assert again == WrongDates(200, 100, behind, before)
        assert behind - (before + behind) / ROWS_MAX <= ROWS_OF_LOG / ROWS_MAX


def test_a_file_wholly_behind_a_gap_is_taken() -> None:
    day = 17_000
    assert wrong_dates({day: 5}, day - 100) is None
    assert wrong_dates({day: 5, day + 365: 2}, day - 100) == WrongDates(day + 365, day, 2, 5)
    assert wrong_dates({day - 400: 5}, day) is None, "days before the newest of the log are no harm"


def naive(days: list[int]) -> set[int]:
    """The rule, day by day: remove stretches from the end while they are few."""
    stretches: list[list[int]] = []
    for day in sorted(days):
        if stretches and day - stretches[-1][-1] <= GAP_DAYS:
            stretches[-1].append(day)
        else:
            stretches.append([day])
    gone: list[int] = []
    while len(stretches) > 1 and len(stretches[-1]) * ROWS_MAX < len(days):
        gone += stretches.pop()
    return set(gone)


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
        kept_aside |= set(part[counts.add(part * ONE_DAY)].tolist())
        at += len(part)
    found = counts.wrong_dates(None)
    assert {day for day in days if found is not None and day >= found.first_day} == expected
    assert expected <= kept_aside, "the bytes of a rejected row were not kept"
    assert found is None or (found.rows, found.rows_before) == (
        sum(day in expected for day in days), sum(day not in expected for day in days)
    )  # fmt: skip


def test_the_sentence_names_the_days() -> None:
    sentence = WrongDates(200, 100, 2, 5000).sentence("at", 210 * ONE_DAY, "30d")
    assert day_text(210) in sentence and day_text(100) in sentence and "2 of 5002 rows" in sentence
