"""Spark as the cluster of the flows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from zaslon.adapters.cluster.spark.clean_job import CleanJob
from zaslon.adapters.cluster.spark.features_job import write_features
from zaslon.adapters.cluster.spark.output import move_days, only_file
from zaslon.adapters.cluster.spark.session import spark_session
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport
from zaslon.intake.quarantine import QUARANTINE

_PARTITIONS_PER_CORE = 4
# A session's jobs write here; what is complete moves to its place, and the rest goes with the directory.
_WRITING = ".spark"


class SparkCluster:
    """`zaslon.ports.clusters.Cluster` on a session of Spark."""

    def __init__(self, session: SparkSession, partitions: int) -> None:
        self._session = session
        self._partitions = partitions or _PARTITIONS_PER_CORE * session.sparkContext.defaultParallelism
        self._seed = secrets.randbits(63)

    def clean(
        self, sources: Sequence[str], building: Path, catalogue: Catalogue, *,
        key: bytes, arrival_time_seconds: int, chunk_bytes: int,
    ) -> CleanReport:  # fmt: skip
        """Write clean days and the quarantine into `building`."""
        writing = building / _WRITING
        report = CleanJob(
            self._session, catalogue, sources, key=key, arrival_time_seconds=arrival_time_seconds,
            chunk_bytes=chunk_bytes, partitions=self._partitions, seed=self._seed,
        ).run(writing / "days", writing / "quarantine")  # fmt: skip
        move_days(writing / "days", building, "part-0.parquet")
        only_file(writing / "quarantine").rename(building / QUARANTINE)
        shutil.rmtree(writing)
        return report

    def write_features(
        self, catalogue: Catalogue, days: Sequence[Path], building: Path, *, label_delay_seconds: int
    ) -> None:
        """Write the features of clean days into `building`."""
        writing = building / _WRITING
        write_features(
            self._session, catalogue, days, writing, label_delay_seconds=label_delay_seconds,
            partitions=self._partitions, seed=self._seed,
        )  # fmt: skip
        move_days(writing, building, "part-00000.parquet")
        shutil.rmtree(writing)


@contextmanager
def spark_cluster(master: str | None, partitions: int, driver_memory: str) -> Iterator[SparkCluster]:
    """A cluster whose machines have been checked; its session ends with the block.

    Args:
        master: `local[N]`, `spark://host:port`, `yarn`; None for what `spark-submit` or the configuration says.
        partitions: of an exchange; 0 for four for each core of the cluster.
        driver_memory: of the driver's Java process where we start it, as `2g`.

    Raises:
        ServerError, ZaslonError: as `spark_session`.
    """
    with spark_session(master, driver_memory) as session:
        yield SparkCluster(session, partitions)
