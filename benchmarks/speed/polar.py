"""Polars on two threads: lazy, native expressions only.

Cleaning: text columns by its parallel CSV reader, non-strict casts, one collected frame with the
reasons, `unique` over all input, Parquet by day. Features: grouped rolling frames over integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.speed.ours import FEATURES

_DAY, _DELAY = 86_400, 7 * 86_400
_WINDOWS = (1, 7, 30)
_NAMES = ("id", "moment", "customer", "terminal", "amount", "elapsed", "days", "fraud", "scenario", "more")
_READ = ("transaction_id", "event_time_seconds", "customer_key", "terminal_key", "amount_minor", "is_fraud")


def clean(raw: Path, out: Path) -> dict[str, Any]:
    """Text to Parquet by day."""
    typed = (
        pl.scan_csv(
            raw, has_header=False, skip_rows=1, schema=dict.fromkeys(_NAMES, pl.String), quote_char=None,
            missing_columns="insert", truncate_ragged_lines=True, empty_string_is_null=False,
        )
        .with_columns(
            pl.col("id").cast(pl.Int64, strict=False).alias("transaction_id"),
            pl.col("moment").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
            .dt.epoch("s").alias("event_time_seconds"),
            pl.col("customer").cast(pl.Int64, strict=False).alias("customer_key"),
            pl.col("terminal").cast(pl.Int64, strict=False).alias("terminal_key"),
            (pl.col("amount").cast(pl.Float64, strict=False) * 100).round().cast(pl.Int64).alias("amount_minor"),
            pl.col("fraud").cast(pl.Int8, strict=False).alias("is_fraud"),
        )
        .select(*_READ, _reason().alias("reason"))
        .collect()
    )  # fmt: skip
    counts = typed.filter(pl.col("reason").is_not_null()).group_by("reason").len()
    fine = typed.lazy().filter(pl.col("reason").is_null()).select(_READ)
    unique = fine.unique("transaction_id", keep="any", maintain_order=False).collect()
    day = pl.from_epoch("event_time_seconds").dt.date().alias("day")
    out.mkdir(parents=True)
    unique.lazy().sink_parquet(pl.PartitionBy(out, key=day), mkdir=True)
    rejected = dict(counts.iter_rows())
    repeats = len(typed) - sum(rejected.values()) - len(unique)
    return {"rows_clean": len(unique), **rejected, "duplicate": repeats}


def _reason() -> pl.Expr:
    listed = pl.col("terminal").is_in(["Err", "None"])
    no_time = pl.col("event_time_seconds").is_null()
    shaped = pl.col("moment").str.contains("^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")
    real_day = pl.col("moment").str.head(10).str.to_date("%Y-%m-%d", strict=False).is_not_null()
    known = [
        ("wrong_field_count", pl.col("scenario").is_null() | (pl.col("scenario") == "") | (pl.col("more") != "")),
        ("missing_field:transaction_id", pl.col("id") == ""),
        ("missing_field:tx_datetime", pl.col("moment") == ""),
        ("missing_field:customer_id", pl.col("customer") == ""),
        ("missing_field:terminal_id", pl.col("terminal") == ""),
        ("missing_field:tx_amount", pl.col("amount") == ""),
        ("not_an_integer:transaction_id", pl.col("transaction_id").is_null()),
        ("not_an_integer:customer_id", pl.col("customer_key").is_null()),
        ("not_an_integer:terminal_id", pl.col("terminal_key").is_null() & ~listed),
        ("not_a_number:tx_amount", pl.col("amount_minor").is_null()),
        ("not_a_time:tx_datetime", no_time & ~shaped),
        ("out_of_range:tx_amount", pl.col("amount_minor") < 0),
        ("unknown_entity:customer_id", pl.col("customer") == "-999999"),
        ("unknown_entity:terminal_id", listed),
        ("hour_24:tx_datetime", no_time & real_day & pl.col("moment").str.ends_with(" 24:00:00")),
        ("impossible_time:tx_datetime", no_time),
    ]  # fmt: skip
    column = pl.lit(None, pl.String)
    for name, condition in reversed(known):
        column = pl.when(condition).then(pl.lit(name)).otherwise(column)
    return column


def features(clean: Path, out: Path) -> dict[str, Any]:
    """The 15 features as a frame in memory."""
    return {"rows": len(_features(clean))}


def features_checked(clean: Path, out: Path) -> dict[str, Any]:
    """The same as Parquet."""
    out.mkdir(parents=True)
    frame = _features(clean)
    frame.write_parquet(out / "features.parquet")
    return {"rows": len(frame)}


def _features(clean: Path) -> pl.DataFrame:
    rows = pl.scan_parquet(f"{clean}/day=*/*.parquet").select(_READ).sort("event_time_seconds").collect()
    seconds = pl.col("event_time_seconds")
    by_customer = rows.sort("customer_key", "event_time_seconds")
    columns = [by_customer.select(
        "transaction_id", (pl.col("amount_minor") / 100).alias("amount"),
        ((seconds // _DAY + 3) % 7 >= 5).cast(pl.Int8).alias("is_weekend"),
        (seconds % _DAY < 7 * 3_600).cast(pl.Int8).alias("is_night"),
    )]  # fmt: skip
    for days in _WINDOWS:
        found = by_customer.rolling(
            "event_time_seconds", period=f"{days * _DAY}i", group_by="customer_key"
        ).agg(pl.len().alias("n"), pl.col("amount_minor").mean().alias("mean"))
        columns.append(found.select(
            pl.col("n").alias(f"customer_payments_{days}d"),
            (pl.col("mean") / 100).alias(f"customer_average_{days}d"),
        ))  # fmt: skip
    by_terminal = rows.sort("terminal_key", "event_time_seconds")
    shares = [by_terminal.select("transaction_id")]
    for days in _WINDOWS:
        found = by_terminal.rolling(
            "event_time_seconds", period=f"{days * _DAY}i", offset=f"{-_DELAY - days * _DAY}i",
            group_by="terminal_key",
        ).agg(pl.len().alias("n"), pl.col("is_fraud").cast(pl.Int64).sum().alias("frauds"))  # fmt: skip
        shares.append(found.select(
            pl.col("n").alias(f"terminal_known_{days}d"),
            (pl.col("frauds") / pl.col("n")).fill_nan(0.0).alias(f"terminal_share_{days}d"),
        ))  # fmt: skip
    left, right = pl.concat(columns, how="horizontal"), pl.concat(shares, how="horizontal")
    return left.join(right, on="transaction_id", how="inner").select("transaction_id", *FEATURES)
