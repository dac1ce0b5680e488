"""A Spark session that fits: versions are checked on the driver and on every executor before any work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from zaslon.adapters.cluster.hadoop.failures import known_cause
from zaslon.adapters.cluster.spark.software import Software
from zaslon.domain import errors
from zaslon.domain.errors import ServerError, ZaslonError

# Which Java a version of Spark names as its own; `docs/guides/cluster.md` says which pairs were tried.
_JAVA_OF_SPARK = {"3.5": (11, 17), "4.0": (17, 21), "4.1": (17, 21)}
_ROWS_OF_BATCH = 1 << 16
_LOOPBACK = "127.0.0.1"


@contextmanager
def spark_session(master: str | None, driver_memory: str, jars: Path | None) -> Iterator[SparkSession]:
    """A session whose machines run what they must; it ends with the block.

    Args:
        master, driver_memory: of Spark.
        jars: a folder with jars that it lacks, and that it brings to its executors.

    Raises:
        ServerError: no session could be had, or an executor has no Zaslon, or other versions of it, of Python or
            of libraries.
        ZaslonError: the versions of Spark and Java do not fit.
    """
    session = _started(master, _options(master, driver_memory) | _jars(jars))
    try:
        _check_java(session)
        _check_executors(session)
        yield session
    finally:
        session.stop()


def _started(master: str | None, options: Mapping[str, str]) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 on the executors' path
    builder: Any = SparkSession.builder.appName("zaslon")
    for name, value in options.items():
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


def _jars(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    found = sorted(str(path.resolve()) for path in folder.glob("*.jar"))
    if not found:
        raise ZaslonError(
            f"'{folder}' (ZASLON_SPARK_JARS) holds no jars.",
            hint="docs/guides/cluster.md says how to fetch them.",
        )
    return {"spark.jars": ",".join(found)}


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
    """Ask as many tasks as there are cores whether they run what we do; every task of a job asks again."""
    context, own = session.sparkContext, Software.here()
    tasks = context.defaultParallelism
    try:
        with job("asked the executors what they run"):
            context.parallelize(range(tasks), tasks).foreach(_Check(own))
    except ServerError as error:
        raise _without_zaslon(error) from error


@dataclass(frozen=True)
class _Check:
    own: Software

    def __call__(self, _: int) -> None:
        self.own.check_here()


def _without_zaslon(error: ServerError) -> ServerError:
    if "No module named" not in str(error.__cause__):
        return error
    return ServerError(
        "The executors of Spark have no Zaslon, or not the Python that has it.",
        hint="Ship this environment to the cluster: docs/guides/cluster.md says how.",
    )


@contextmanager
def job(what: str) -> Iterator[None]:
    """Errors of a Spark job as one sentence; our own errors inside tasks come out as what they are there.

    Raises:
        ZaslonError: a task raised it.
        ServerError: Spark gave up for another reason.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
            raise
        raise _of_a_task(str(error)) or _of_spark(what, error) from error


def _of_spark(what: str, error: Exception) -> ServerError:
    reason, hint = known_cause(str(error)) or (_first_line(error), "Look at Spark's own log of the job.")
    return ServerError(f"Spark gave up while it {what}: {reason}.", hint=hint)


def _of_a_task(text: str) -> ZaslonError | None:
    """Our own error that ended a task, by the last line of its traceback."""
    found = re.search(r"^\s*zaslon\.domain\.errors\.(\w+): (.+)$", text, re.MULTILINE)
    kind = getattr(errors, found[1], None) if found else None
    return None if found is None or kind is None else kind(found[2].strip())


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__).rstrip(".")
