"""Laws of pseudonymised fields: what a customer is called is in no file, but where a record is marked for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.intake_cases import clean, quarantine_of, run
from tests.unit.test_records_in_files import BANK

from zaslon.domain.events import Kind

COLUMNS = BANK.record.columns
TOKEN = "Zq7customer4Kx"
ODD = st.sampled_from(["", " ", "\t", "é", "\u200b", ",", '"', '""', "\x01", "\x00", "\n", "\r", "7", "\\"])


@dataclass(frozen=True)
class Row:
    """A record's values; `mangle`: what is done to its bytes, 0 for nothing; `place`: to where in it, 0 to 1."""

    values: dict[str, str]
    mangle: int
    place: float


ROWS = st.lists(
    st.builds(
        Row,
        st.fixed_dictionaries(
            {
                "ref": st.sampled_from(["A1", "A2", "A3", ""]),
                "at": st.sampled_from(["2019-03-04 10:00:00", "2019-03-04 10:00:01", "then", ""]),
                "card": st.builds("{}{}{}".format, ODD, st.just(TOKEN), ODD),
                "shop": st.sampled_from(["S1", "S 2", ""]),
                "sum": st.sampled_from(["6.00", "much", "1e3", "-1", ""]),
                "memo": st.sampled_from(["ok", "a,b", "one\ntwo", "one\r\ntwo", '"', "\x02", "é", ""]),
            }
        ),
        st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
        st.floats(0, 0.999),
    ),
    min_size=1,
    max_size=8,
)


def mangled(record: bytes, row: Row) -> bytes:
    """The record cut, doubled, with a stray quote or with a byte that is not UTF-8."""
    at = int(row.place * len(record))
    return [
        record,
        record[:at],
        record + record,
        record[:at] + b'"' + record[at:],
        record[:at] + b"\xff" + record[at:],
    ][row.mangle]


def as_line(row: Row) -> bytes:
    return ",".join('"' + row.values[c].replace('"', '""') + '"' for c in COLUMNS).encode()


def as_json(row: Row) -> bytes:
    """The customer is somewhere in an object, under any spelling of the field's name."""
    values, depth = dict(row.values), int(row.place * 2_000)
    nested = b"[" * depth + json.dumps({" CARD": values["card"]}).encode() + b"]" * depth
    if row.place < 0.3:
        values["card"] = ""
    return json.dumps(values).encode()[:-1] + b', "memo2": ' + nested + b"}"


def write(form: str, rows: Sequence[Row], path: Path) -> None:
    good = {"ref": "A0", "at": "2019-03-04 10:00:00", "card": "K", "shop": "S", "sum": "1", "memo": ""}
    first = Row(good, 0, 0.0)
    if form == "parquet":
        pl.DataFrame([row.values for row in (first, *rows)]).write_parquet(path)
    elif form == "jsonl":
        path.write_bytes(
            b"\n".join([json.dumps(good).encode(), *(mangled(as_json(row), row) for row in rows)])
        )
    else:
        lines = (mangled(as_line(row), row) for row in rows)
        path.write_bytes(b"\n".join([",".join(COLUMNS).encode(), as_line(first), *lines]))


def texts_of(path: Path) -> list[bytes]:
    """All that a file holds, without the bytes of records that are marked."""
    if path.suffix != ".parquet":
        return [path.read_bytes()]
    frame = pl.read_parquet(path)
    if "in_clear" in frame.columns:
        frame = frame.with_columns(raw=pl.when("in_clear").then(pl.lit(b"")).otherwise("raw"))
    return [str(column.to_list()).encode() for column in frame if column.dtype in (pl.String, pl.Binary)]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@given(ROWS)
def test_a_customer_is_in_no_file_but_where_a_record_is_marked(form: str, rows: list[Row]) -> None:
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "home" / "clean"
        write(form, rows, Path(scratch) / "in")
        run([Path(scratch) / "in"], out, catalogue=BANK)
        files = [path for path in out.parent.rglob("*") if path.is_file()]
        assert len(files) >= 3
        for path in files:
            assert not any(TOKEN.encode() in text for text in texts_of(path)), path
        if form == "parquet" or not any(row.mangle for row in rows):
            assert not quarantine_of(out)["in_clear"].any(), "what fits its layout is never marked"


@given(ROWS, st.sampled_from(list(Kind)))
def test_no_rejection_quotes_a_customer(rows: list[Row], kind: Kind) -> None:
    is_line = kind is Kind.TRANSACTION_LINE
    records = [mangled(as_line(row) if is_line else as_json(row), row) for row in rows]
    rejected = clean(*records, kind=kind, catalogue=BANK).rejected
    assert TOKEN not in str(rejected.problems)
    assert TOKEN not in str(rejected.detail)
