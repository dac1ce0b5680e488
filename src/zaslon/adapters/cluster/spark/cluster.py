"""Spark as the cluster of the flows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from zaslon.adapters.cluster.spark.clean_job import CleanJob
from zaslon.adapters.cluster.spark.features_job import count_rows, write_features
from zaslon.adapters.cluster.spark.output import address_of, move_days, only_file, place_of
from zaslon.adapters.cluster.spark.session import spark_session
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport
from zaslon.domain.time import parse_duration_seconds
from zaslon.intake.quarantine import QUARANTINE
from zaslon.ports.cluster_tables import DAYS, NewTable, TableManifest
from zaslon.ports.cluster_tables import QUARANTINE as REJECTED_ROWS
from zaslon.system.opening import is_on_cluster

if TYPE_CHECKING:  # what it needs only S3 and HDFS need
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess

_PARTITIONS_PER_CORE = 4
# A session's jobs write here; what is complete moves to its place, and the rest goes with the directory.
_WRITING = ".spark"


class SparkCluster:
    """`zaslon.ports.clusters.Cluster` on a session of Spark.

    Args:
        session: of Spark.
        partitions: of an exchange; 0 for four for each core of the cluster.
        reach: gives what tasks reach S3 and HDFS with; called where a source is there.
    """

    def __init__(self, session: SparkSession, partitions: int, reach: Callable[[], StorageAccess]) -> None:
        self._session, self._reach = session, reach
        self._partitions = partitions or _PARTITIONS_PER_CORE * session.sparkContext.defaultParallelism
        self._seed = secrets.randbits(63)

    def clean(
        self, sources: Sequence[str], building: Path | str, catalogue: Catalogue, *,
        key: bytes, arrival_time_seconds: int, chunk_bytes: int,
    ) -> CleanReport:  # fmt: skip
        """Write clean days and the quarantine into `building` (see the port)."""
        clean_job = CleanJob(
            self._session, catalogue, sources, key=key, arrival_time_seconds=arrival_time_seconds,
            chunk_bytes=chunk_bytes, partitions=self._partitions, seed=self._seed,
            access=self._reach() if any(map(is_on_cluster, sources)) else None,
        )  # fmt: skip
        if isinstance(building, str):
            return clean_job.run(f"{building}/{DAYS}", f"{building}/{REJECTED_ROWS}")
        writing = building / _WRITING
        report = clean_job.run(address_of(writing / "days"), address_of(writing / "quarantine"))
        move_days(writing / "days", building, "part-0.parquet")
        only_file(writing / "quarantine").rename(building / QUARANTINE)
        shutil.rmtree(writing)
        return report

    def write_features(
        self, catalogue: Catalogue, days: Sequence[Path | str], building: Path | str, *, label_delay_seconds: int
    ) -> tuple[int, int]:  # fmt: skip
        """Write the features of clean days into `building` (see the port)."""
        places = [place_of(day) for day in days]
        out = f"{building}/{DAYS}" if isinstance(building, str) else address_of(building / _WRITING)
        write_features(
            self._session, catalogue, places, out, label_delay_seconds=label_delay_seconds,
            partitions=self._partitions, seed=self._seed,
        )  # fmt: skip
        if not isinstance(building, str):
            move_days(building / _WRITING, building, "part-00000.parquet")
            shutil.rmtree(building / _WRITING)
        return count_rows(self._session, places, parse_duration_seconds(catalogue.retention.remember))

    def new_table(self, out: str, made_by: str, now_seconds: float) -> AbstractContextManager[NewTable]:
        """A run of a table on S3 or HDFS (see the port)."""
        from zaslon.adapters.cluster.spark.foreign_tables import ForeignTables  # noqa: PLC0415  an extra

        return ForeignTables(self._session).new(out, made_by, now_seconds)

    def read_table(self, place: str, made_by: str) -> tuple[str, TableManifest]:
        """(address, manifest) of a table on S3 or HDFS (see the port)."""
        from zaslon.adapters.cluster.spark.foreign_tables import ForeignTables  # noqa: PLC0415  an extra

        return ForeignTables(self._session).read(place, made_by)


@contextmanager
def spark_cluster(
    master: str | None, partitions: int, driver_memory: str, jars: Path | None, reach: Callable[[], StorageAccess]
) -> Iterator[SparkCluster]:  # fmt: skip
    """A cluster whose machines have been checked; its session ends with the block.

    Args:
        master: `local[N]`, `spark://host:port`, `yarn`; None for what `spark-submit` or the configuration says.
        partitions: of an exchange; 0 for four for each core of the cluster.
        driver_memory: of the driver's Java process where we start it, as `2g`.
        jars: a folder with jars that Spark lacks; None for none.
        reach: as for `SparkCluster`.

    Raises:
        ServerError, ZaslonError: as `spark_session`.
    """
    with spark_session(master, driver_memory, jars) as session:
        yield SparkCluster(session, partitions, reach)
