"""PySpark `local[2]`: native columns and SQL functions only, no Python in the rows.

Cleaning: text lines split once, `try_cast` instead of regular expressions, rejections counted by an
`Observation` in the same pass, `dropDuplicates` over all input, Parquet by day. Features: a
terminal's windows are differences of growing frames, because Spark adds a sliding frame up anew
at every row; a customer's frames are short, so they slide. The result of a measured run goes to
Spark's `noop` sink: computed, not written. Two shuffle partitions for two cores; code generation
and the JIT are warm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.ours import FEATURES

_DAY, _DELAY = 86_400, 7 * 86_400
_WINDOWS = (1, 7, 30)


def session() -> Any:
    """A session on two cores, the one of this process."""
    from pyspark.sql import SparkSession  # noqa: PLC0415  only in the process that runs it

    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "6g")
    settings = {
        "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.sql.ansi.enabled": "false",
        "spark.sql.session.timeZone": "UTC", "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",
    }  # fmt: skip
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def clean(raw: Path, out: Path) -> dict[str, Any]:
    """Text to Parquet by day."""
    from pyspark.sql import Observation  # noqa: PLC0415
    from pyspark.sql import functions as f  # noqa: PLC0415

    counted_reasons, frame = with_reason(typed(session().read.text(str(raw))))
    seen, kept = Observation("seen"), Observation("kept")
    counts = [f.count(f.when(f.col("reason") == name, 1)).alias(name) for name in counted_reasons]
    counted = frame.observe(seen, f.count(f.when(f.col("reason").isNull(), 1)).alias("fine"), *counts)
    fine = counted.filter("reason IS NULL").select(
        "transaction_id", "event_time_seconds", "customer_key", "terminal_key", "amount_minor", "is_fraud",
        f.expr("date_from_unix_date(cast(event_time_seconds div 86400 as int))").alias("day"),
    )  # fmt: skip
    unique = fine.dropDuplicates(["transaction_id"]).observe(kept, f.count(f.lit(1)).alias("rows"))
    unique.write.partitionBy("day").parquet(str(out))
    found, rows = dict(seen.get), kept.get["rows"]
    rejected = {name: count for name in counted_reasons if (count := found[name])}
    return {"rows_clean": rows, **rejected, "duplicate": found["fine"] - rows}


def typed(lines: Any) -> Any:
    """Lines, without headers, with their fields in their types, null where a field has another; one pass, no patterns."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    part = f.split("value", ",")
    names = ("id", "moment", "customer", "terminal", "amount", "elapsed", "days", "fraud", "scenario")
    fields = lines.filter(~f.col("value").startswith("#")).select(
        "*", f.size(part).alias("size"), *(part.getItem(i).alias(name) for i, name in enumerate(names))
    )
    return fields.select(
        *lines.columns, "size", "id", "moment", "customer", "terminal", "amount",
        _as("id", "bigint", "transaction_id"),
        f.unix_timestamp(f.try_to_timestamp("moment", f.lit("yyyy-MM-dd HH:mm:ss"))).alias(
            "event_time_seconds"
        ),
        _as("customer", "bigint", "customer_key"),
        _as("terminal", "bigint", "terminal_key"),
        f.round(f.expr("try_cast(amount as double)") * 100).cast("bigint").alias("amount_minor"),
        _as("elapsed", "bigint", "elapsed"),
        _as("fraud", "tinyint", "is_fraud"),
        _as("scenario", "tinyint", "scenario"),
    )  # fmt: skip


def _as(column: str, kind: str, name: str) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    return f.expr(f"try_cast({column} as {kind})").alias(name)


def with_reason(rows: Any) -> tuple[list[str], Any]:
    """All reasons in the order of precedence, and the rows with theirs, null for good ones."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    known = _reason(f)
    column = f.lit(None).cast("string")
    for name, condition in reversed(known):
        column = f.when(condition, name).otherwise(column)
    return [name for name, _ in known], rows.withColumn("reason", column)


def _reason(f: Any) -> list[tuple[str, Any]]:
    """(reason, where it holds) in the order of precedence."""
    blank = [(f"missing_field:{name}", f.col(column) == "") for column, name in (
        ("id", "transaction_id"), ("moment", "tx_datetime"), ("customer", "customer_id"),
        ("terminal", "terminal_id"), ("amount", "tx_amount"))]  # fmt: skip
    listed = f.col("terminal").isin("Err", "None")
    real_day = f.try_to_timestamp(f.substring("moment", 1, 10), f.lit("yyyy-MM-dd")).isNotNull()
    shaped = f.col("moment").rlike("^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")
    no_time = f.col("event_time_seconds").isNull()
    return [
        ("wrong_field_count", f.col("size") != 9), *blank,
        ("not_an_integer:transaction_id", f.col("transaction_id").isNull()),
        ("not_an_integer:customer_id", f.col("customer_key").isNull()),
        ("not_an_integer:terminal_id", f.col("terminal_key").isNull() & ~listed),
        ("not_a_number:tx_amount", f.col("amount_minor").isNull()),
        ("not_a_time:tx_datetime", no_time & ~shaped),
        ("out_of_range:tx_amount", f.col("amount_minor") < 0),
        ("unknown_entity:customer_id", f.col("customer") == "-999999"),
        ("unknown_entity:terminal_id", listed),
        ("hour_24:tx_datetime", no_time & real_day & f.col("moment").endswith(" 24:00:00")),
        ("impossible_time:tx_datetime", no_time),
    ]  # fmt: skip


def features(clean: Path, out: Path) -> dict[str, Any]:
    """The 15 features to the `noop` sink."""
    from pyspark.sql import Observation  # noqa: PLC0415
    from pyspark.sql import functions as f  # noqa: PLC0415

    observed = Observation("rows")
    frame = _features(clean).observe(observed, f.count(f.lit(1)).alias("rows"))
    frame.write.format("noop").mode("overwrite").save()
    return {"rows": observed.get["rows"]}


def features_checked(clean: Path, out: Path) -> dict[str, Any]:
    """The same as Parquet, then once more as it is measured."""
    _features(clean).write.parquet(str(out))
    return features(clean, out)


def _features(clean: Path) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415
    from pyspark.sql.window import Window  # noqa: PLC0415

    rows = session().read.option("basePath", str(clean)).parquet(str(clean / "day=*")).select(
        "transaction_id", "event_time_seconds", "customer_key", "terminal_key", "amount_minor", "is_fraud"
    )  # fmt: skip
    seconds = f.col("event_time_seconds")
    customer = Window.partitionBy("customer_key").orderBy(seconds)
    terminal = Window.partitionBy("terminal_key").orderBy(seconds)
    columns = [
        (f.col("amount_minor") / 100).alias("amount"),
        ((seconds / _DAY).cast("bigint") + 3).alias("day_number"),
        (seconds % _DAY < 7 * 3_600).cast("int").alias("is_night"),
    ]
    for days in _WINDOWS:
        frame = customer.rangeBetween(1 - days * _DAY, 0)
        columns.append(f.count(f.lit(1)).over(frame).alias(f"customer_payments_{days}d"))
        columns.append((f.sum("amount_minor").over(frame) / 100).alias(f"sum_{days}d"))
    for days in (0, *_WINDOWS):
        frame = terminal.rangeBetween(Window.unboundedPreceding, -(_DELAY + days * _DAY))
        columns.append(f.count(f.lit(1)).over(frame).alias(f"known_{days}"))
        columns.append(f.coalesce(f.sum("is_fraud").over(frame), f.lit(0)).alias(f"frauds_{days}"))
    wide = rows.select("transaction_id", *columns)
    final = [
        f.col("amount"),
        (f.col("day_number") % 7 >= 5).cast("int").alias("is_weekend"),
        f.col("is_night"),
    ]
    for days in _WINDOWS:
        known = f.col("known_0") - f.col(f"known_{days}")
        frauds = f.col("frauds_0") - f.col(f"frauds_{days}")
        final += [
            f.col(f"customer_payments_{days}d"),
            (f.col(f"sum_{days}d") / f.col(f"customer_payments_{days}d")).alias(f"customer_average_{days}d"),
            known.alias(f"terminal_known_{days}d"),
            f.coalesce(frauds / f.nullif(known, f.lit(0)), f.lit(0.0)).alias(f"terminal_share_{days}d"),
        ]
    return wide.select("transaction_id", *final).select("transaction_id", *FEATURES)
