"""`zaslon produce` and `zaslon stream` as processes: rates, resuming, stopping, metrics."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind
from zaslon.flows.produce import ProduceReport, SendRate, produce
from zaslon.simulate import simulation_profile, write_simulation
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(broker: LocalBroker) -> Cluster:
    return Cluster.new(broker)


@pytest.fixture(scope="module")
def lines(small_world: SmallWorld) -> list[bytes]:
    pairs = zip(small_world.records, small_world.kinds, strict=True)
    return [r for r, k in pairs if k == Kind.TRANSACTION_LINE]


def _file(directory: Path, lines: list[bytes], name: str = "lines.txt") -> str:
    path = directory / name
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def _produce(cluster: Cluster, home: Path, source: str, topic: str, **more: Any) -> ProduceReport:
    given: dict[str, Any] = {"form": "line", "rate": SendRate(), "is_over": lambda: False, **more}
    return produce(cluster.context("producer", home), [source], cluster.topic(topic), **given)


def test_lines_arrive_as_they_are_and_the_same_file_is_sent_once(
    broker: LocalBroker, lines: list[bytes], tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    source = _file(tmp_path, lines[:1_000])
    assert _produce(cluster, tmp_path, source, "input").rows_sent == 1_000
    again = _produce(cluster, tmp_path, source, "input")
    assert (again.rows_in, again.rows_before, again.rows_sent) == (1_000, 1_000, 0)
    assert [m.value() for m in cluster.read("input")] == lines[:1_000]


def test_sending_continues_where_it_stopped(broker: LocalBroker, lines: list[bytes], tmp_path: Path) -> None:
    cluster = Cluster.new(broker)
    source = _file(tmp_path, lines[:2_000])
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    first = _produce(cluster, tmp_path, source, "input", rate=SendRate(per_second=5_000), is_over=is_over)
    assert 0 < first.rows_sent < 2_000
    second = _produce(cluster, tmp_path, source, "input")
    assert first.rows_sent + second.rows_sent == 2_000
    assert [m.value() for m in cluster.read("input")] == lines[:2_000]


def test_a_rate_is_kept(cluster: Cluster, lines: list[bytes], tmp_path: Path) -> None:
    report = _produce(cluster, tmp_path, _file(tmp_path, lines[:600]), "input", rate=SendRate(per_second=400))
    assert report.rows_sent == 600
    assert report.per_second < 450


def test_a_time_lapse_keeps_the_distances_of_the_records(broker: LocalBroker, tmp_path: Path) -> None:
    cluster = Cluster.new(broker)
    row = b"%d,2020-01-01 10:0%d:00,5,7,20.00,0,0,0,0"
    source = _file(tmp_path, [row % (i, i) for i in range(4)])
    begin_ms = time.time() * 1000
    _produce(cluster, tmp_path, source, "input", rate=SendRate(speed=120))
    stamps = np.array([m.timestamp()[1] for m in cluster.read("input")])
    # Half a second between two minutes; never earlier, but a busy machine may be later.
    assert len(stamps) == 4
    assert (stamps - begin_ms > 500 * np.arange(4) - 1).all(), stamps - begin_ms


def test_other_columns_are_refused_as_lines_and_sent_as_json(broker: LocalBroker, tmp_path: Path) -> None:
    cluster = Cluster.new(broker)
    csv = tmp_path / "rows.csv"
    csv.write_text(
        "tx_amount,transaction_id,tx_datetime,customer_id,terminal_id\n20.00,1,2020-01-01 10:00:00,5,7\n"
    )
    with pytest.raises(InputError, match="not those of the catalogue"):
        _produce(cluster, tmp_path, str(csv), "input")
    _produce(cluster, tmp_path, str(csv), "input", form="json")
    (message,) = cluster.read("input")
    assert json.loads(message.value() or b"") == {
        "tx_amount": "20.00", "transaction_id": "1", "tx_datetime": "2020-01-01 10:00:00",
        "customer_id": "5", "terminal_id": "7",
    }  # fmt: skip


def test_a_file_of_the_simulator_is_sent_to_the_last_row(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "month.txt"
    write_simulation(simulation_profile("mission", customers=3_000), 40, 1, out, rows=150_000)
    report = _produce(cluster, tmp_path, str(out), "labels")
    assert report.rows_sent == 150_000


def test_sigterm_ends_the_command_in_good_order(broker: LocalBroker, lines: list[bytes], home: Path) -> None:
    cluster = Cluster.new(broker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster.send("input", lines[:500])
    with cluster.scorer(
        home, ZASLON_STREAM_METRICS_PORT=str(port), ZASLON_STREAM_REPORT_SECONDS="1", ZASLON_REGISTRY="mlflow"
    ) as scorer:
        cluster.wait_for(500, scorer)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_SECONDS) as answer:
            text = answer.read().decode()
        report = json.loads(scorer.terminate())
    assert 'zaslon_stream_outcomes_total{outcome="decision"}' in text
    assert 'zaslon_stream_stage_seconds_count{stage="commit"}' in text
    assert report["next_position"] == 500
    assert len(list((home / "stream" / "snapshots").glob("snapshot-*0500.npz"))) == 1
    _in_mlflow(home, "transactions_per_second_scored_from_kafka")


def _in_mlflow(home: Path, metric: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("zaslon")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics[metric] > 0


def test_the_rate_of_sending_is_in_mlflow(cluster: Cluster, lines: list[bytes], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", "produce", _file(tmp_path, lines),
         "--topic", cluster.topic("input"), "--home", str(tmp_path), "--rate", "500", "--json"],
        env={**os.environ, **cluster.environment("producer"), "ZASLON_STREAM_REPORT_SECONDS": "1",
             "ZASLON_REGISTRY": "mlflow"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: (tmp_path / "produced").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    assert process.wait(DEADLINE_SECONDS) == 0
    assert 0 < report["rows_sent"] < len(lines)
    _in_mlflow(tmp_path, "transactions_per_second_sent_to_kafka")
