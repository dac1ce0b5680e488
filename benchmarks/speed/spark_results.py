"""Whether both ways in Spark gave the same: clean days row by row, rejected rows with their bytes, every feature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from zaslon.intake.quarantine import QUARANTINE

# Of clean days: what both have. Ours also have a digest of 128 bits.
CLEAN_COLUMNS = (
    "transaction_id", "event_time_seconds", "amount_minor", "customer_key", "terminal_key", "flags", "is_fraud",
    "scenario",
)  # fmt: skip
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9  # of features: float32 has about seven digits


def check_clean(ours: Path, theirs: Path) -> dict[str, int]:
    """Every column that both have of every clean day, in the order of the log; every rejected row.

    Returns what was compared. Ends the program with the first difference.
    """
    days = _days(ours, theirs)
    rows = 0
    for day in days:
        one, other = (
            pl.read_parquet(out / day, columns=list(CLEAN_COLUMNS), hive_partitioning=False).cast(pl.Int64)
            for out in (ours, theirs)
        )
        _check_rows(day, one, other.select(one.columns))
        rows += len(one)
    rejected = _rejected_of_ours(ours / QUARANTINE)
    _check_rows("the quarantine", rejected, _rejected_of_theirs(theirs / "quarantine"))
    return {
        "days": len(days),
        "clean_rows": rows,
        "columns": len(CLEAN_COLUMNS),
        "rejected_rows": len(rejected),
    }


def check_features(ours: Path, theirs: Path) -> dict[str, int]:
    """Every feature of every row, in the order of the log, to a relative 1e-6.

    Returns what was compared. Ends the program with the first difference.
    """
    days, rows, columns = _days(ours, theirs), 0, 0
    for day in days:
        one, other = (pl.read_parquet(out / day, hive_partitioning=False) for out in (ours, theirs))
        if one.columns != other.columns or not one["transaction_id"].equals(other["transaction_id"]):
            raise SystemExit(f"{day}: other rows or columns: {set(one.columns) ^ set(other.columns)}")
        for name in one.columns:
            _check_column(f"{day}: {name}", one[name].to_numpy(), other[name].to_numpy())
        rows, columns = rows + len(one), len(one.columns)
    return {"days": len(days), "rows": rows, "columns": columns}


def _days(ours: Path, theirs: Path) -> Sequence[str]:
    one, other = (
        sorted(str(p.relative_to(out)) for p in out.glob("day=*/*.parquet")) for out in (ours, theirs)
    )
    if one != other or not one:
        raise SystemExit(f"other days: {set(one) ^ set(other) or 'none'}")
    return one


def _check_rows(what: str, one: pl.DataFrame, other: pl.DataFrame) -> None:
    if not one.equals(other, null_equal=True):
        raise SystemExit(f"{what} differs: {len(one):,} rows of ours and {len(other):,} of Spark SQL")


def _check_column(what: str, one: np.ndarray, other: np.ndarray) -> None:
    wrong = ~np.isclose(
        one.astype(np.float64), other.astype(np.float64), _RELATIVE, _ABSOLUTE, equal_nan=True
    )
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise SystemExit(
            f"{what} differs in {wrong.sum():,} of {len(one):,} rows, first {one[at]} and {other[at]}"
        )


_ORDER = ("source", "reason", "raw")


def _rejected_of_ours(path: Path) -> pl.DataFrame:
    rows = pl.read_parquet(path, columns=["source", "reason", "field", "raw"])
    with_field = (
        pl.when(pl.col("field").is_null())
        .then("reason")
        .otherwise(pl.concat_str("reason", pl.lit(":"), "field"))
    )
    name = pl.col("source").str.split("/").list.last()
    return rows.select(name.alias("source"), with_field.alias("reason"), pl.col("raw").cast(pl.String)).sort(
        _ORDER
    )


def _rejected_of_theirs(path: Path) -> pl.DataFrame:
    rows = pl.read_parquet(path / "*.parquet")
    name = pl.col("file_path").str.split("/").list.last()
    return rows.select(name.alias("source"), "reason", pl.col("value").alias("raw")).sort(_ORDER)
