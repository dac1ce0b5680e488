"""Features of clean days in Spark: exchange by entity, the kernel of each, and the days written.

1. read clean days
2. for each entity: exchange rows by its key, sort by log order, compute its columns    entity_columns
3. exchange by day, sort, write one file a day
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql
from pyspark.sql.pandas.types import from_arrow_schema

from zaslon.adapters.cluster.spark.entity_columns import (
    FEATURES,
    EntityColumns,
    feature_schema,
    row_schema,
)
from zaslon.adapters.cluster.spark.output import write_by_day
from zaslon.adapters.cluster.spark.session import job
from zaslon.adapters.cluster.spark.software import Software
from zaslon.domain.catalogue import Catalogue
from zaslon.features.plan import plan_features
from zaslon.intake.staging import LOG_ORDER


def write_features(
    session: SparkSession, catalogue: Catalogue, days: Sequence[str], out: str, *,
    label_delay_seconds: int, partitions: int, seed: int,
) -> None:  # fmt: skip
    """Write `out/day=YYYY-MM-DD/*.parquet`, one file a day, in log order.

    Args:
        days: files of the clean days, which every executor can read, as Hadoop takes them.
        out: a directory that every executor can write, likewise.
        label_delay_seconds: when the answers of transactions become known.
        partitions: of each exchange.
        seed: spreads keys over partitions; secret, where clients choose keys. No result depends on it.

    Raises:
        ServerError: Spark gave up.
    """
    plan = plan_features(catalogue)
    with job("computed features"):
        rows = _clean_rows(session, catalogue, days)
    software = Software.here()
    for number, entity in enumerate(catalogue.entities):
        is_last = number == len(plan.entities) - 1
        schema = feature_schema(plan) if is_last else row_schema(catalogue)
        rows = (
            _exchanged(rows, catalogue, entity, partitions, seed)
            .sortWithinPartitions(*LOG_ORDER)
            .mapInArrow(
                EntityColumns(catalogue, number, label_delay_seconds, software), from_arrow_schema(schema)
            )
        )
    with job("computed features"):
        write_by_day(rows, out, partitions)


def count_rows(session: SparkSession, days: Sequence[str], remember_seconds: int) -> tuple[int, int]:
    """How many clean rows there are, and how many a log of them still knows at its end."""
    with job("counted rows"):
        times = session.read.parquet(*days).select("event_time_seconds")
        newest = times.agg(sql.max("event_time_seconds")).first()[0]
        known = sql.col("event_time_seconds") > (newest or 0) - remember_seconds
        counted = times.agg(sql.count("*"), sql.count(sql.when(known, 1))).first()
    return int(counted[0]), int(counted[1])


def _clean_rows(session: SparkSession, catalogue: Catalogue, days: Sequence[str]) -> DataFrame:
    found = session.read.parquet(*days)
    schema = row_schema(catalogue)
    columns = [
        sql.col(name).cast(from_arrow_schema(pa.schema([schema.field(name)]))[name].dataType).alias(name)
        for name in schema.names
        if name != FEATURES
    ]
    return found.select(*columns, sql.lit(b"").alias(FEATURES))


def _exchanged(rows: DataFrame, catalogue: Catalogue, entity: str, partitions: int, seed: int) -> DataFrame:
    """All rows of a key in one partition; rows without a key anywhere."""
    identifier = "transaction_key" if catalogue.has_text_ids else "transaction_id"
    key = sql.coalesce(f"{entity}_key", identifier)
    return rows.repartition(partitions, sql.xxhash64(sql.lit(seed), key))
