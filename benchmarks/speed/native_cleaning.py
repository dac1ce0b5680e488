"""The mission's cleaning as a Spark SQL job: clean days in log order, and a quarantine with reasons and bytes.

Lines are parsed once and kept by Spark, as three queries need them: which ids come again, the clean days and the
quarantine. Only rows of such ids meet in a window; all others go straight to their day.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.native_spark import typed, with_reason
from benchmarks.speed.spark_results import CLEAN_COLUMNS

from zaslon.adapters.cluster.spark.output import address_of, write_by_day
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.time import SECONDS_PER_DAY, parse_day

_CONTENT = ("event_time_seconds", "customer_key", "terminal_key", "amount_minor")


def clean_days(session: Any, sources: Sequence[str], out: Path, partitions: int) -> dict[str, int]:
    """Write `out/days` and `out/quarantine`; returns the rejected rows by reason."""
    from pyspark import StorageLevel  # noqa: PLC0415  only in the process that runs it
    from pyspark.sql import functions as f  # noqa: PLC0415

    rows = _with_flags(with_reason(typed(_lines(session, sources)))[1]).persist(StorageLevel.DISK_ONLY)
    good = rows.filter("reason IS NULL")
    again = good.groupBy("transaction_id").count().filter("count > 1").select("transaction_id").persist()
    settled = _settled(good.join(f.broadcast(again), "transaction_id", "left_semi")).persist()
    alone = good.join(f.broadcast(again), "transaction_id", "left_anti")
    clean = alone.select(*CLEAN_COLUMNS).union(settled.filter("reason IS NULL").select(*CLEAN_COLUMNS))
    write_by_day(clean, address_of(out / "days"), partitions)
    names = ("file_path", "reason", "value")
    rejected = rows.filter("reason IS NOT NULL").select(*names).union(
        settled.filter("reason IS NOT NULL").select(*names)
    ).persist()  # fmt: skip
    rejected.repartition(1).sortWithinPartitions("file_path", "reason").write.parquet(str(out / "quarantine"))
    counts = {row["reason"]: row["count"] for row in rejected.groupBy("reason").count().collect()}
    for kept in (rows, again, settled, rejected):
        kept.unpersist()
    return counts


def _lines(session: Any, sources: Sequence[str]) -> Any:
    """Lines with their place: the file, the part of it, and the line's number there."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    return session.read.text(list(sources)).select(
        "value",
        f.col("_metadata.file_path").alias("file_path"),
        f.col("_metadata.file_block_start").alias("block"),
        f.monotonically_increasing_id().alias("line"),
    )


def _with_flags(rows: Any) -> Any:
    """What is odd but possible, as the bits of the catalogue."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    begins = f.col("event_time_seconds") - f.col("elapsed")
    agrees = begins.isin(*(parse_day(day) * SECONDS_PER_DAY for day in ("2019-08-22", "2018-04-01")))
    odd = {
        "amount_zero": f.col("amount_minor") == 0,
        "elapsed_disagrees": ~f.coalesce(agrees, f.lit(True)),
        "terminal_id_unusual": f.col("terminal_key") > 9_999,
    }
    flags = f.lit(0)
    for bit, name in enumerate(load_catalogue().flag_names):
        if name in odd:
            flags = flags + f.when(odd[name], 1 << bit).otherwise(0)
    return rows.withColumn("flags", flags).drop(
        "size", "id", "moment", "customer", "terminal", "amount", "elapsed"
    )


def _settled(rows: Any) -> Any:
    """Of rows with one id the first stays, with the last answer that came with its content."""
    from pyspark.sql import functions as f  # noqa: PLC0415
    from pyspark.sql.window import Window  # noqa: PLC0415

    place = Window.partitionBy("transaction_id").orderBy("file_path", "block", "line")
    whole = place.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    content = f.struct(*_CONTENT)
    first = rows.withColumns(
        {"number": f.row_number().over(place), "same": content == f.first(content).over(whole)}
    )
    answer = f.when(f.col("same") & (f.col("is_fraud") >= 0), f.struct("is_fraud", "scenario"))
    with_answer = first.withColumn("answer", f.last(answer, ignorenulls=True).over(whole))
    repeat = f.when(f.col("same"), "duplicate").otherwise("conflicting_duplicate")
    return with_answer.withColumns(
        {
            "reason": f.when(f.col("number") > 1, repeat),
            "is_fraud": f.coalesce("answer.is_fraud", "is_fraud"),
            "scenario": f.when(
                f.col("answer.is_fraud") != f.col("is_fraud"), f.col("answer.scenario")
            ).otherwise(f.col("scenario")),
        }
    )
