"""Speed: ours beside PySpark, DuckDB, Polars and pandas on the same rows, and what our parts cost.

    python benchmarks/batch.py [--rows 200000] [--section NAME]… [--without TOOL]… [--runs 2] [--json]

cleaning   text with defects to Parquet by day, every tool on the same file
features   clean Parquet to the Fraud Detection Handbook's 15 features, every tool on the same rows
kernel     the same features by `Engine.apply` alone, labels included, on one core
catalogue  what the default catalogue costs per row and feature, and memory per remembered event
engine     a decision end to end in micro-batches, by stage, with a model of 300 trees

Every tool runs in a process of its own, once to warm up and be checked, then --runs times, of which
the one with the least CPU counts: user and system time of the process and all its children, a JVM
too. All tools must give the same clean rows, the same rejections by reason and the same features,
else the benchmark fails. The head of each tool's file in `speed/` explains how it is used.
One JSON object with --json, else tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed.engine_speed import engine_costs, train_champion
from benchmarks.speed.kernel_speed import catalogue_costs, kernel_costs
from benchmarks.speed.tool_comparison import TOOLS, compare_cleaning, compare_features, installed

SECTIONS = ("cleaning", "features", "kernel", "catalogue", "engine")
ROWS_MIN = 20_000


def measured(section: str, rows: int, tools: list[str], runs: int) -> dict[str, Any]:
    """One section's figures."""
    with tempfile.TemporaryDirectory(prefix="zaslon-speed-") as name:
        scratch = Path(name)
        if section == "cleaning":
            return compare_cleaning(rows, scratch, tools, runs)
        if section == "features":
            return compare_features(rows, scratch, tools, runs)
        if section == "kernel":
            return kernel_costs(rows, scratch)
        if section == "catalogue":
            return catalogue_costs(rows, scratch)
        return engine_costs(train_champion(scratch, rows))


def goals(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at and what was reached, for the sections that were measured."""
    listed: list[tuple[str, float, float, bool]] = []
    for section, times in (("cleaning", 8.0), ("features", 5.0)):
        spark = found.get(section, {}).get("tools", {}).get("pyspark")
        if spark:
            listed.append((f"{section}: times PySpark", times, spark["ours_is_faster_by"], True))
    if "kernel" in found:
        speed = found["kernel"]["mission"]["rows_per_cpu_second"]
        listed.append(("kernel: rows per second on one core", 1e6, speed, True))
    if "catalogue" in found:
        listed.append(("catalogue: µs per row", 5.0, found["catalogue"]["us_per_row"], False))
        listed.append(
            ("memory: bytes per remembered event", 64, found["catalogue"]["bytes_per_event"], False)
        )
    if "engine" in found:
        largest = found["engine"]["batches"][-1]["us_per_record"]["total"]
        listed.append(("engine: µs per decision", 8.0, largest, False))
    return [
        {
            "goal": name,
            "target": target,
            "reached": value,
            "met": value >= target if more else value <= target,
        }
        for name, target, value, more in listed
    ]


def _show(found: Mapping[str, Any], console: Console) -> None:
    for section in SECTIONS:
        figures = found.get(section)
        if figures is None:
            continue
        console.rule(section)
        console.print({k: v for k, v in figures.items() if not isinstance(v, list | dict)})
        for name, rows in figures.items():
            if isinstance(rows, list):
                console.print(_table([_flat(row) for row in rows]))
            elif isinstance(rows, dict) and all(isinstance(v, dict) for v in rows.values()):
                console.print(_table([{name: key, **value} for key, value in rows.items()]))
            elif isinstance(rows, dict):
                console.print({name: rows})
    console.rule("goals")
    console.print(_table(found["goals"]))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    nested = {k: v for part in row.values() if isinstance(part, dict) for k, v in part.items()}
    return {k: v for k, v in row.items() if not isinstance(v, dict)} | nested


def _table(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = Table()
    for number, row in enumerate(rows):
        if number == 0:
            for name in row:
                table.add_column(name)
        table.add_row(*(f"{v:,}" if isinstance(v, int | float) else str(v) for v in row.values()))
    return table


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--section", action="append", choices=SECTIONS, default=[])
    parser.add_argument("--without", action="append", choices=[t for t in TOOLS if t != "zaslon"], default=[])
    parser.add_argument("--runs", type=int, default=2, help="measured runs, of which the best counts")
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    if given.rows < ROWS_MIN:
        parser.error(f"--rows must be at least {ROWS_MIN:,}: fewer leave nothing to measure.")
    if given.runs < 1:
        parser.error("--runs must be at least 1.")
    tools = [t for t in installed() if t not in given.without]
    found: dict[str, Any] = {"tools_missing": [t for t in TOOLS if t not in tools]}
    for section in given.section or SECTIONS:
        print(f"{section} …", file=sys.stderr)
        found[section] = measured(section, given.rows, tools, given.runs)
    found["goals"] = goals(found)
    if given.json:
        print(json.dumps(found))
    else:
        _show(found, Console())


if __name__ == "__main__":
    main()
