"""A standalone Spark cluster on loopback: a master and two workers as processes of their own.

Its Python is that of `.spark/venv`, which `make cluster-test` installs from `requirements/spark.txt`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.waiting import DEADLINE_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
SPARK_PYTHON = Path(os.environ.get("ZASLON_TEST_SPARK", ROOT / ".spark" / "venv")) / "bin" / "python"


def missing_spark() -> str | None:
    """Why Spark cannot be started on this machine; None if it can."""
    if not SPARK_PYTHON.exists():
        return "Spark is not installed: make cluster-test"
    return None if shutil.which("java") else "there is no Java on the PATH"


def spark_environment(**more: str) -> dict[str, str]:
    """For a driver."""
    return {**os.environ, "PYSPARK_PYTHON": str(SPARK_PYTHON), "SPARK_LOCAL_IP": "127.0.0.1", **more}


class LocalSpark:
    """One master and two workers of one core each, with their files below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self._ui = _free_port()
        self.master = f"spark://127.0.0.1:{_free_port()}"

    def start(self) -> None:
        """Start all three, and wait until both workers are known."""
        port = self.master.rpartition(":")[2]
        self._start(
            "master",
            "deploy.master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--webui-port",
            str(self._ui),
        )
        for name in ("one", "two"):
            self._start(
                name, "deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g",
                "--webui-port", str(_free_port()), "--work-dir", str(self._directory / name / "work"), self.master,
            )  # fmt: skip
        until(lambda: self._alive_workers() == 2, self._tails, look_seconds=0.2)

    def _start(self, name: str, what: str, *arguments: str) -> None:
        place = self._directory / name
        place.mkdir()
        log = (place / "log").open("wb")
        self._logs.append(log)
        # Nothing of the test's environment: a worker of a real cluster has none of it either.
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(place), "SPARK_HOME": str(_spark_home()),
            "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m",
        }  # fmt: skip
        if "JAVA_HOME" in os.environ:
            environment["JAVA_HOME"] = os.environ["JAVA_HOME"]
        command = [str(_spark_home() / "bin" / "spark-class"), f"org.apache.spark.{what}", *arguments]
        self._processes.append(
            subprocess.Popen(
                command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        )

    def _alive_workers(self) -> int:
        assert all(process.poll() is None for process in self._processes), self._tails()
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._ui}/json/", timeout=5) as answer,
        ):
            state: Mapping[str, int] = json.load(answer)
            return state["aliveworkers"]
        return 0

    def _tails(self) -> list[str]:
        return [log.read_text("utf-8", "replace")[-1_000:] for log in self._directory.glob("*/log")]

    def kill_an_executor(self) -> None:
        """`kill -9` of one that has begun to work: the worker starts another."""
        found = until(lambda: _executors_below(self._processes), self._tails)
        os.kill(found[0], signal.SIGKILL)

    def stop(self) -> None:
        """End all of them."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(DEADLINE_SECONDS)
        for log in self._logs:
            log.close()


def _executors_below(workers: list[subprocess.Popen[bytes]]) -> list[int]:
    """Executors that have started a Python worker; they are children of the workers."""
    own = {process.pid for process in workers}
    parents: dict[int, int] = {}
    commands: dict[int, bytes] = {}
    for place in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            process = int(place.name)
            parents[process] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            commands[process] = (place / "cmdline").read_bytes()
    executors = [
        p for p, parent in parents.items() if parent in own and b"CoarseGrained" in commands.get(p, b"")
    ]
    return [
        p
        for p in executors
        if any(parent == p and b"pyspark" in commands[c] for c, parent in parents.items())
    ]


def _spark_home() -> Path:
    (home,) = SPARK_PYTHON.parents[1].glob("lib/python3*/site-packages/pyspark")
    return home


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
