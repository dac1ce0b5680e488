"""A simulated cloud and an Airflow whose connection leads to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.integration.airflow_environment import ROOT, Airflow
from tests.waiting import until

DEPLOY = ROOT / "deploy" / "airflow"
SETTINGS: dict[str, Any] = {
    "subnet_id": "subnet-1", "service_account_id": "sa-cluster", "bucket": "fraud-logs",
    "archive": "s3a://lake/code/zaslon-0123.tar.gz", "driver": "s3a://lake/code/run_on_cluster.py",
    "raw": "s3a://lake/raw", "lake": "/mnt/lake", "home": "/srv/zaslon/home",
    "prices": {"vcpu": "2.00", "memory_gb": "0.50", "disk_gb": {"network-ssd": "0.02"}}, "roubles_max": "1000",
}  # fmt: skip
# `zaslon` on Airflow's machine: notes its words.
_ZASLON = """#!/bin/sh
printf '%s\\n' "$*" >> "{directory}/zaslon.calls"
"""


@dataclass
class SimulatedCloud:
    """The server's process and what it has noted."""

    directory: Path
    objects: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, directory: Path, python: Path) -> SimulatedCloud:
        """Start it with Airflow's Python; ready when it returns."""
        directory.mkdir()
        objects = directory.with_name("objects")
        (objects / "lake" / "code").mkdir(parents=True)
        shutil.copy(DEPLOY / "run_on_cluster.py", objects / "lake" / "code")
        command: list[str | Path] = [
            python,
            "-m",
            "tests.integration.simulated_cloud",
            directory,
            sys.executable,
            objects,
        ]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        address = directory / "address"
        until(lambda: address.exists() or process.poll() is not None, look_seconds=0.1)
        assert process.poll() is None, (directory / "log").read_text()
        return cls(directory, objects, process)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def faults(self, **faults: Any) -> None:
        """What goes wrong from now on, and nothing else; what was noted is forgotten."""
        new = self.directory / "faults.new"
        new.write_text(json.dumps(faults))
        new.rename(self.directory / "faults.json")
        (self.directory / "calls.jsonl").write_text("")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What was asked for and costs or changes something, in order."""
        return [json.loads(line) for line in (self.directory / "calls.jsonl").read_text().splitlines()]

    def named(self, kind: str) -> list[dict[str, Any]]:
        """The calls of a kind."""
        return [call for call in self.calls if call["call"] == kind]

    @property
    def ours(self) -> dict[str, str]:
        """Our clusters' states by name; those of others must be there."""
        found: dict[str, str] = json.loads((self.directory / "clusters.json").read_text())
        others = {name for name in found if not name.startswith("zaslon-")}
        assert others == {"by-hand", "another-airflow", "in-their-words"}
        return {name: state for name, state in found.items() if name not in others}

    @property
    def connection(self) -> str:
        """Airflow's connection to it. The key is in a file that only its user can read."""
        key = self.directory / "key.json"
        key.chmod(0o600)
        extra = {
            "endpoint": (self.directory / "address").read_text(), "folder_id": "folder-1",
            "service_account_json_path": str(key),
        }  # fmt: skip
        return json.dumps({"conn_type": "yandexcloud", "extra": extra})


class Runs:
    """A process of Airflow that runs DAGs."""

    def __init__(self, airflow: Airflow, place: Path) -> None:
        self._log = (place / "runs.log").open("ab")
        self._path = place / "runs.log"
        reading, writing = os.pipe()
        command: list[str | Path] = [
            airflow.programs / "python",
            "-m",
            "tests.integration.cloud_runs",
            str(writing),
        ]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**airflow.environment, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
            stdout=self._log, stderr=self._log, pass_fds=[writing], start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        self._answers: IO[str] = os.fdopen(reading)
        self.loaded = self._answer()

    def begin(
        self, dag: str, settings: Mapping[str, Any] | None = None, conf: Mapping[str, Any] | None = None,
        tasks: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Begin a run."""
        request = {
            "dag": dag,
            "settings": {**SETTINGS, **(settings or {})},
            "conf": conf or {},
            "tasks": tasks or {},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def run(self, dag: str, **more: Any) -> tuple[str, dict[str, str]]:
        """A run's state and those of its tasks."""
        self.begin(dag, **more)
        answer = self._answer()
        return answer["state"], answer["tasks"]

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        assert line, self._path.read_text()[-3_000:]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """As if the machine lost power: no handler runs."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers.close()
        self._log.close()


def cloud_airflow(programs: Path, place: Path, cloud: SimulatedCloud, jobs: Path) -> Airflow:
    """An empty Airflow in `place` with the DAGs of `deploy/airflow` and a connection to the cloud."""
    zaslon = place / "zaslon"
    zaslon.write_text(_ZASLON.format(directory=place))
    zaslon.chmod(0o755)
    settings = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY / "dags"), "ZASLON_JOBS_FILE": str(jobs),
        "ZASLON_BIN": str(zaslon), "ZASLON_DIRECTORY": str(place),
        "AIRFLOW_CONN_YANDEXCLOUD_DEFAULT": cloud.connection,
        # Trusted by this process's gRPC only: the hook has no setting for a CA.
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(cloud.directory / "tls" / "ca.crt"),
    }  # fmt: skip
    airflow = Airflow(programs, place / "airflow", settings)
    migrated = airflow("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr[-2_000:]
    return airflow
