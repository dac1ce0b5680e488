"""Whatever form a file has, the same transactions come out; a wrong file gets one clear error."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pytest
from tests.unit.intake_cases import (
    GOOD,
    HEADER,
    MISSION,
    NAMES,
    SHOP,
    content_of,
    line,
    quarantine_of,
    rows_of,
    run,
)

from zaslon.domain.errors import InputError
from zaslon.intake.chunks import Chunk
from zaslon.intake.sources import read_source
from zaslon.system.zstd import zstd

LINES = [line(transaction_id=i, customer_id=i % 7, tx_amount=f"{i}.{i % 100:02d}") for i in range(60)]
BAD = "61,2019-08-22 06:51:03,-999999,711,70.91,24663,0,0,0"
ROWS = [*LINES[:30], BAD, *LINES[30:]]
TEXT = "\n".join([HEADER, *ROWS, ""]).encode()
VALUES = [row.split(",") for row in ROWS]


def _csv(order: list[int], separator: str, head: Callable[[str], str] = str) -> bytes:
    rows = [[head(NAMES[i]) for i in order], *([row[i] for i in order] for row in VALUES)]
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def _typed() -> pl.DataFrame:
    columns = {n: [row[i] for row in VALUES] for i, n in enumerate(NAMES)}
    return pl.DataFrame(columns)


def _parquet(frame: pl.DataFrame, path: Path) -> bytes:
    frame.write_parquet(path)
    return path.read_bytes()


ALL = list(range(len(NAMES)))
FORMS: dict[str, bytes] = {
    "mission text": TEXT,
    "no newline at the end": TEXT[:-1],
    "line ends of Windows": TEXT.replace(b"\n", b"\r\n"),
    "no header": TEXT.partition(b"\n")[2],
    "byte order mark": b"\xef\xbb\xbf" + TEXT,
    "byte order mark, no header": b"\xef\xbb\xbf" + TEXT.partition(b"\n")[2],
    "header with commas after #": TEXT.replace(b" | ", b","),
    "CSV": _csv(ALL, ","),
    "CSV backwards": _csv(ALL[::-1], ","),
    "CSV with semicolons": _csv(ALL, ";"),
    "CSV with tabs, backwards": _csv(ALL[::-1], "\t"),
    "CSV with pipes": _csv(ALL, "|"),
    "CSV with capitals and quotes": _csv(ALL, ",", lambda n: f'"{n.upper()}"'),
    "CSV with a column more": _csv([*ALL, 0], ",").replace(b"transaction_id\n", b"till\n", 1),
    "CSV with a long header": _csv([*ALL, 0], ",").replace(b"transaction_id\n", b"x" * 9000 + b"\n", 1),
    "JSON lines": "".join(json.dumps(dict(zip(NAMES, v, strict=True))) + "\n" for v in VALUES).encode(),
    "gzip": gzip.compress(TEXT),
    "gzip of several members": gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:]),
    "zstd": zstd.compress(TEXT),
    "zstd of several frames": zstd.compress(TEXT[:999]) + zstd.compress(TEXT[999:]),
    "zstd that begins with a frame to skip": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd.compress(TEXT),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    place = tmp_path_factory.mktemp("expected")
    (place / "in.txt").write_bytes(TEXT)
    report = run([place / "in.txt"], place / "out")
    assert (report.rows_in, report.rows_rejected) == (61, {"unknown_entity:customer_id": 1})
    return rows_of(place / "out")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_text_gives_the_same_rows(form: str, expected: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(FORMS[form])
    run([tmp_path / "in"], tmp_path / "out", chunk_bytes=1024)
    assert rows_of(tmp_path / "out").equals(expected)
    assert quarantine_of(tmp_path / "out")["record"].to_list() == [31]


SMALL_INTEGERS = ["tx_time_seconds", "tx_time_days", "tx_fraud", "tx_fraud_scenario"]
TYPED: dict[str, list[pl.Expr]] = {
    "texts": [],
    "integers": [pl.col("transaction_id", "customer_id", "terminal_id", *SMALL_INTEGERS).cast(pl.Int32)],
    "unsigned": [pl.col("transaction_id", "terminal_id").cast(pl.UInt64), pl.col("tx_fraud").cast(pl.UInt8)],
    "integers as floats": [pl.col("transaction_id", "customer_id", *SMALL_INTEGERS).cast(pl.Float64)],
    "amounts as float64": [pl.col("tx_amount").cast(pl.Float64)],
    "amounts as float32": [pl.col("tx_amount").cast(pl.Float32)],
    "amounts with binary noise": [pl.col("tx_amount").cast(pl.Float64) * 3 / 3 + 0.1 - 0.1],
    "amounts as decimals": [pl.col("tx_amount").cast(pl.Decimal(20, 6))],
    "amounts in thousandths": [pl.col("tx_amount").cast(pl.Decimal(20, 3))],
    "ids as decimals": [
        pl.col("transaction_id").cast(pl.Decimal(20, 0)), pl.col("customer_id").cast(pl.Decimal(20, 2))
    ],
    "moments in milliseconds": [pl.col("tx_datetime").str.to_datetime(time_unit="ms")],
    "moments in nanoseconds": [pl.col("tx_datetime").str.to_datetime(time_unit="ns")],
    "moments with a zone": [
        pl.col("tx_datetime").str.to_datetime(time_zone="UTC").dt.convert_time_zone("Asia/Tokyo")
    ],
    "answers as truths": [pl.col("tx_fraud").cast(pl.Int8).cast(pl.Boolean)],
    "categories and bytes": [
        pl.col("terminal_id").cast(pl.Categorical), pl.col("customer_id").cast(pl.Binary)
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPED)
def test_parquet_of_every_kind_gives_the_same_rows(kind: str, expected: pl.DataFrame, tmp_path: Path) -> None:
    _typed().with_columns(TYPED[kind]).select(reversed(NAMES)).write_parquet(tmp_path / "in.parquet")
    run([tmp_path / "in.parquet"], tmp_path / "out")
    assert rows_of(tmp_path / "out").equals(expected)
    kept = quarantine_of(tmp_path / "out")
    assert kept.select("record", "offset", "reason").row(0) == (31, -1, "unknown_entity")


def _reasons_of(tmp_path: Path, **columns: Any) -> list[str | None]:
    """By row of a Parquet file with these columns: why it was rejected."""
    frame = _typed().head(3).with_columns(**columns)
    frame.write_parquet(tmp_path / "in.parquet")
    run([tmp_path / "in.parquet"], tmp_path / "out")
    found: list[str | None] = [None] * len(frame)
    for record, reason, name in quarantine_of(tmp_path / "out").select("record", "reason", "field").rows():
        found[record - 1] = f"{reason}:{name}" if name else reason
    return found


ODD_COLUMNS: list[tuple[str, pl.Series, list[str | None]]] = [
    ("tx_amount", pl.Series([None, float("nan"), float("inf")]),
     ["missing_field:tx_amount", "missing_field:tx_amount", "not_a_number:tx_amount"]),
    ("tx_amount", pl.Series([70.915, -1.0, 1e300]),
     ["too_precise:tx_amount", "out_of_range:tx_amount", "out_of_range:tx_amount"]),
    ("tx_amount", pl.Series([Decimal("1.001"), Decimal(-1), None]),
     ["too_precise:tx_amount", "out_of_range:tx_amount", "missing_field:tx_amount"]),
    ("customer_id", pl.Series([1.5, 2.0**53, 7.0]),
     ["not_an_integer:customer_id", "not_an_integer:customer_id", None]),
    ("transaction_id", pl.Series([2**63, 2**63 - 1, 1], dtype=pl.UInt64),
     ["out_of_range:transaction_id", None, None]),
    ("customer_id", pl.Series([True, False, None]),
     [*["not_an_integer:customer_id"] * 2, "missing_field:customer_id"]),
    ("customer_id", pl.Series(["1\n2", '3"', " 4 "]), ["not_text", "not_an_integer:customer_id", None]),
    ("customer_id", pl.Series([b"1", b"\xff", None]), [None, "not_text", "missing_field:customer_id"]),
    ("tx_datetime", pl.Series([date(2019, 8, 22), date(1970, 1, 1), None]),
     [*["not_a_time:tx_datetime"] * 2, "missing_field:tx_datetime"]),
    ("tx_datetime", pl.Series(["2019-08-22 24:00:00", "2019-08-22", None]),
     ["hour_24:tx_datetime", "not_a_time:tx_datetime", "missing_field:tx_datetime"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "reasons"), ODD_COLUMNS)
def test_a_typed_value_that_cannot_be_is_rejected_by_name(
    name: str, values: pl.Series, reasons: list[str | None], tmp_path: Path
) -> None:
    assert _reasons_of(tmp_path, **{name: values}) == reasons


def test_a_fraction_of_a_second_is_seen_down_to_the_nanosecond(tmp_path: Path) -> None:
    moment = pl.lit("2019-08-22T06:51:03.000000001").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="ns")
    assert _reasons_of(tmp_path, tx_datetime=moment) == [None] * 3
    bit = 1 << MISSION.flag_names.index("fraction_of_second_dropped")
    assert (rows_of(tmp_path / "out")["flags"] & bit == bit).all()


def test_datetimes_become_epoch_seconds_by_catalogue(tmp_path: Path) -> None:
    moment = pl.Series(["2023-11-14T22:13:20"]).str.to_datetime()
    frame = pl.DataFrame({"id": [1], "at": moment, "card": ["a,b"], "device": ['q"x'], "sum": [5]})
    frame.write_parquet(tmp_path / "in.parquet")
    run([tmp_path / "in.parquet"], tmp_path / "out", catalogue=SHOP)
    assert rows_of(tmp_path / "out")["event_time_seconds"].to_list() == [1_700_000_000]


def test_addresses_of_fsspec_and_local_paths_give_the_same_rows(
    expected: pl.DataFrame, tmp_path: Path
) -> None:
    packed = zstd.compress(TEXT)
    (tmp_path / "a [1] #*.txt").write_bytes(packed)
    with fsspec.open("memory://intake/in.zst", "wb") as file:
        file.write(packed)
    with fsspec.open("memory://intake/in.parquet", "wb") as file:
        file.write(_parquet(_typed(), tmp_path / "typed.parquet"))
    for n, source in enumerate([
        "memory://intake/in.zst", "memory://intake/in.parquet", f"file://{tmp_path}/a [1] #*.txt",
        str(tmp_path / "a [1] #*.txt"),
    ]):  # fmt: skip
        run([source], tmp_path / f"out-{n}")
        assert rows_of(tmp_path / f"out-{n}").equals(expected)


def test_a_pipe_is_read_like_a_file(expected: pl.DataFrame, tmp_path: Path) -> None:
    for n, content in enumerate([gzip.compress(TEXT), _parquet(_typed(), tmp_path / "typed.parquet")]):
        pipe = tmp_path / f"pipe-{n}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(content,))
        writer.start()
        run([pipe], tmp_path / f"out-{n}")
        writer.join()
        assert rows_of(tmp_path / f"out-{n}").equals(expected)


def test_quarantine_keeps_the_original_bytes_and_where_they_stood(tmp_path: Path) -> None:
    bad = [
        b"\xff\xfe,not text",
        b"",
        b"short",
        b'5,"open" text',
        b"\xef\xbb\xbf" + GOOD.encode(),
        b"x" * 5000,
    ]
    lines = [part for i, b in enumerate(bad) for part in (LINES[i].encode(), b)]
    content = HEADER.encode() + b"\n" + b"\r\n".join(lines) + b"\r\n" + LINES[30].encode()
    (tmp_path / "in.txt").write_bytes(content)
    run([tmp_path / "in.txt"], tmp_path / "out")
    kept = quarantine_of(tmp_path / "out")
    assert kept["record"].to_list() == [2, 4, 6, 8, 10, 12]
    for raw, offset, original in zip(kept["raw"], kept["offset"], bad, strict=True):
        whole = original + b"\r" if len(original) <= 4096 else original[:4096]
        assert raw == whole and content[offset : offset + len(raw)] == whole


def _awkward() -> bytes:
    """Short and long lines, empty ones, bytes that are not text, and no newline at the end."""
    long = [b"y" * n for n in (40, 4094, 4095, 4096, 4097, 4098, 4099, 9000)]
    filled = [GOOD.encode() + b" " * (n - len(GOOD)) + b"\r" for n in (4095, 4096, 4097, 4098)]
    rows = [LINES[0].encode(), *long, b"", b"\xff", *filled, b"\r" * 5000, LINES[1].encode()]
    return HEADER.encode() + b"\n" + b"\n".join(rows)


def _outcome(path: Path, out: Path, chunk_bytes: int) -> tuple[dict[str, bytes], Any]:
    run([path], out, chunk_bytes=chunk_bytes)
    files = content_of(out)
    del files["_quarantine.parquet"]  # compared as rows
    return files, quarantine_of(out).rows()


def test_the_output_does_not_depend_on_where_chunks_end(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(_awkward())
    whole = _outcome(path, tmp_path / "whole", 1 << 20)
    for chunk_bytes in (1, 7, 64, 4097, 4098, 4099, 10_000):
        assert _outcome(path, tmp_path / f"out-{chunk_bytes}", chunk_bytes) == whole


def _originals(chunk: Chunk) -> list[tuple[int, bytes]]:
    """By record: its place in the source and its bytes."""
    records = np.arange(len(chunk))
    return list(zip(chunk.offsets(records).tolist(), chunk.originals(records.tolist()), strict=True))


def test_chunks_that_end_at_any_byte_give_the_same_records(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(TEXT[:700] + b"\n\n" + LINES[9].encode())

    def records(chunk_bytes: int) -> list[tuple[int, int, bytes]]:
        return [
            (chunk.first_record + i, offset, raw)
            for chunk in read_source(str(path), MISSION, chunk_bytes)
            for i, (offset, raw) in enumerate(_originals(chunk))
        ]

    whole = records(1 << 20)
    assert all(records(size) == whole for size in range(1, len(path.read_bytes()) + 2))


RANDOM = np.random.default_rng(1).bytes(5000)
PARQUET_FRAME = pl.DataFrame({n: [v] for n, v in zip(NAMES, GOOD.split(","), strict=True)})


@pytest.mark.parametrize(("separator", "quoted"), [(";", "';'"), ("\t", "'\\t'")])
def test_a_miscounted_line_is_compared_with_its_own_header(
    tmp_path: Path, separator: str, quoted: str
) -> None:
    (tmp_path / "a.csv").write_bytes(_csv(ALL[:5], separator) + separator.join("12").encode())
    run([tmp_path / "a.csv"], tmp_path / "out")
    detail = quarantine_of(tmp_path / "out")["detail"].to_list()[-1]
    assert detail == f"The record has 2 fields separated by {quoted}; expected 5."


# name → (content, part of the error)
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "empty after unpacking": (gzip.compress(b""), "is empty"),
    "only a header": (HEADER.encode() + b"\n", "a header and nothing else"),
    "only a header, no newline": (",".join(NAMES).encode(), "a header and nothing else"),
    "random bytes": (b"\0" + RANDOM, "binary"),
    "an archive": (b"PK\x03\x04" + RANDOM, "binary"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "UTF-16"),
    "a blank first line": (b"\n" + TEXT, "begins with an empty line"),
    "no line ends": (b"7," * 100_000, "a line of more than 64 KiB"),
    "other columns": (b"name;size\na;1\n", "neither a header"),
    "as many other columns": (b"a,b,c,d,e,f,g,h,i\n1,2,3,4,5,6,7,8,9\n", "neither a header"),
    "a column missing": (_csv(ALL[:4], ","), "no column 'tx_amount'"),
    "a column twice": (_csv([*ALL, 2], ","), "two columns for 'customer_id'"),
    "a field more": ((GOOD + ",1\n").encode(), "9 fields separated by ','"),
    "JSON with other names": (b'{"a": 1, "b": {"tx_amount": 2}}\n' * 200, "have none of the fields"),
    "JSON with none but what may lack": (b'{"tx_fraud": 1}\n', "but 'tx_fraud'"),
    "JSON with other names and broken lines": (b'{"a": 1\n{"a": 1}\n7\n', "but 'a'"),
    "a JSON list": (b"[" + b"{},\n" * 3 + b"]", "begins with a JSON list"),
    "cut gzip": (gzip.compress(TEXT)[:-9], "damaged"),
    "gzip with a wrong checksum": (gzip.compress(TEXT)[:-8] + b"\0" * 8, "damaged"),
    "gzip and something else": (gzip.compress(TEXT) + b"something else", "damaged"),
    "cut zstd": (zstd.compress(TEXT)[:-3], "damaged"),
    "cut second zstd frame": (zstd.compress(TEXT) + zstd.compress(TEXT)[:-3], "damaged"),
    "zstd and something else": (zstd.compress(TEXT) + b"something else", "damaged"),
    "zstd of nonsense": (b"\x28\xb5\x2f\xfd" + RANDOM, "damaged"),
    "Parquet magic and nothing": (b"PAR1", "damaged Parquet"),
    "Parquet magic and noise": (b"PAR1" + RANDOM + b"PAR1", "damaged Parquet"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_gets_one_clear_error_and_leaves_all_as_it_was(case: str, tmp_path: Path) -> None:
    content, sentence = WRONG[case]
    (tmp_path / "good.txt").write_bytes(TEXT)
    (tmp_path / "bad").write_bytes(content)
    run([tmp_path / "good.txt"], tmp_path / "old")
    _expect_error([tmp_path / "good.txt", tmp_path / "bad"], tmp_path, sentence)


@pytest.mark.parametrize("chunk_bytes", [1024, 1 << 20])
def test_a_json_file_is_known_by_its_first_hundred_records(tmp_path: Path, chunk_bytes: int) -> None:
    other, ours = b'{"a": 1}\n', FORMS["JSON lines"].partition(b"\n")[0] + b"\n"
    (tmp_path / "in").write_bytes(other * 99 + ours + other)
    report = run([tmp_path / "in"], tmp_path / "out", chunk_bytes=chunk_bytes)
    assert (report.rows_clean, report.rows_rejected) == (1, {"missing_field:transaction_id": 100})
    (tmp_path / "late").write_bytes(other * 100 + ours)
    with pytest.raises(InputError, match="none of the fields"):
        run([tmp_path / "late"], tmp_path / "out", chunk_bytes=chunk_bytes)


def test_unreadable_json_lines_are_rejections(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b'{"tx_amount": 5\n{}\n')
    report = run([tmp_path / "in"], tmp_path / "out")
    assert report.rows_rejected == {"missing_field:transaction_id": 1, "not_json": 1}


def _expect_error(sources: list[Any], tmp_path: Path, sentence: str) -> None:
    before = content_of(tmp_path)
    for out in (tmp_path / "old", tmp_path / "new" / "deep" / "out"):
        with pytest.raises(InputError, match=".") as error:
            run(sources, out)
        assert sentence in str(error.value)
        assert str(sources[-1]) in str(error.value) and "\n" not in str(error.value)
        assert content_of(tmp_path) == before and not (tmp_path / "new").exists()
        assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("frame", "sentence"), [
    (PARQUET_FRAME.head(0), "has no rows"),
    (PARQUET_FRAME.drop("tx_amount"), "no column 'tx_amount'"),
    (PARQUET_FRAME.with_columns(tranaction_id=pl.lit(1)), "two columns for 'transaction_id'"),
    (PARQUET_FRAME.with_columns(tx_amount=pl.lit([1.0])), "'tx_amount'"),
    (PARQUET_FRAME.with_columns(customer_id=pl.struct("tx_amount")), "'customer_id'"),
])  # fmt: skip
def test_a_parquet_file_of_another_shape_gets_one_clear_error(
    frame: pl.DataFrame, sentence: str, tmp_path: Path
) -> None:
    frame.write_parquet(tmp_path / "bad.parquet")
    _expect_error([tmp_path / "bad.parquet"], tmp_path, sentence)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_parquet_that_is_cut_off_or_damaged_gets_one_clear_error(share: float, tmp_path: Path) -> None:
    whole = _parquet(_typed(), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(whole[: int(len(whole) * share)])
    _expect_error([tmp_path / "bad.parquet"], tmp_path, "damaged Parquet")


def test_damage_inside_parquet_is_an_error_or_at_least_no_crash(tmp_path: Path) -> None:
    whole = bytearray(_parquet(_typed(), tmp_path / "good.parquet"))
    random = np.random.default_rng(3)
    for n in range(60):
        broken = bytearray(whole)
        at = int(random.integers(4, len(whole) - 8))
        broken[at : at + 8] = random.bytes(8)
        (tmp_path / "bad.parquet").write_bytes(broken[: len(whole)])
        try:
            run([tmp_path / "bad.parquet"], tmp_path / f"out-{n}")
        except InputError as error:
            assert "bad.parquet" in str(error)


@pytest.mark.parametrize(("source", "sentence"), [
    ("missing.txt", "does not exist"),
    ("memory://missing.txt", "does not exist"),
    ("foo://missing.txt", "cannot be read"),
    ("file:///missing.txt", "does not exist"),
])  # fmt: skip
def test_an_address_that_leads_nowhere_gets_one_clear_error(
    source: str, sentence: str, tmp_path: Path
) -> None:
    _expect_error([source], tmp_path, sentence)


def test_a_directory_is_not_a_source(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    _expect_error([tmp_path / "folder"], tmp_path, "is a directory")


def test_a_file_without_permission_gets_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(TEXT)
    (tmp_path / "secret.txt").chmod(0)
    if os.geteuid():
        _expect_error([tmp_path / "secret.txt"], tmp_path, "may not be read")
        return
    os.seteuid(65534)  # root may read everything, so be somebody else for a moment
    try:
        with pytest.raises(InputError, match="may not be read"):
            next(read_source(str(tmp_path / "secret.txt"), MISSION, 1024))
    finally:
        os.seteuid(0)


def test_a_bomb_of_zeros_is_read_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    bomb = zstd.compress(GOOD.encode() + b"\n" + b"0" * (64 << 20))
    (tmp_path / "bomb.zst").write_bytes(bomb)
    tracemalloc.start()
    run([tmp_path / "bomb.zst"], tmp_path / "out", chunk_bytes=1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20
