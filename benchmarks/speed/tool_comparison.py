"""All tools on the same rows, with equal results or no result at all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from benchmarks.speed.measure import Measured, measure
from benchmarks.speed.ours import FEATURES
from benchmarks.speed.rows import write_clean, write_raw

from zaslon.domain.catalogue import load_catalogue

# By name in the answer: (module, what must be installed).
TOOLS = {
    "zaslon": ("ours", "polars"), "pyspark": ("native_spark", "pyspark"), "duckdb": ("duck", "duckdb"),
    "polars": ("polar", "polars"), "pandas": ("panda", "pandas"),
}  # fmt: skip
_CLEAN_COLUMNS = ("transaction_id", "event_time_seconds", "customer_key", "terminal_key", "amount_minor")


def installed() -> list[str]:
    """The tools that can be imported here; the `bench` extra brings all."""
    return [name for name, (_, needs) in TOOLS.items() if importlib.util.find_spec(needs)]


def compare_cleaning(rows: int, scratch: Path, tools: list[str], runs: int) -> dict[str, Any]:
    """Text to clean Parquet by day, rejections counted by reason."""
    raw = scratch / "raw.txt"
    written = write_raw(rows, raw)
    found: dict[str, Measured] = {}
    for name in tools:
        tool = importlib.import_module(f"benchmarks.speed.{TOOLS[name][0]}")
        found[name] = measure(tool.clean, tool.clean, raw, scratch / name, runs)
        _check_clean(found[name].result, found["zaslon"].result, scratch, name)
    return {"rows": written, "mib": raw.stat().st_size >> 20, "rejected": found["zaslon"].result} | _table(
        found, written
    )


def _check_clean(result: Mapping[str, Any], ours: Mapping[str, Any], scratch: Path, name: str) -> None:
    """The same counts by reason, and the same clean rows."""
    if {k: v for k, v in result.items() if v} != {k: v for k, v in ours.items() if v}:
        raise SystemExit(f"{name} cleaned otherwise: {result}, ours {ours}")
    frames = [_clean_rows(scratch / tool / "checked") for tool in ("zaslon", name)]
    if not frames[0].equals(frames[1]):
        raise SystemExit(f"{name}: the clean rows differ from ours")


def _clean_rows(out: Path) -> pl.DataFrame:
    rows = pl.scan_parquet(f"{out}/day=*/*.parquet").select(pl.col(_CLEAN_COLUMNS).cast(pl.Int64))
    return rows.collect().sort("transaction_id")


def compare_features(rows: int, scratch: Path, tools: list[str], runs: int) -> dict[str, Any]:
    """Clean Parquet to the handbook's 15 features in memory."""
    raw, clean = scratch / "raw.txt", scratch / "clean"
    write_raw(rows, raw)
    count = write_clean([raw], clean, load_catalogue())
    found: dict[str, Measured] = {}
    for name in tools:
        tool = importlib.import_module(f"benchmarks.speed.{TOOLS[name][0]}")
        found[name] = measure(tool.features_checked, tool.features, clean, scratch / name, runs)
        _check_features(scratch, name)
    return {"rows": count} | _table(found, count)


def _check_features(scratch: Path, name: str) -> None:
    """All 15 features of all rows to a relative 1e-6, which float32 can distinguish."""
    ours, theirs = (
        pl.scan_parquet(f"{scratch / tool / 'checked'}/*.parquet")
        .select("transaction_id", pl.col(FEATURES).cast(pl.Float64)).collect().sort("transaction_id")
        for tool in ("zaslon", name)
    )  # fmt: skip
    if not ours["transaction_id"].equals(theirs["transaction_id"]):
        raise SystemExit(f"{name}: other rows than ours")
    for feature in FEATURES:
        a, b = ours[feature].to_numpy(), theirs[feature].to_numpy()
        wrong = ~np.isclose(a, b, rtol=1e-6, atol=1e-9)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise SystemExit(f"{name}: {feature} differs in {wrong.sum()} rows, first {a[at]} and {b[at]}")


def _table(found: Mapping[str, Measured], rows: int) -> dict[str, Any]:
    ours = found["zaslon"].cpu_seconds
    return {
        "tools": {
            name: {
                "cpu_seconds": round(m.cpu_seconds, 3),
                "seconds": round(m.seconds, 3),
                "rows_per_cpu_second": round(rows / m.cpu_seconds),
                "ours_is_faster_by": round(m.cpu_seconds / ours, 2),
            }
            for name, m in found.items()
        }
    }
