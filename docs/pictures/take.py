"""Take the pictures of MLflow and Airflow in the guides, as a user sees them.

    python docs/pictures/take.py --airflow /opt/airflow/bin [--only mlflow]

A small bank is simulated in a scratch directory: a champion, a day later a retraining, both in MLflow's registry of the
home; then another one, whose daily chain runs in a real Airflow. Debian's `chromium` takes the pictures without a
window. Needs the extra `mlflow`, and for Airflow the environment of deploy/airflow/README.md. About five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
CHROMIUM = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1700,950", "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]  # fmt: skip
PATIENCE_SECONDS = 300
DAG = "zaslon_daily"


def main(arguments: Sequence[str]) -> int:
    """Take all pictures, or those of one program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--airflow", type=Path, help="directory of Airflow's programs")
    parser.add_argument("--only", choices=("mlflow", "airflow"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pictures-") as scratch:
        if given.only != "airflow":
            bank = Bank(Path(scratch) / "registry")
            bank.lives_a_while()
            picture_mlflow(bank)
        if given.only != "mlflow":
            picture_airflow(Bank(Path(scratch) / "schedule"), given.airflow)
    return 0


class Bank:
    """A home with files of its own; every step is a command that a user would give.

    Args:
        place: a directory to be made.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.home = place, place / "home"
        (place / "in").mkdir(parents=True)
        self.zaslon("simulate", place / "whole.csv", "--profile", "handbook", "--days", 60, "--customers", 700,
                    "--terminals", 200)  # fmt: skip
        header, *lines = (place / "whole.csv").read_bytes().splitlines(keepends=True)
        first = [line for line in lines if line.split(b",")[1] < b"2018-05-20"]
        (place / "in" / "first.csv").write_bytes(header + b"".join(first))
        (place / "next.csv").write_bytes(header + b"".join(lines[len(first) :]))

    @property
    def environment(self) -> dict[str, str]:
        """Quick, and nothing that fails by luck."""
        return os.environ | {
            "ZASLON_HOME": str(self.home), "ZASLON_RETRAIN_WINDOW": "expanding", "ZASLON_PERIOD_DAYS_MAX": "7",
            "ZASLON_LIMIT_MARGIN": "0.4", "MLFLOW_DISABLE_TELEMETRY": "true",
        }  # fmt: skip

    def zaslon(self, *words: object) -> dict[str, Any]:
        """One command of Zaslon and its JSON; 99, no news, is fine."""
        done = subprocess.run(
            [PROGRAMS / "zaslon", *map(str, words), "--json"],
            env=self.environment,
            check=False,
            capture_output=True,
        )
        if done.returncode not in (0, 99):
            raise SystemExit(f"zaslon {words[0]} ended with {done.returncode}: {done.stdout.decode()}")
        values: dict[str, Any] = json.loads(done.stdout)
        return values

    def has_a_champion(self) -> None:
        """The first file is clean, and a model of it serves, whatever the luck of so few transactions."""
        self.zaslon("clean", self.place / "in" / "first.csv")
        self.zaslon("promote", self.zaslon("train")["model"], "--unguarded")

    def news_comes(self) -> None:
        """The second file arrives."""
        shutil.copy(self.place / "next.csv", self.place / "in")

    def lives_a_while(self) -> None:
        """A champion, then a challenger, so that the registry has both."""
        self.has_a_champion()
        self.zaslon("clean", self.place / "in" / "first.csv", self.place / "next.csv")
        self.zaslon("retrain")


def picture_mlflow(bank: Bank) -> None:
    """The registry's models, and the run of a training."""
    port = _free_port()
    (database,) = (bank.home / "mlflow").glob("*.db")
    address = f"http://127.0.0.1:{port}"
    command = [PROGRAMS / "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}", "--port", str(port),
               "--workers", "1"]  # fmt: skip
    with _running(command, bank.environment, lambda: _answers(f"{address}/health")):
        with sqlite3.connect(database) as runs:
            run, experiment = runs.execute(
                "SELECT run_uuid, experiment_id FROM runs ORDER BY start_time LIMIT 1"
            ).fetchone()
        take(f"{address}/#/models/zaslon-candidates", "mlflow-candidates.png")
        take(f"{address}/#/experiments/{experiment}/runs/{run}", "mlflow-run.png")


def picture_airflow(bank: Bank, programs: Path | None) -> None:
    """The daily chain: without news, then with."""
    if programs is None:
        raise SystemExit("Name the directory of Airflow's programs with --airflow.")
    home, port = bank.place / "airflow", _free_port()
    home.mkdir()
    bank.has_a_champion()
    os.environ["ZASLON_SCHEDULE_SOURCES"] = str(bank.place / "in" / "*.csv")
    bank.zaslon("schedule", "jobs", "--out", bank.place / "jobs.json")
    environment = bank.environment | {
        "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "ZASLON_BIN": str(PROGRAMS / "zaslon"), "ZASLON_DIRECTORY": str(bank.place),
        "ZASLON_JOBS_FILE": str(bank.place / "jobs.json"),
    }  # fmt: skip
    script = [ROOT / "deploy" / "airflow" / "airflow.sh"]
    subprocess.run([*script, "start", programs, str(port)], env=environment, check=True)
    try:
        _trigger(programs, environment, home, runs=1)
        bank.news_comes()
        _trigger(programs, environment, home, runs=2)
        take(f"http://127.0.0.1:{port}/dags/{DAG}", "airflow-dag.png")
    finally:
        subprocess.run([*script, "stop"], env=environment, check=True)


def _trigger(programs: Path, environment: dict[str, str], home: Path, *, runs: int) -> None:
    """Run the chain and wait until so many runs have ended."""
    database = home / "airflow.db"

    def count(query: str) -> int:
        with sqlite3.connect(database) as known:
            return int(known.execute(query, (DAG,)).fetchone()[0])

    _wait(lambda: count("SELECT count(*) FROM dag WHERE dag_id = ?") == 1)
    for words in (("trigger", DAG), ("unpause", "-y", DAG)):
        subprocess.run(
            [programs / "airflow", "dags", *words], env=environment, check=True, capture_output=True
        )
    ended = "SELECT count(*) FROM dag_run WHERE dag_id = ? AND run_type = 'manual' AND end_date IS NOT NULL"
    _wait(lambda: count(ended) == runs)


def take(address: str, name: str) -> None:
    """A page as the browser draws it."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", *CHROMIUM, f"--user-data-dir={profile}", f"--screenshot={HERE / name}", address],
            check=True, capture_output=True,
        )  # fmt: skip
    print(json.dumps({"picture": name, "bytes": (HERE / name).stat().st_size}))


@contextmanager
def _running(
    command: Sequence[object], environment: dict[str, str], is_ready: Callable[[], bool]
) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(word) for word in command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(is_ready)
            yield
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {PATIENCE_SECONDS} s in vain.")
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
