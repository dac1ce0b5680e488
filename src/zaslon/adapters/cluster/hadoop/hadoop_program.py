"""Where Hadoop is: the `hadoop` of a cluster's node, or a folder of jars that runs in one Java process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zaslon.domain.errors import ZaslonError
from zaslon.system.durable import make_directory, write_file

_HEAP = "-Xmx512m"
SCRATCH = ("temporary", "staging")  # what Hadoop writes while it runs, in a directory of ours
# Hadoop's messages as its own program writes them: to standard error, the progress of the job among them.
_LOGGING = (
    "log4j.rootLogger=INFO,err\n"
    "log4j.appender.err=org.apache.log4j.ConsoleAppender\n"
    "log4j.appender.err.target=System.err\n"
    "log4j.appender.err.layout=org.apache.log4j.PatternLayout\n"
    "log4j.appender.err.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n\n"
)


@dataclass(frozen=True)
class Hadoop:
    """How DistCp is started.

    Attributes:
        command: before its arguments.
        one_process: whether it does all by itself; otherwise a cluster may do the work.
        properties: what it has to know besides.
    """

    command: tuple[str, ...]
    one_process: bool
    properties: Mapping[str, str] = field(default_factory=dict)


def find_hadoop(jars: Path | None, scratch: Path, maps: int) -> Hadoop:
    """The Hadoop of this machine.

    Args:
        jars: a folder with the jars of Hadoop and DistCp; None for the program `hadoop`.
        scratch: a directory for what the jars need while they run.
        maps: files that the jars copy at once.

    Raises:
        ZaslonError: there is none, or no Java for the jars.
    """
    if jars is not None:
        return _of_jars(jars, scratch, maps)
    home = os.environ.get("HADOOP_HOME")
    program = shutil.which("hadoop", path=f"{home}/bin" if home else None)
    if program is None:
        place = f"in HADOOP_HOME ('{home}')" if home else "on the PATH"
        raise ZaslonError(
            f"Hadoop is not {place}.",
            hint="Run this on a node of the cluster, set HADOOP_HOME, or name a folder of jars in ZASLON_HADOOP_JARS.",
        )
    return Hadoop((program, "distcp"), one_process=False)


def _of_jars(jars: Path, scratch: Path, maps: int) -> Hadoop:
    """One Java process that does all by itself, without YARN."""
    if not any(jars.glob("hadoop-distcp-*.jar")):
        raise ZaslonError(
            f"'{jars}' (ZASLON_HADOOP_JARS) holds no hadoop-distcp-….jar.",
            hint="docs/guides/cluster.md says which jars are needed.",
        )
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        raise ZaslonError(
            "Java is not found; Hadoop's jars need it.", hint="Install Java 17, or set JAVA_HOME."
        )
    make_directory(scratch)
    write_file(scratch / "log4j.properties", _LOGGING.encode())
    places = [str(scratch), *filter(None, [os.environ.get("HADOOP_CONF_DIR")]), f"{jars.resolve()}/*"]
    return Hadoop(
        (java, _HEAP, "-XX:+UseSerialGC", "--add-opens=java.base/java.lang=ALL-UNNAMED",
         "-cp", ":".join(places), "org.apache.hadoop.tools.DistCp"),
        one_process=True,
        properties={
            "mapreduce.framework.name": "local",
            "mapreduce.local.map.tasks.maximum": str(maps),
            "hadoop.tmp.dir": str(scratch.resolve() / SCRATCH[0]),
            "mapreduce.jobtracker.staging.root.dir": str(scratch.resolve() / SCRATCH[1]),
        },
    )  # fmt: skip
