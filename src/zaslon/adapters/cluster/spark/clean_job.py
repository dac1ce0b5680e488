"""Cleaning in Spark: a task for each source, an exchange by id, an exchange by day.

1. clean each source                        SourceCleaning: the one cleaning function
2. reject wrong dates                       the driver, from the counts of all days
3. exchange by id, settle repeats           Settling
4. exchange by day, sort, write the days
5. find the original bytes of repeats and wrong dates, write the quarantine    Originals
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql
from pyspark.sql.pandas.types import from_arrow_schema

from zaslon.adapters.cluster.spark.output import write_by_day
from zaslon.adapters.cluster.spark.session import job
from zaslon.adapters.cluster.spark.software import Software
from zaslon.adapters.cluster.spark.source_rows import (
    CLEAN,
    COUNTED,
    KIND,
    PLACE,
    REASON,
    REJECTED,
    SUMMARY,
    Originals,
    Settling,
    SourceCleaning,
    Sources,
    Summary,
    day_columns,
    quarantine_schema,
    staged_schema,
)
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport, OverLines
from zaslon.domain.time import SECONDS_PER_DAY, day_text, parse_duration_seconds, time_text
from zaslon.intake.date_gaps import DayCounts, WrongDates

if TYPE_CHECKING:  # it needs what only S3 and HDFS need
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess


class CleanJob:
    """One run over all sources.

    Args:
        key: secret for pseudonyms, digests and exchanges; it goes to the executors.
        arrival_time_seconds: when the sources arrived.
        partitions: of each exchange.
        seed: spreads ids over partitions; secret. No result depends on it.
        access: how tasks reach S3 and HDFS; None where no source is there.
    """

    def __init__(
        self, session: SparkSession, catalogue: Catalogue, sources: Sequence[str], *,
        key: bytes, arrival_time_seconds: int, chunk_bytes: int, partitions: int, seed: int,
        access: StorageAccess | None = None,
    ) -> None:  # fmt: skip
        self._session, self._catalogue, self._sources = session, catalogue, Sources.of(sources, access)
        self._key, self._arrival, self._chunk_bytes = key, arrival_time_seconds, chunk_bytes
        self._partitions, self._seed, self._software = partitions, seed, Software.here()

    def run(self, days_out: str, quarantine_out: str) -> CleanReport:
        """Write days (see `write_by_day`) and the quarantine as one file in a directory, both as Hadoop takes them.

        Raises:
            InputError: nothing says whether dates after a gap are right.
            ServerError: Spark gave up.
        """
        with job("cleaned files"):
            staged = self._staged().persist(StorageLevel.DISK_ONLY)
            read = _summaries(staged)
            wrong = self._wrong_dates(read)
            settled = self._settled(staged, wrong).persist(StorageLevel.DISK_ONLY)
            counted = _summaries(settled)
            clean = settled.filter(sql.col(KIND) == CLEAN).select(*self._columns_of_days())
            write_by_day(clean, days_out, self._partitions)
            reasons = self._write_quarantine(staged, settled, wrong, quarantine_out)
        return self._report(read, counted, reasons)

    def _staged(self) -> DataFrame:
        """One partition for each source."""
        numbered = [(number,) for number in range(len(self._sources.addresses))]
        context = self._session.sparkContext
        sources = self._session.createDataFrame(context.parallelize(numbered, len(numbered)), "number int")
        work = SourceCleaning(
            self._catalogue, self._key, self._arrival, self._chunk_bytes, self._sources, self._software
        )
        return sources.mapInArrow(work, from_arrow_schema(staged_schema(self._catalogue)))

    def _wrong_dates(self, read: Sequence[Summary]) -> WrongDates | None:
        days = DayCounts(self._catalogue.gap_max_seconds)
        for summary in read:
            days.add_days(summary.rows_by_day)
        return days.rejected(self._catalogue, self._arrival)

    def _settled(self, staged: DataFrame, wrong: WrongDates | None) -> DataFrame:
        rows = staged.filter(sql.col(KIND) == CLEAN)
        if wrong is not None:
            rows = rows.filter(sql.col("event_time_seconds") < wrong.first_day * SECONDS_PER_DAY)
        remember = parse_duration_seconds(self._catalogue.retention.remember)
        return (
            rows.repartition(self._partitions, sql.xxhash64(sql.lit(self._seed), "transaction_id"))
            .sortWithinPartitions("order")
            .mapInArrow(Settling(self._catalogue, remember, self._software), rows.schema)
        )

    def _columns_of_days(self) -> list[str] | list[sql.Column]:
        names = day_columns(self._catalogue)
        if not self._catalogue.has_text_ids:
            return names
        staged = {"transaction_id": "transaction_text", "transaction_key": "transaction_id"}
        return [sql.col(staged.get(name, name)).alias(name) for name in names]

    def _write_quarantine(
        self, staged: DataFrame, settled: DataFrame, wrong: WrongDates | None, out: str
    ) -> Counter[str]:
        """Write the quarantine; returns what was rejected by reason for what only the whole input shows."""
        columns = quarantine_schema().names
        places = self._places(staged, settled, wrong)
        found = places.repartition(max(len(self._sources.addresses), 1), PLACE[0]).mapInArrow(
            Originals(self._catalogue, self._key, self._chunk_bytes, self._sources, wrong, self._software),
            from_arrow_schema(quarantine_schema()),
        )
        late = found.persist(StorageLevel.DISK_ONLY)
        counts = late.groupBy("reason", "field").count().collect()
        early = staged.filter(sql.col(KIND) == REJECTED).select(*(sql.col(f"_{c}").alias(c) for c in columns))
        (
            early.withColumn("late", sql.lit(0))
            .union(late.withColumn("late", sql.lit(1)))
            .repartition(1)
            .sortWithinPartitions("late", "source", "record", "offset")
            .select(*columns)
            .write.option("compression", "zstd")
            .option("maxRecordsPerFile", 0)  # whatever the cluster's default is
            .parquet(out)
        )
        return Counter(
            {f"{row.reason}:{row.field}" if row.field else row.reason: row["count"] for row in counts}
        )

    def _places(self, staged: DataFrame, settled: DataFrame, wrong: WrongDates | None) -> DataFrame:
        columns = (*PLACE, REASON, "event_time_seconds")
        repeats = settled.filter(sql.col(KIND) == REJECTED).select(*columns)
        if wrong is None:
            return repeats
        is_late = sql.col("event_time_seconds") >= wrong.first_day * SECONDS_PER_DAY
        return repeats.union(staged.filter((sql.col(KIND) == CLEAN) & is_late).select(*columns))

    def _report(self, read: Sequence[Summary], counted: Sequence[Summary], late: Counter[str]) -> CleanReport:
        reasons, over_lines, rows_by_day = Counter[str](late), OverLines(), Counter[int]()
        for summary in sorted(read, key=lambda one: one.number):
            reasons.update(summary.reasons)
            over_lines.join(summary.over_lines)
        for summary in counted:
            rows_by_day.update(summary.rows_by_day)
        flags = [sum(column) for column in zip(*(one.flags for one in counted), strict=True)]
        names = self._catalogue.flag_names
        return CleanReport(
            sum(one.rows_in for one in read), rows_by_day.total(), dict(sorted(reasons.items())),
            sum(one.answers_changed for one in counted), sum(one.headers_inside for one in read), over_lines,
            dict(zip(names, flags or [0] * len(names), strict=True)),
            [day_text(day) for day in sorted(rows_by_day)],
            list(self._sources.addresses), self._catalogue.label, self._catalogue.mapping_hash, time_text(self._arrival),
        )  # fmt: skip


def _summaries(stage: DataFrame) -> list[Summary]:
    rows = stage.filter(sql.col(KIND) == SUMMARY).select(COUNTED).collect()
    return [Summary.from_bytes(bytes(row[COUNTED])) for row in rows]
