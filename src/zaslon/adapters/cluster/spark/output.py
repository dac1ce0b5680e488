"""Days as Spark writes them: one file a day, in the order of the log."""

from __future__ import annotations

import re
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as sql

from zaslon.domain.errors import ServerError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.staging import LOG_ORDER

_DAY = "_day"  # no field of a catalogue can have this name


def address_of(path: Path) -> str:
    """A local path as Hadoop reads it: it undoes no percent signs, and takes signs of patterns for such."""
    return "file://" + re.sub(r"([\\\[\]{}*?])", r"\\\1", str(path.resolve()))


def write_by_day(rows: DataFrame, out: Path, partitions: int) -> None:
    """Write `out/day=YYYY-MM-DD/*.parquet`; rows have `event_time_seconds` and `transaction_id`."""
    seconds = sql.floor(sql.col("event_time_seconds") / SECONDS_PER_DAY) * SECONDS_PER_DAY
    (
        rows.withColumn(_DAY, sql.date_format(sql.timestamp_seconds(seconds), "yyyy-MM-dd"))
        .repartition(partitions, _DAY)
        .sortWithinPartitions(_DAY, *LOG_ORDER)
        .write.partitionBy(_DAY)
        .option("maxRecordsPerFile", 0)  # whatever the cluster's default is
        .option("compression", "zstd")
        .parquet(address_of(out))
    )


def move_days(written: Path, out: Path, name: str) -> None:
    """Move the one file of each day to `out/day=YYYY-MM-DD/name`."""
    for directory in sorted(written.glob(f"{_DAY}=*")):
        target = out / directory.name.removeprefix("_")
        target.mkdir()
        only_file(directory).rename(target / name)


def only_file(directory: Path) -> Path:
    """The file that a job has written into a directory.

    Raises:
        ServerError: there are more, or none.
    """
    found = list(directory.glob("*.parquet"))
    if len(found) != 1:
        raise ServerError(
            f"Spark wrote {len(found)} files into '{directory}' instead of one.",
            hint="Look for what splits files in Spark's configuration.",
        )
    return found[0]
