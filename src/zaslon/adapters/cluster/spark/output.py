"""Days as Spark writes them: one file a day, in the order of the log."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as sql

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.staging import LOG_ORDER

_DAY = "day"


def address_of(path: Path) -> str:
    """A local path as Hadoop reads it: it undoes no percent signs."""
    return f"file://{path.resolve()}"


def write_by_day(rows: DataFrame, out: Path, partitions: int) -> None:
    """Write `out/day=YYYY-MM-DD/*.parquet`; rows have `event_time_seconds` and `transaction_id`."""
    seconds = sql.floor(sql.col("event_time_seconds") / SECONDS_PER_DAY) * SECONDS_PER_DAY
    (
        rows.withColumn(_DAY, sql.date_format(sql.timestamp_seconds(seconds), "yyyy-MM-dd"))
        .repartition(partitions, _DAY)
        .sortWithinPartitions(_DAY, *LOG_ORDER)
        .write.partitionBy(_DAY)
        .option("compression", "zstd")
        .parquet(address_of(out))
    )


def move_days(written: Path, out: Path, name: str) -> None:
    """Move `written/day=…/*.parquet` to `out/day=…/`, where `name` numbers the files of a day (`part-{:05d}.parquet`)."""
    for directory in sorted(written.glob(f"{_DAY}=*")):
        target = out / directory.name
        target.mkdir()
        for number, path in enumerate(sorted(directory.glob("*.parquet"))):
            path.rename(target / name.format(number))
