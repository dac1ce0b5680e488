"""A real HDFS on loopback: a NameNode and a DataNode as processes of their own, from Maven's jars."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from tests.waiting import DEADLINE_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / ".hadoop" / "jars"
POM = ROOT / "deploy" / "hadoop" / "pom.xml"
USER = "hdfs"  # who starts the NameNode is its superuser
_NODE = "org.apache.hadoop.hdfs.server."
_LOGGING = (
    "log4j.rootLogger=INFO,err\nlog4j.appender.err=org.apache.log4j.ConsoleAppender\n"
    "log4j.appender.err.target=System.err\nlog4j.appender.err.layout=org.apache.log4j.PatternLayout\n"
    "log4j.appender.err.layout.ConversionPattern=%d %p %c{1}: %m%n\n"
)


class LocalHdfs:
    """One HDFS with all that it has below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.configuration = directory, directory / "conf"
        self._rpc, self._http, *self._data_node = _free_ports(5)
        self._processes: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def missing_tool() -> str | None:
        """Why it cannot be started on this machine; None if it can."""
        missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
        return f"HDFS needs `{missing[0]}`, which is not on the PATH" if missing else None

    @property
    def authority(self) -> str:
        """`host:port` of the NameNode, as in an address."""
        return f"127.0.0.1:{self._rpc}"

    @property
    def address(self) -> str:
        """`hdfs://host:port`."""
        return f"hdfs://{self.authority}"

    @property
    def web(self) -> str:
        """`host:port` of WebHDFS."""
        return f"127.0.0.1:{self._http}"

    @property
    def environment(self) -> dict[str, str]:
        """With which a client of Hadoop reaches it."""
        return {"HADOOP_CONF_DIR": str(self.configuration), "HADOOP_USER_NAME": USER}

    @property
    def files(self) -> Any:
        """Its files for a test to read and write."""
        return fsspec.filesystem(
            "webhdfs", host="127.0.0.1", port=self._http, user=USER, skip_instance_cache=True
        )

    def start(self) -> None:
        """Format it, start both, and wait until files can be written."""
        fetch_jars()
        self._configure()
        done = subprocess.run(
            [*self._java, f"{_NODE}namenode.NameNode", "-format", "-nonInteractive"],
            capture_output=True, text=True, check=False, env=self._java_environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1_500:]
        for name in ("namenode.NameNode", "datanode.DataNode"):
            self._processes.append(self._run(_NODE + name, self.directory / f"{name}.log"))
        until(lambda: self._has_ended() or self._is_ready(), self._logs, look_seconds=0.1)
        assert not self._has_ended(), self._logs()

    def kill(self) -> None:
        """`kill -9` of both."""
        for process in self._processes:
            process.kill()
            process.wait(DEADLINE_SECONDS)

    @property
    def _java(self) -> list[str]:
        return [
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", f"{self.configuration}:{JARS}/*",
        ]  # fmt: skip

    @property
    def _java_environment(self) -> dict[str, str]:
        return os.environ | {"HADOOP_USER_NAME": USER}

    def _run(self, main_class: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(
                [*self._java, main_class], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=self._java_environment,
            )  # fmt: skip

    def _configure(self) -> None:
        for pages in ("hdfs", "datanode"):  # the jar lacks these folders, without which a node does not start
            (self.configuration / "webapps" / pages).mkdir(parents=True)
        data, data_http, data_ipc = self._data_node
        _write(
            self.configuration / "core-site.xml",
            {"fs.defaultFS": self.address, "hadoop.tmp.dir": self.directory / "tmp"},
        )
        _write(
            self.configuration / "hdfs-site.xml",
            {
                "dfs.namenode.rpc-address": self.authority, "dfs.namenode.http-address": self.web,
                "dfs.namenode.name.dir": f"file://{self.directory}/name",
                "dfs.datanode.data.dir": f"file://{self.directory}/data",
                "dfs.datanode.address": f"127.0.0.1:{data}", "dfs.datanode.http.address": f"127.0.0.1:{data_http}",
                "dfs.datanode.ipc.address": f"127.0.0.1:{data_ipc}", "dfs.datanode.hostname": "127.0.0.1",
                "dfs.replication": 1, "dfs.blocksize": 8 << 20, "dfs.namenode.fs-limits.min-block-size": 1 << 20,
                "dfs.namenode.datanode.registration.ip-hostname-check": "false",
                # Out of safe mode at once, and heard of the DataNode soon.
                "dfs.namenode.safemode.extension": 0, "dfs.heartbeat.interval": 1,
            },
        )  # fmt: skip
        (self.configuration / "log4j.properties").write_text(_LOGGING)

    def _is_ready(self) -> bool:
        url = f"http://{self.web}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                (state,) = json.load(response)["beans"]
        except (OSError, ValueError):
            return False
        return (state.get("NumLiveDataNodes"), state.get("FSState")) == (1, "Operational")

    def _has_ended(self) -> bool:
        return any(process.poll() is not None for process in self._processes)

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-1_500:] for path in sorted(self.directory.glob("*.log")))


def fetch_jars() -> Path:
    """The folder of the jars; Maven fetches them once."""
    mark = JARS / "complete"
    if not mark.exists() or mark.read_text() != POM.read_text():
        shutil.rmtree(JARS, ignore_errors=True)
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime",
             f"-DoutputDirectory={JARS}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"Maven could not fetch Hadoop: {(done.stdout + done.stderr)[-800:]}"
        mark.write_text(POM.read_text())
    return JARS


def _write(path: Path, values: Mapping[str, object]) -> None:
    properties = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items()
    )
    path.write_text(f"<configuration>{properties}</configuration>")


def _free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
