"""Commands with and without Spark, sources for them, and how two outputs are compared."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
from tests.cluster.spark_cluster import spark_environment
from tests.waiting import DEADLINE_SECONDS

ROWS = int(os.environ.get("ZASLON_TEST_SPARK_ROWS", "30000"))
ARRIVED = "2024-01-01 00:00:00"
QUARANTINE_ORDER = ["source", "record", "offset", "reason", "field"]


def write_sources(directory: Path) -> list[str]:
    """Files with the mission's defects; the last one repeats rows of the others, with answers that differ."""
    whole = directory / "whole"
    arguments = [
        "--rows",
        str(ROWS),
        "--days",
        "60",
        "--customers",
        str(ROWS // 50),
        "--defects",
        "20",
        "--format",
        "mission",
    ]
    zaslon(sys.executable, "simulate", str(whole), *arguments)
    header, *rows = whole.read_bytes().splitlines()
    half = len(rows) // 2
    again = [repeated(row, n) for n, row in enumerate(rows[100:900])]
    parts = {
        "first.txt": rows[:half],
        "second.txt.gz": rows[half:],
        "third.txt": [*again, b"7,2019", b'1,"2'],
    }
    for name, part in parts.items():
        content = b"\n".join([header, *part, b""])
        (directory / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    return [str(directory / name) for name in parts]


def repeated(row: bytes, number: int) -> bytes:
    """A row again: as it was, with another amount, or with another answer."""
    fields = row.split(b",")
    if number % 3 == 1:
        fields[4:5] = [b"1.23"]
    elif number % 3 == 2:
        fields[-2:] = [b"1", b"3"]
    return b",".join(fields)


def command(
    python: str | Path,
    *words: str,
    home: Path | None = None,
    directory: Path | None = None,
    **environment: str,
) -> subprocess.Popen[str]:
    key = {"ZASLON_PSEUDONYM_KEY": "the key of these tests"} if home else {}
    given = spark_environment(**environment, **key, **({"ZASLON_HOME": str(home)} if home else {}))
    return subprocess.Popen(
        [str(python), "-m", "zaslon.entrypoints.cli", *words, "--json"], env=given, text=True,
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=2 * DEADLINE_SECONDS)
    assert process.returncode == 0, errors[-3_000:]
    found: dict[str, Any] = json.loads(out)
    return found


def zaslon(
    python: str | Path,
    *words: str,
    home: Path | None = None,
    directory: Path | None = None,
    **environment: str,
) -> dict[str, Any]:
    return result(command(python, *words, home=home, directory=directory, **environment))


def in_spark(master: str) -> list[str]:
    return ["--engine", "spark", "--master", master]


def days(directory: Path) -> dict[str, pl.DataFrame]:
    files = sorted(directory.glob("day=*/*.parquet"))
    return {
        str(path.relative_to(directory)): pl.read_parquet(path, hive_partitioning=False) for path in files
    }


def assert_same_days(found: Path, expected: Path) -> None:
    ours, theirs = days(found), days(expected)
    assert list(ours) == list(theirs) and len(ours) > 20
    different = [day for day, rows in ours.items() if not is_same(rows, theirs[day])]
    assert different == []


def is_same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Bit for bit, NaN as well."""
    return one.schema == other.schema and one.equals(other, null_equal=True)


def assert_same_clean(found: Path, expected: Path) -> None:
    assert (found / "_report.json").read_bytes() == (expected / "_report.json").read_bytes()
    assert_same_days(found, expected)
    rejected = [
        pl.read_parquet(out / "_quarantine.parquet").sort(QUARANTINE_ORDER) for out in (found, expected)
    ]
    assert is_same(*rejected) and len(rejected[0]) > 700
