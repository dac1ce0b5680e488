"""The content of the files: literal header, rows, order, determinism, every format."""

from __future__ import annotations

import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from zaslon.simulate import SimulationReport, simulation_profile, write_simulation
from zaslon.simulate.text_lines import COLUMNS
from zaslon.simulate.writing import Format
from zaslon.system.zstd import zstd

HEADER = (
    "# tranaction_id | tx_datetime | customer_id | terminal_id | tx_amount | tx_time_seconds"
    " | tx_time_days | tx_fraud | tx_fraud_scenario"
)


def written(
    path: Path, days: int = 3, seed: int = 1, rows: int | None = None, format: Format = "mission",  # noqa: A002
    defects: float = 1.0, customers: int = 2_000,
) -> SimulationReport:  # fmt: skip
    profile = simulation_profile("mission", customers=customers, defects=defects)
    return write_simulation(profile, days, seed, path, rows=rows, format=format)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_the_header_is_literally_the_missions(tmp_path: Path) -> None:
    written(tmp_path / "a.txt")
    assert lines_of(tmp_path / "a.txt")[0] == HEADER


def test_the_fields_of_a_row_agree(tmp_path: Path) -> None:
    written(tmp_path / "a.txt", defects=0)
    start = date(2019, 8, 22)
    for number, line in enumerate(lines_of(tmp_path / "a.txt")[1:]):
        identity, moment, customer, terminal, amount, seconds, days, fraud, scenario = line.split(",")
        hour, minute, second = map(int, moment[11:].split(":"))
        assert int(identity) == number
        assert moment[:10] == str(start + timedelta(int(days)))
        assert int(seconds) == int(days) * 86_400 + hour * 3600 + minute * 60 + second
        assert 0 <= int(customer) < 2_000 and 0 <= int(terminal) < 1_000
        assert amount == str(float(amount))  # 34.2, not 34.20
        assert (int(fraud), int(scenario)) in {(0, 0), (1, 1), (1, 2), (1, 3)}


def test_rows_come_by_day_but_not_by_time(tmp_path: Path) -> None:
    written(tmp_path / "a.txt")
    moments = [line.split(",")[1] for line in lines_of(tmp_path / "a.txt")[1:]]
    assert [m[:10] for m in moments] == sorted(m[:10] for m in moments)
    assert moments != sorted(moments)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        written(tmp_path / name, seed=seed, defects=500)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_ten_days_begin_with_the_bytes_of_five_days(tmp_path: Path) -> None:
    written(tmp_path / "five", days=5, defects=500)
    written(tmp_path / "ten", days=10, defects=500)
    five, ten = (tmp_path / "five").read_bytes(), (tmp_path / "ten").read_bytes()
    assert ten.startswith(five) and len(ten) > 1.9 * len(five)


@pytest.mark.parametrize("rows", [1, 2_999, 3_500, 7_000])
def test_rows_stops_after_exactly_that_many(tmp_path: Path, rows: int) -> None:
    written(tmp_path / "all.txt", defects=500)
    report = written(tmp_path / "a.txt", rows=rows, defects=500)
    assert report.rows == rows
    assert lines_of(tmp_path / "a.txt") == lines_of(tmp_path / "all.txt")[: rows + 1]


def test_more_rows_than_the_days_hold_gives_the_days(tmp_path: Path) -> None:
    report = written(tmp_path / "a.txt", rows=10**9)
    assert report.rows == len(lines_of(tmp_path / "a.txt")) - 1
    assert report.days == 3


def test_a_day_larger_than_a_part_is_written_whole(tmp_path: Path) -> None:
    report = written(tmp_path / "a.txt", days=1, customers=150_000)
    lines = lines_of(tmp_path / "a.txt")
    assert len(lines) - 1 == report.rows > 200_000
    assert {line.count(",") for line in lines[1:]} == {8}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_text_holds_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / f"a.txt{suffix}"
    written(plain)
    written(packed)
    if suffix == ".gz":
        unpacked = gzip.decompress(packed.read_bytes())
    else:
        unpacked = zstd.decompress(packed.read_bytes())
    assert unpacked == plain.read_bytes()
    again = tmp_path / f"again{suffix}"
    written(again)
    assert again.read_bytes() == packed.read_bytes()


def test_csv_and_json_lines_hold_the_missions_rows(tmp_path: Path) -> None:
    formats: tuple[Format, ...] = ("mission", "csv", "jsonl")
    for name in formats:
        written(tmp_path / name, format=name, defects=2_000)
    rows = lines_of(tmp_path / "mission")[1:]
    csv = lines_of(tmp_path / "csv")
    assert csv[0] == ",".join(COLUMNS) and csv[1:] == rows
    for text, line in zip(rows, lines_of(tmp_path / "jsonl"), strict=True):
        assert ",".join(str(value) for value in json.loads(line).values()) == text
        assert list(json.loads(line)) == list(COLUMNS)


def test_json_lines_of_many_wide_rows_fit_their_buffer(tmp_path: Path) -> None:
    report = written(tmp_path / "a.jsonl", days=1, customers=150_000, format="jsonl", defects=100)
    assert sum(1 for line in lines_of(tmp_path / "a.jsonl") if json.loads(line)) == report.rows


def test_parquet_has_nulls_for_values_without_a_type(tmp_path: Path) -> None:
    report = written(tmp_path / "a.parquet", format="parquet", defects=2_000, rows=9_000)
    written(tmp_path / "a.txt", defects=2_000, rows=9_000)
    frame = pl.read_parquet(tmp_path / "a.parquet")
    text = [line.split(",") for line in lines_of(tmp_path / "a.txt")[1:]]
    assert frame.columns == list(COLUMNS)
    assert frame["TRANSACTION_ID"].to_list() == [int(row[0]) for row in text]
    assert frame["TX_DATETIME"].null_count() == report.defects["hour_24"] > 0
    texts = [row[3] if row[3].isdigit() else None for row in text]
    assert frame["TERMINAL_ID"].to_list() == [None if t is None else int(t) for t in texts]
    assert frame["TX_AMOUNT"].to_list() == [float(row[4]) for row in text]
    assert frame["TX_TIME_SECONDS"].to_list() == [int(row[5]) for row in text]
    moments = frame["TX_DATETIME"].dt.strftime("%Y-%m-%d %H:%M:%S").to_list()
    assert all(m is None or m == row[1] for m, row in zip(moments, text, strict=True))


def test_handbook_parquet_has_the_published_columns(tmp_path: Path) -> None:
    write_simulation(simulation_profile("handbook"), 5, 1, tmp_path / "h.parquet", format="parquet")
    frame = pl.read_parquet(tmp_path / "h.parquet")
    assert tuple(frame.columns) == COLUMNS
    assert frame["TX_DATETIME"].is_sorted() and frame["TX_DATETIME"].null_count() == 0
    assert str(frame["TX_DATETIME"][0])[:10] == "2018-04-01"
    assert frame["TERMINAL_ID"].max() == pytest.approx(9_999, abs=20)


def test_parquet_of_the_same_seed_has_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", format="parquet")
    written(tmp_path / "b.parquet", format="parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_world_without_payments_is_an_empty_file_with_its_header(tmp_path: Path) -> None:
    almost_empty = simulation_profile("handbook", customers=1, terminals=1)
    report = write_simulation(almost_empty, 1, 1, tmp_path / "a.parquet", format="parquet")
    assert report.rows == 0
    assert pl.read_parquet(tmp_path / "a.parquet").columns == list(COLUMNS)


def test_progress_tells_every_row_once(tmp_path: Path) -> None:
    steps: list[int] = []
    profile = simulation_profile("mission", customers=2_000)
    report = write_simulation(profile, 3, 1, tmp_path / "a.txt", progress=steps.append)
    assert sum(steps) == report.rows


def test_a_file_that_is_not_finished_never_has_its_name(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: int) -> None:
        assert not (tmp_path / "a.txt").exists()
        raise StoppedError

    profile = simulation_profile("mission", customers=2_000)
    with pytest.raises(StoppedError):
        write_simulation(profile, 3, 1, tmp_path / "a.txt", progress=stop)
    assert list(tmp_path.iterdir()) == []
