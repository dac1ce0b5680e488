"""Columns of every type of Parquet are read or rejected row by row, and one odd value costs one row."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.intake_cases import NAMES, line, quarantine_of, rows_of, run
from tests.unit.test_records_in_files import BANK

from zaslon.domain.errors import InputError
from zaslon.flows.produce import _records
from zaslon.intake.sources import read_source

ROWS = [line(transaction_id=i).split(",") for i in (1, 2)]
MOMENT = datetime(2019, 8, 22, 6, 51, 3, 500_000, UTC).replace(tzinfo=None)
TEXTS = {name: pa.array([row[i] for row in ROWS]) for i, name in enumerate(NAMES)}


def _reasons(tmp_path: Path, **columns: pa.Array) -> dict[str, int]:
    pq.write_table(pa.table(TEXTS | columns), tmp_path / "in")
    return run([tmp_path / "in"], tmp_path / "out").rows_rejected


@pytest.mark.parametrize("name", ["transaction_id", "tx_datetime", "customer_id", "tx_amount"])
def test_a_column_of_nulls_is_a_missing_field_in_each_row(name: str, tmp_path: Path) -> None:
    assert _reasons(tmp_path, **{name: pa.nulls(2)}) == {f"missing_field:{name}": 2}


def test_a_column_of_null_text_ids_is_a_missing_field_in_each_row(tmp_path: Path) -> None:
    rows = {"at": ["2019-03-04 10:00:00"] * 2, "card": ["K", "L"], "shop": ["S"] * 2, "sum": [1, 2]}
    pq.write_table(pa.table(rows | {"ref": pa.nulls(2)}), tmp_path / "in")
    assert run([tmp_path / "in"], tmp_path / "out", catalogue=BANK).rows_rejected == {"missing_field:ref": 2}


READ = {
    "dictionary": ("customer_id", pa.array(["7", "8"]).dictionary_encode()),
    "large text": ("customer_id", pa.array(["7", "8"], pa.large_string())),
    "text view": ("customer_id", pa.array(["7", "8"], pa.string_view())),
    "bytes": ("customer_id", pa.array([b"7", b"8"], pa.binary())),
    "bytes of one length": ("customer_id", pa.array([b"7", b"8"], pa.binary(1))),
    "dictionary of integers": ("customer_id", pa.array([7, 8]).dictionary_encode()),
    "half floats": ("customer_id", pa.array([7, 8], pa.float16())),
    "decimal128": ("tx_amount", pa.array([Decimal("1.50"), Decimal(2)], pa.decimal128(10, 4))),
    "decimal256": ("tx_amount", pa.array([Decimal("1.50"), Decimal(2)], pa.decimal256(10, 4))),
    **{f"unsigned {t}": ("customer_id", pa.array([7, 8], t)) for t in (pa.uint8(), pa.uint16(), pa.uint64())},
    "seconds": ("tx_datetime", pa.array([1_500_000_000] * 2, pa.timestamp("s"))),
    "a zone": ("tx_datetime", pa.array([1_500_000_000_000] * 2, pa.timestamp("ms", "Asia/Tokyo"))),
    "an offset": ("tx_datetime", pa.array([1_500_000_000_000] * 2, pa.timestamp("ms", "+03:00"))),
}


@pytest.mark.parametrize("kind", READ)
def test_columns_of_every_plain_type_are_read(kind: str, tmp_path: Path) -> None:
    name, values = READ[kind]
    assert _reasons(tmp_path, **{name: values}) == {}
    rows = rows_of(tmp_path / "out")
    if name == "customer_id":
        assert rows["customer_key"].to_list() == [7, 8]
    elif name == "tx_amount":
        assert rows["amount_minor"].to_list() == [150, 200]
    else:
        assert rows["event_time_seconds"].to_list() == [1_500_000_000] * 2


REJECTED = {
    "a date": pa.array([18_000, 2**31 - 1], pa.date32()),
    "a time of day": pa.array([time(6, 51, 3), time(0)], pa.time32("s")),
    "moments far away": pa.array([2**62, -(2**62)], pa.timestamp("us")),
    "moments far away with a zone": pa.array([2**62, -(2**62)], pa.timestamp("ms", "UTC")),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_a_value_that_is_not_a_time_is_one_rejection_per_row(kind: str, tmp_path: Path) -> None:
    assert _reasons(tmp_path, tx_datetime=REJECTED[kind]) == {"not_a_time:tx_datetime": 2}


def test_one_moment_far_away_costs_one_row(tmp_path: Path) -> None:
    moments = pa.array([2**62, 1_500_000_000_000_000], pa.timestamp("us"))
    assert _reasons(tmp_path, tx_datetime=moments) == {"not_a_time:tx_datetime": 1}
    assert rows_of(tmp_path / "out")["event_time_seconds"].to_list() == [1_500_000_000]


def test_a_column_of_durations_is_refused_by_its_type(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'tx_time_seconds' of '.*' holds Duration"):
        _reasons(tmp_path, tx_time_seconds=pa.array([1, 2], pa.duration("s")))


def test_a_rejected_row_is_kept_as_a_line_that_reads_back(tmp_path: Path) -> None:
    first = ['a,b "c"\nd', "", None, b"\xff"]
    frame = pl.DataFrame({
        "transaction_id": [1, 2, 3, 4], "tx_datetime": [MOMENT] * 4,
        "customer_id": pl.Series([t.encode() if isinstance(t, str) else t for t in first], dtype=pl.Binary),
        "terminal_id": [7] * 4, "tx_amount": [70.0, -0.5, 1e-7, 1e22],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "in")
    run([tmp_path / "in"], tmp_path / "out")
    kept = quarantine_of(tmp_path / "out").sort("record")
    at = b"2019-08-22 06:51:03.500"
    assert kept["raw"].to_list() == [
        b"1," + at + b',"a,b ""c""\nd",7,70', b"2," + at + b',"",7,-0.5',
        b"3," + at + b",,7,0.0000001", b"4," + at + b",\xff,7,10000000000000000000000",
    ]  # fmt: skip
    assert kept["reason"].to_list() == ["not_text", "missing_field", "missing_field", "not_text"]


@pytest.mark.parametrize("size", [4096, 4097])
def test_a_row_is_too_long_where_its_line_is(size: int, tmp_path: Path) -> None:
    row = line(transaction_id=1, customer_id="")
    value = "x" * (size - len(row) + len(",0"))  # tx_time_days is ignored
    reasons = _reasons(tmp_path, customer_id=pa.array([value, "5"]))
    assert reasons == ({"not_an_integer:customer_id": 1} if size == 4096 else {"too_long": 1})


def test_rows_are_produced_as_lines_and_as_json(tmp_path: Path) -> None:
    rows = {
        "ref": ["A", "B"],
        "at": [MOMENT] * 2,
        "card": ['K,"1"', " K2 "],
        "shop": ["S", None],
        "sum": [7, 8],
    }
    pl.DataFrame(rows | {"memo": ["x", "y"]}).write_parquet(tmp_path / "in")
    (chunk,) = read_source(str(tmp_path / "in"), BANK, 1 << 20)
    assert chunk.originals([0, 1]) == [
        b'A,2019-08-22 06:51:03.500,"K,""1""",S,7', b"B,2019-08-22 06:51:03.500, K2 ,,8",
    ]  # fmt: skip
    at = "2019-08-22 06:51:03.500"
    assert [orjson.loads(message) for message in _records(chunk, BANK, "json")] == [
        {"ref": "A", "at": at, "card": 'K,"1"', "shop": "S", "sum": "7"},
        {"ref": "B", "at": at, "card": "K2", "shop": "", "sum": "8"},
    ]


WIDE = pa.array([Decimal("1.50"), None], pa.decimal256(50, 2))


def test_a_column_of_too_wide_decimals_is_refused_by_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table(TEXTS | {"tx_amount": WIDE}), tmp_path / "in")
    expected = r"Column 'tx_amount' of '.*' holds decimals of 50 digits \(decimal256\), which cannot be read"
    with pytest.raises(InputError, match=expected):
        run([tmp_path / "in"], tmp_path / "out")


def test_a_column_that_is_not_read_may_have_any_type(tmp_path: Path) -> None:
    others = {
        "wide": WIDE, "tx_time_days": WIDE, "list": pa.array([[1], None]), "struct": pa.array([{"a": 1}, None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())), "span": pa.array([1, 2], pa.duration("s")),
        "listed": pa.array([[Decimal(1)], None], pa.list_(pa.decimal256(50, 2))), "json": pa.array(["1", None], pa.json_()),
        "id": pa.array([b"0" * 16, None], pa.uuid()),
    }  # fmt: skip
    assert _reasons(tmp_path, **others) == {}
