"""Days as Spark writes them: one file a day, in the order of the log."""

from __future__ import annotations

import re
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as sql

from zaslon.domain.errors import ServerError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.staging import LOG_ORDER

_DAY, _OTHER_DAY = "day", "_day"  # no field of a catalogue can have the other name


def address_of(path: Path) -> str:
    """A local path as Hadoop reads it: it undoes no percent signs, and takes signs of patterns for such."""
    return "file://" + re.sub(r"([\\\[\]{}*?])", r"\\\1", str(path.resolve()))


def place_of(path: Path | str) -> str:
    """What Hadoop takes for a local path; for an address of S3 or HDFS, itself."""
    return path if isinstance(path, str) else address_of(path)


def write_by_day(rows: DataFrame, out: str, partitions: int) -> None:
    """Write `out/day=YYYY-MM-DD/*.parquet`; rows have `event_time_seconds` and `transaction_id`.

    `_day` is in the place of `day`, where that is a column of the rows. `out` is as Hadoop takes it.
    """
    day = _OTHER_DAY if _DAY in rows.columns else _DAY
    seconds = sql.floor(sql.col("event_time_seconds") / SECONDS_PER_DAY) * SECONDS_PER_DAY
    (
        rows.withColumn(day, sql.date_format(sql.timestamp_seconds(seconds), "yyyy-MM-dd"))
        .repartition(partitions, day)
        .sortWithinPartitions(day, *LOG_ORDER)
        .write.partitionBy(day)
        .option("maxRecordsPerFile", 0)  # whatever the cluster's default is
        .option("compression", "zstd")
        .parquet(out)
    )


def move_days(written: Path, out: Path, name: str) -> None:
    """Move the one file of each day to `out/day=YYYY-MM-DD/name`."""
    for directory in sorted(written.glob(f"*{_DAY}=*")):
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
