"""The two ways to clean and to make features in Spark, each in a process with a session of its own.

Both have the session that the product starts, on `local[N]`, and write the same files: a day is one file in log order.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Self

from benchmarks.speed.native_cleaning import clean_days as native_clean_days
from benchmarks.speed.native_features import LABEL_DELAY_SECONDS, compared_catalogue, with_features
from benchmarks.speed.process_tree import ProcessTree

from zaslon.adapters.cluster.spark.cluster import SparkCluster
from zaslon.adapters.cluster.spark.output import address_of, move_days, write_by_day
from zaslon.adapters.cluster.spark.session import spark_session
from zaslon.domain.catalogue import load_catalogue

if TYPE_CHECKING:  # it needs what only S3 and HDFS need
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess

ARRIVED_SECONDS = 1_800_000_000
_CHUNK_BYTES = 32 << 20
Work = Callable[[Any, int, Sequence[str], Path], dict[str, int]]  # session, partitions, inputs, output


def clean(session: Any, partitions: int, sources: Sequence[str], out: Path) -> dict[str, int]:
    """Ours: `zaslon clean --engine spark`."""
    report = SparkCluster(session, partitions, _nothing_foreign).clean(
        sources, out, load_catalogue(), key=b"benchmark", arrival_time_seconds=ARRIVED_SECONDS,
        chunk_bytes=_CHUNK_BYTES,
    )  # fmt: skip
    return dict(report.rows_rejected)


def features(session: Any, partitions: int, days: Sequence[str], out: Path) -> dict[str, int]:
    """Ours: `zaslon features --engine spark`."""
    SparkCluster(session, partitions, _nothing_foreign).write_features(
        compared_catalogue(), [Path(day) for day in days], out, label_delay_seconds=LABEL_DELAY_SECONDS
    )
    return {}


def native_clean(session: Any, partitions: int, sources: Sequence[str], out: Path) -> dict[str, int]:
    """Spark SQL."""
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))
    rejected = native_clean_days(session, sources, out, partitions)
    move_days(out / "days", out, "part-0.parquet")
    return rejected


def native_features(session: Any, partitions: int, days: Sequence[str], out: Path) -> dict[str, int]:
    """Spark SQL."""
    session.conf.set("spark.sql.shuffle.partitions", str(partitions))
    rows = with_features(session.read.parquet(*(address_of(Path(day)) for day in days)))
    write_by_day(rows, address_of(out / "days"), partitions)
    move_days(out / "days", out, "part-00000.parquet")
    return {}


def _nothing_foreign() -> StorageAccess:
    raise AssertionError("all inputs are local")


WORK: Mapping[str, Work] = {
    "clean": clean, "features": features, "native_clean": native_clean, "native_features": native_features,
}  # fmt: skip


@dataclass
class Turn:
    """What one run cost.

    Attributes:
        cpu_seconds: by program, `java` and `python`.
        seconds: of the clock.
        found: what the work returned.
    """

    cpu_seconds: dict[str, float]
    seconds: float
    found: dict[str, int]
    peak_mib: dict[str, int] = field(default_factory=dict)

    @property
    def cpu(self) -> float:
        """All of it."""
        return sum(self.cpu_seconds.values())


class SparkProcess:
    """A process with a session, from `with` to its end; it does the work it is asked for.

    Args:
        directory: for Spark's log of events and its temporary files.
        cores: of `local[N]`.
        partitions: of each exchange.
        memory: of the JVM, as `2g`.
    """

    def __init__(self, directory: Path, cores: int, partitions: int, memory: str) -> None:
        self._events = directory / "events"
        self._events.mkdir(parents=True)
        (directory / "spark-defaults.conf").write_text(
            f"spark.eventLog.enabled true\nspark.eventLog.dir {address_of(self._events)}\n"
            f"spark.local.dir {directory}/local\n"
        )
        self._ask, answer = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_serve, args=(answer, str(directory), cores, partitions, memory)
        )

    def __enter__(self) -> Self:
        self._process.start()
        assert self._process.pid is not None
        self._tree = ProcessTree(self._process.pid).__enter__()
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # it has ended by itself
            self._ask.send(None)
        self._process.join(60)
        self._tree.__exit__()

    def turn(self, work: str, inputs: Sequence[str], out: Path) -> Turn:
        """Do a piece of work once, into an empty `out`."""
        rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        self._events_before = len(self._all_events())
        before, begin = self._tree.cpu_seconds(), time.perf_counter()
        self._ask.send((work, list(inputs), str(out)))
        found = self._answer()
        seconds, after = time.perf_counter() - begin, self._tree.cpu_seconds()
        spent = {program: after[program] - before[program] for program in after}
        return Turn(spent, seconds, found, self._tree.peak_mib())

    def _answer(self) -> dict[str, int]:
        answer = self._ask.recv()
        if isinstance(answer, BaseException):
            raise answer
        found: dict[str, int] = answer
        return found

    def events_of_turn(self) -> list[dict[str, Any]]:
        """Spark's own log of the last turn."""
        return self._all_events()[self._events_before :]

    def _all_events(self) -> list[dict[str, Any]]:
        (path,) = self._events.iterdir()
        return [json.loads(line) for line in path.read_text().splitlines()]


def _serve(requests: Connection, directory: str, cores: int, partitions: int, memory: str) -> None:
    os.environ |= {"SPARK_CONF_DIR": directory, "SPARK_LOCAL_IP": "127.0.0.1"}
    try:
        with spark_session(f"local[{cores}]", memory, None) as session:
            session.sparkContext.setLogLevel("ERROR")
            requests.send({})
            while request := requests.recv():
                work, inputs, out = request
                requests.send(WORK[work](session, partitions, inputs, Path(out)))
    except Exception as error:  # noqa: BLE001  whoever asked raises it
        requests.send(RuntimeError(f"{type(error).__name__}: {error}"))
