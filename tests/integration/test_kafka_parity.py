"""Every ingress behind Kafka records what the embedded engine records: the stream, HTTP one by one, HTTP batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.api.serving import Caller
from tests.integration.kafka_world import Cluster
from tests.integration.test_kafka_gateway import gateway, scoring, until
from tests.parity.ingress_log import adversarial_log, as_json, by_engine, send_in_batches, send_one_by_one

from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration
NOW = 1_790_000_000  # 2026: everything in the log has happened, but for the year 2099


@pytest.fixture(scope="module")
def expected(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    home = tmp_path_factory.mktemp("reference") / "home"
    return by_engine(small_world.in_home(home), adversarial_log(), NOW)


def test_the_stream_records_what_the_engine_records(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path, expected: list[bytes]
) -> None:
    cluster = Cluster.new(broker)
    home = small_world.in_home(tmp_path / "home").context.home
    with scoring(cluster, home):
        done = 0
        for group in adversarial_log():
            cluster.send("labels" if group.is_labels else "input", [as_json(row) for row in group.rows])
            done += len(group.rows)
            until(lambda done=done: cluster.committed_records() >= done)  # type: ignore[misc]
    assert cluster.published() == expected


@pytest.mark.parametrize("send", [send_one_by_one, send_in_batches])
def test_http_behind_kafka_records_what_the_engine_records(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path, expected: list[bytes],
    send: Callable[[Caller], object],
) -> None:  # fmt: skip
    cluster = Cluster.new(broker)
    home = small_world.in_home(tmp_path / "home").context.home
    with scoring(cluster, home), gateway(cluster, home) as caller:
        send(caller)
    assert cluster.published() == expected
