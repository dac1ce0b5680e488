"""Records and small files for the tests of intake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, load_catalogue, parse_catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.rejections import reason_text
from zaslon.intake import Cleaned, CleanReport, Found, Taking, clean_batch, clean_files, earlier_output

KEY = b"a secret"
ARRIVAL_SECONDS = 1_700_000_000
MISSION = load_catalogue()
GOOD = "17,2019-08-22 06:51:03,4961,711,70.91,24663,0,0,0"
HEADER = (
    "# tranaction_id | tx_datetime | customer_id | terminal_id | tx_amount | tx_time_seconds "
    "| tx_time_days | tx_fraud | tx_fraud_scenario"
)
NAMES = MISSION.record.columns
SHOP_TEXT = """
name = "shop"
version = 1
currency = "JPY"
minor_digits = 0
[record]
columns = ["id", "at", "card", "device", "sum", "risk"]
[[fields]]
name = "id"
role = "transaction_id"
[[fields]]
name = "at"
role = "event_time"
format = "epoch_seconds"
[[fields]]
name = "card"
role = "entity"
entity = "card"
type = "text"
unknown = ["-"]
[[fields]]
name = "device"
role = "entity"
entity = "device"
type = "text"
[[fields]]
name = "sum"
role = "amount"
[[fields]]
name = "risk"
role = "number"
required = false
minimum = -1e12
maximum = 1e12
"""
SHOP = parse_catalogue(SHOP_TEXT)


def line(**changes: object) -> str:
    """The good record with some fields changed."""
    values = dict(zip(NAMES, GOOD.split(","), strict=True))
    assert changes.keys() <= values.keys()
    return ",".join(str(v) for v in (values | changes).values())


def clean(
    *records: str | bytes,
    kind: Kind = Kind.TRANSACTION_LINE,
    catalogue: Catalogue = MISSION,
    key: bytes = KEY,
) -> Cleaned:
    """Clean records of one kind; every one gets exactly one outcome."""
    raw = [r.encode() if isinstance(r, str) else r for r in records]
    batch = RecordBatch.of(raw, [kind] * len(raw), [ARRIVAL_SECONDS] * len(raw))
    cleaned = clean_batch(batch, catalogue, key)
    places = [
        *cleaned.transaction_index.tolist(),
        *cleaned.label_index.tolist(),
        *cleaned.rejected.index.tolist(),
    ]
    assert sorted(places) == list(range(len(raw)))
    return cleaned


def reasons(
    *records: str | bytes, kind: Kind = Kind.TRANSACTION_LINE, catalogue: Catalogue = MISSION
) -> list[str | None]:
    """By record: why it was rejected, None where it was not."""
    rejected = clean(*records, kind=kind, catalogue=catalogue).rejected
    found: list[str | None] = [None] * len(records)
    for i, reason, name in zip(
        rejected.index.tolist(), rejected.reason.tolist(), rejected.field, strict=True
    ):
        found[i] = reason_text(reason, name)
    return found


def flags(record: str) -> set[str]:
    """Names of the flags of one accepted record."""
    value = int(clean(record).transactions.flags[0])
    return {name for bit, name in enumerate(MISSION.flag_names) if value >> bit & 1}


def run(
    sources: Sequence[str | Path], out: Path, *, catalogue: Catalogue = MISSION,
    chunk_bytes: int = 1 << 20, filter_bytes: int = 1 << 16, key: bytes = KEY,
    arrival: int = ARRIVAL_SECONDS, rows_of_log: NDArray[np.int64] | None = None,
) -> CleanReport:  # fmt: skip
    """Clean files; rows in = clean + rejected by reason, in the report, the days and the quarantine."""
    report = clean_files(
        [str(s) for s in sources], out, catalogue, key=key, arrival_time_seconds=arrival,
        chunk_bytes=chunk_bytes, repeat_filter_bytes=filter_bytes, rows_of_log=rows_of_log,
    )  # fmt: skip
    rejected = sum(report.rows_rejected.values())
    assert report.rows_in == report.rows_clean + rejected
    assert len(rows_of(out)) == report.rows_clean
    assert len(quarantine_of(out)) == rejected
    return report


def run_new(
    sources: Sequence[str | Path], out: Path, *, catalogue: Catalogue = MISSION,
    chunk_bytes: int = 1 << 20, filter_bytes: int = 1 << 16, key: bytes = KEY, arrival: int = ARRIVAL_SECONDS,
) -> Found:  # fmt: skip
    """Add the files that an output does not hold yet."""
    earlier = earlier_output(out, catalogue, key)
    taking, found = Taking.of_new([str(s) for s in sources], catalogue, key, earlier)
    if found.new:
        report = clean_files(
            found.new, out, catalogue, key=key, arrival_time_seconds=arrival,
            chunk_bytes=chunk_bytes, repeat_filter_bytes=filter_bytes, taking=taking,
        )  # fmt: skip
        assert report.rows_in == report.rows_clean + sum(report.rows_rejected.values())
    return found


def rows_of(out: Path) -> pl.DataFrame:
    """All clean rows, in the order of days."""
    parts = [pl.read_parquet(path) for path in sorted(out.glob("day=*/*.parquet"))]
    return pl.concat(parts) if parts else pl.DataFrame()


def quarantine_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "_quarantine.parquet")


def quarantines_of(out: Path) -> pl.DataFrame:
    """Of all runs that put files into an output."""
    return pl.concat([pl.read_parquet(path) for path in sorted(out.glob("_quarantine*.parquet"))])


def content_of(out: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
