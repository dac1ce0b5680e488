"""Files that come one after the other into an output: whatever their parts, it is that of all files at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import IS_THOROUGH
from tests.unit.intake_cases import GOOD, HEADER, line, quarantines_of, rows_of, run, run_new

from zaslon.domain.errors import InputError
from zaslon.domain.time import SECONDS_PER_DAY, parse_day, time_text

START = parse_day("2019-08-22")
SORTED_BY = ["source", "record", "offset", "reason"]
# An id, a day (around `remember`, and around `gap_max`), a second of it, an amount, an answer.
ROWS = st.tuples(
    st.integers(0, 5), st.sampled_from([0, 0, 1, 2, 44, 45, 46, 91, 300]), st.sampled_from([0, 1]), st.integers(1, 2),
    st.sampled_from(["", "0", "1"]), st.integers(0, 2),
).map(lambda r: record(*r))  # fmt: skip
DEFECTS = st.sampled_from(["1,2,3", line(tx_amount="-1"), line(tx_amount="0"), HEADER, '7,"20', GOOD])
FILES = st.lists(st.lists(ROWS | DEFECTS, max_size=12), min_size=2, max_size=5)


def record(number: int, day: int, second: int, amount: int, answer: str, scenario: int) -> str:
    return line(
        transaction_id=number, tx_datetime=time_text((START + day) * SECONDS_PER_DAY + second), tx_amount=amount,
        tx_time_seconds=0, tx_time_days=0, tx_fraud=answer, tx_fraud_scenario=scenario if answer else "",
    )  # fmt: skip


def written(place: Path, files: Sequence[Sequence[str]], usual: Sequence[int]) -> list[Path]:
    """Files, each of which also has so many usual rows a day, whose ids nothing repeats."""
    found, number = [], 1_000
    for n, rows in enumerate(files):
        more = []
        for day in range(3):
            count = usual[n % len(usual)]
            more += [record(number + i, day, i, 1, "0", 0) for i in range(count)]
            number += count
        found.append(place / f"{n}.txt")
        mark = record(9_000 + n, 1, 0, 1, "0", 0)  # no two files have the same content
        found[-1].write_text(
            "\n".join([HEADER, *rows[: len(rows) // 2], *more, mark, *rows[len(rows) // 2 :], ""])
        )
    return found


def outcome_of(out: Path) -> tuple[pl.DataFrame, dict[str, Any], pl.DataFrame]:
    """Clean rows, report and rejected rows; the sentence about a wrong date names the rows until then."""
    report = json.loads((out / "_report.json").read_bytes())
    rejected = quarantines_of(out).sort(SORTED_BY)
    is_date = pl.col("reason") == "after_arrival"
    return rows_of(out), report, rejected.with_columns(detail=pl.when(~is_date).then("detail"))


def check_refused(files: Sequence[Path], taken: int, given: int, place: Path) -> None:
    """Files are refused only if all at once are, or if dates of earlier rows are then judged otherwise."""
    try:
        run(files[:taken], place / "before")
        run(files[:given], place / "after")
    except InputError:
        return
    of_before = pl.col("source").is_in([str(file) for file in files[:taken]]) & (
        pl.col("reason") == "after_arrival"
    )
    before, after = (quarantines_of(place / name).filter(of_before) for name in ("before", "after"))
    assert not before.select(SORTED_BY).sort(SORTED_BY).equals(after.select(SORTED_BY).sort(SORTED_BY))


@settings(deadline=None, max_examples=400 if IS_THOROUGH else 40)
@given(
    FILES, st.lists(st.integers(0, 12), min_size=1, max_size=3), st.lists(st.integers(1, 3), min_size=5, max_size=5),
    st.sampled_from([1, 1 << 16]), st.sampled_from([100, 1 << 20]), st.booleans(),
)  # fmt: skip
def test_files_taken_in_parts_give_what_all_at_once_give(
    files: list[list[str]],
    usual: list[int],
    parts: list[int],
    filter_bytes: int,
    chunk_bytes: int,
    again: bool,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        sources, taken = written(place, files, usual), 0
        for count in parts:
            if taken == len(sources):
                break
            upto = min(taken + count, len(sources))
            try:
                found = run_new(
                    sources[0 if again else taken : upto],
                    place / "parts",
                    chunk_bytes=chunk_bytes,
                    filter_bytes=filter_bytes,
                )
            except InputError as error:
                assert "record.gap_max" in f"{error.message} {error.hint}"
                check_refused(sources, taken, upto, place)
                return
            assert found.new == tuple(map(str, sources[taken:upto]))
            taken = upto
            run(sources[:taken], place / "whole", chunk_bytes=chunk_bytes, filter_bytes=filter_bytes)
            of_parts, of_whole = outcome_of(place / "parts"), outcome_of(place / "whole")
            assert of_parts[0].equals(of_whole[0], null_equal=True)
            assert of_parts[1] == of_whole[1]
            assert of_parts[2].equals(of_whole[2], null_equal=True)
