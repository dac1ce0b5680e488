"""The daily chain in a real Airflow: news, no news, a failure; and once under its own scheduler."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest
from tests.integration.airflow_environment import Airflow, install
from tests.postgres_server import LocalPostgres
from tests.waiting import until
from tests.webhook import Webhook, listening

from zaslon.entrypoints.cli import main
from zaslon.simulate import simulation_profile, write_simulation

pytestmark = pytest.mark.integration
DAG = "zaslon_daily"
DAGS = Path(__file__).resolve().parents[2] / "deploy" / "airflow" / "dags"
FIRST_DAYS, DAYS = 48, 56
QUICK = {"ZASLON_THREADS": "1", "ZASLON_RETRAIN_WINDOW": "expanding", "ZASLON_REGISTRY": "none"}


@dataclass(frozen=True)
class Bank:
    """A home whose champion learned from the file in `in/`, the file that goes on, and an Airflow for it."""

    place: Path
    airflow: Airflow
    webhook: Webhook

    @property
    def champion(self) -> bytes:
        return (self.place / "home" / "champion.json").read_bytes()

    def news_comes(self) -> None:
        shutil.copy(self.place / "next.txt", self.place / "in")

    def test_dag(self) -> tuple[int, dict[str, str]]:
        """`airflow dags test`: its exit code, and the state of every task."""
        done = self.airflow("dags", "test", DAG)
        with sqlite3.connect(self.airflow.home / "airflow.db") as database:
            found = dict(database.execute("SELECT task_id, state FROM task_instance").fetchall())
        assert found, (done.stdout + done.stderr)[-3_000:]
        return done.returncode, found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home, files and an empty Airflow, made once; tests take a copy."""
    place = tmp_path_factory.mktemp("made")
    whole = place / "whole.csv"
    write_simulation(simulation_profile("handbook", customers=300, terminals=100), DAYS, 3, whole)
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    cut = sorted({line.split(b",")[1][:10] for line in lines})[FIRST_DAYS]
    (place / "in").mkdir()
    first = [line for line in lines if line.split(b",")[1][:10] < cut]
    (place / "in" / "first.txt").write_bytes(header + b"".join(first))
    (place / "next.txt").write_bytes(header + b"".join(lines[len(first) :]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setenv(name, value)
        home = ["--home", str(place / "home"), "--json"]
        assert main(["clean", str(place / "in" / "first.txt"), *home]) == 0
        assert main(["train", *home]) == 0
        (model,) = (place / "home" / "models").glob("[0-9a-f]*")
        assert main(["promote", model.name, "--unguarded", *home]) == 0  # so few days keep no guard
    migrated = Airflow(install(), place / "airflow", {})("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr[-2_000:]
    return place


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Iterator[Bank]:
    place = tmp_path / "bank"
    shutil.copytree(made, place, ignore=shutil.ignore_patterns("airflow.cfg"))  # it names the old place
    with listening() as webhook:
        settings = QUICK | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "ZASLON_JOBS_FILE": str(place / "jobs.json"),
            "ZASLON_BIN": str(Path(sys.executable).with_name("zaslon")), "ZASLON_DIRECTORY": str(place),
            "ZASLON_HOME": str(place / "home"), "ZASLON_SCHEDULE_ALERT_URL": webhook.url,
        }  # fmt: skip
        _export_jobs(place)
        yield Bank(place, Airflow(install(), place / "airflow", settings), webhook)


def _export_jobs(place: Path) -> None:
    """The built-in list, without waiting for retries."""
    text = resources.files("zaslon.domain").joinpath("jobs.toml").read_text("utf-8")
    (place / "jobs.toml").write_text(re.sub(r"^retries = .*$", "retries = 0", text, flags=re.MULTILINE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZASLON_SCHEDULE_JOBS", str(place / "jobs.toml"))
        patch.setenv("ZASLON_SCHEDULE_SOURCES", str(place / "in" / "*.txt"))
        home = ["--home", str(place / "home")]
        assert main(["schedule", "jobs", "--out", str(place / "jobs.json"), *home]) == 0


def test_news_trains_a_challenger_and_ends_green(bank: Bank) -> None:
    bank.news_comes()
    code, states = bank.test_dag()
    assert (code, states) == (
        0, dict.fromkeys(("clean", "retrain", "report", "ledger", "verdict"), "success")
    )  # fmt: skip
    (report,) = (bank.place / "home" / "reports").glob("retrain-*.json")
    found = json.loads(report.read_bytes())
    assert found["news"] is True
    assert found["verdict"] in ("better", "not_shown", "worse", "not_enough_evidence")
    assert (bank.place / "home" / "models" / found["challenger"]).is_dir()
    assert bank.webhook.told == []


def test_no_news_is_skipped_and_ends_green(bank: Bank) -> None:
    before = bank.champion
    code, states = bank.test_dag()
    assert code == 0
    assert states == {
        "clean": "skipped", "retrain": "skipped", "report": "success", "ledger": "success", "verdict": "success"
    }  # fmt: skip
    assert bank.champion == before
    assert bank.webhook.told == []


def test_a_failing_clean_stops_the_rest_and_raises_the_alert(bank: Bank) -> None:
    before = bank.champion
    (bank.place / "in" / "first.txt").unlink()
    code, states = bank.test_dag()
    assert code == 1
    assert states["clean"] == "failed"
    assert set(states.values()) == {"failed", "upstream_failed"}
    assert bank.champion == before
    (alert,) = bank.webhook.told
    assert (alert["chain"], alert["job"], alert["state"]) == ("daily", "clean", "failed")
    assert "exit code 3" in alert["text"]


def test_airflows_own_scheduler_runs_the_chain_on_postgresql(bank: Bank, postgres: LocalPostgres) -> None:
    import psycopg

    bank.news_comes()
    address = postgres.new_database()
    airflow = Airflow(
        bank.airflow.programs, bank.place / "scheduled",
        {**bank.airflow.settings, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address.replace("://", "+psycopg2://")},
    )  # fmt: skip
    airflow.home.mkdir()
    airflow.script("start", str(airflow.programs), str(_free_port()))
    groups = [int(path.read_text()) for path in (airflow.home / "run").glob("*.pid")]
    assert len(groups) == 3
    try:
        with psycopg.connect(address, autocommit=True) as database:
            until(lambda: _rows(database, "SELECT dag_id FROM dag WHERE dag_id = %s", DAG), look_seconds=0.5)
            assert airflow("dags", "trigger", DAG).returncode == 0
            assert airflow("dags", "unpause", "-y", DAG).returncode == 0
            ended = (
                "SELECT state FROM dag_run WHERE dag_id = %s AND run_type = 'manual' AND end_date IS NOT NULL"
            )
            assert until(lambda: _rows(database, ended, DAG), look_seconds=0.5) == [("success",)]
    finally:
        airflow.script("stop")
    assert [group for group in groups if _is_there(group)] == []


def _rows(database: object, query: str, *values: str) -> list[tuple[str]]:
    return database.execute(query, values).fetchall()  # type: ignore[attr-defined, no-any-return]


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
