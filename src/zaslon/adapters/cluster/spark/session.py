"""A Spark session that fits: versions are checked on the driver and on every executor before any work."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from zaslon import __version__
from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.engine.version import ENGINE_VERSION

# Which Java a version of Spark names as its own; `docs/guides/cluster.md` says which pairs were tried.
_JAVA_OF_SPARK = {"3.5": (11, 17), "4.0": (17, 21), "4.1": (17, 21)}
# What rows pass through on their way to a result; the same on every machine.
_LIBRARIES = ("numpy", "polars", "pyarrow")
_ROWS_OF_BATCH = 1 << 16
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Software:
    """What a machine runs: all of it has to be the same on the driver and the executors."""

    python: str
    zaslon: str
    engine: int
    libraries: tuple[tuple[str, str], ...]

    @staticmethod
    def here() -> Software:
        """Of this process."""
        python = ".".join(platform.python_version_tuple()[:2])
        return Software(
            python, __version__, ENGINE_VERSION, tuple((name, _version(name)) for name in _LIBRARIES)
        )

    def differences(self, other: Software) -> list[str]:
        """Sentences about what another machine has instead."""
        pairs = [
            ("Python", self.python, other.python),
            ("Zaslon", self.zaslon, other.zaslon),
            ("Zaslon's engine", self.engine, other.engine),
            *((name, own, dict(other.libraries).get(name)) for name, own in self.libraries),
        ]
        return [f"{what} {theirs} instead of {own}" for what, own, theirs in pairs if own != theirs]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


@contextmanager
def spark_session(master: str | None, driver_memory: str) -> Iterator[SparkSession]:
    """A session whose machines run what they must; it ends with the block.

    Raises:
        ServerError: no session could be had, or an executor has no Zaslon.
        ZaslonError: the versions of Spark, Java, Python, Zaslon or its libraries do not fit.
    """
    session = _started(master, driver_memory)
    try:
        _check_java(session)
        _check_executors(session)
        yield session
    finally:
        session.stop()


def _started(master: str | None, driver_memory: str) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 on the executors' path
    builder: Any = SparkSession.builder.appName("zaslon")
    for name, value in _options(master, driver_memory).items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise ServerError(
            f"Spark does not start on '{master or 'the configured master'}': {_first_line(error)}.",
            hint="Check --master, JAVA_HOME and that the master answers.",
        ) from error


def _options(master: str | None, driver_memory: str) -> dict[str, str]:
    options = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(_ROWS_OF_BATCH),
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": driver_memory,
    }
    if master is not None:
        options["spark.master"] = master
        if master.startswith("local") or _LOOPBACK in master:
            options |= {"spark.driver.bindAddress": _LOOPBACK, "spark.driver.host": _LOOPBACK}
            options["spark.ui.enabled"] = "false"
    return options


def _check_java(session: SparkSession) -> None:
    spark = session.version
    java = session._jvm.java.lang.System.getProperty("java.specification.version")
    fitting = _JAVA_OF_SPARK.get(".".join(spark.split(".")[:2]))
    if fitting is None:
        raise ZaslonError(
            f"Spark {spark} was not tried with this Zaslon.",
            hint=f"Use Spark {', '.join(_JAVA_OF_SPARK)}.",
        )
    if int(java) not in fitting:
        raise ZaslonError(
            f"Spark {spark} does not run on Java {java}.",
            hint=f"Set JAVA_HOME to Java {' or '.join(map(str, fitting))}.",
        )


def _check_executors(session: SparkSession) -> None:
    """Ask as many tasks as there are cores what they run on."""
    context, own = session.sparkContext, Software.here()
    tasks = context.defaultParallelism
    try:
        found = context.parallelize(range(tasks), tasks).map(_software).distinct().collect()
    except Exception as error:
        raise _without_zaslon(error) from error
    for other in found:
        differences = own.differences(other)
        if differences:
            raise ZaslonError(
                f"An executor of Spark has {'; '.join(differences)}.",
                hint="Ship this environment to the cluster: docs/guides/cluster.md says how.",
            )


def _software(_: int) -> Software:
    return Software.here()


def _without_zaslon(error: Exception) -> ServerError:
    text = str(error)
    if "ModuleNotFoundError" in text or "No module named" in text:
        return ServerError(
            "The executors of Spark have no Zaslon, or not the Python that has it.",
            hint="Ship this environment to the cluster: docs/guides/cluster.md says how.",
        )
    return ServerError(
        f"The executors of Spark do not answer: {_first_line(error)}.",
        hint="Look at Spark's own log of the job.",
    )


@contextmanager
def job(what: str) -> Iterator[None]:
    """Errors of a Spark job as one sentence; our own errors inside tasks come out as they are worded there.

    Raises:
        ServerError: Spark gave up.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
            raise
        raise ServerError(
            f"Spark gave up while it {what}: {_cause(error)}.", hint="Look at Spark's own log of the job."
        ) from error


def _cause(error: Exception) -> str:
    """The last line of the Python traceback of a task, which names what happened, or else the first line."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines()]
    with suppress(StopIteration):
        return next(line for line in lines if line.startswith("zaslon.") and ": " in line).rstrip(".")
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    ).rstrip(".")
