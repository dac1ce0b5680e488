"""A message that a topic does not take is one clear error, or cut to fit; no outcome is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import DEADLINE_SECONDS

from zaslon.domain.errors import ServerError
from zaslon.domain.events import Kind
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def _set(cluster: Cluster, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, cluster.topic(topic), incremental_configs=[entry])
    admin = cluster.connected_admin()
    admin.incremental_alter_configs([resource])[resource].result(DEADLINE_SECONDS)


def test_a_refused_outcome_is_recorded_after_a_repair(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    pairs = zip(small_world.records, small_world.kinds, strict=True)
    cluster.send("input", [r for r, k in pairs if k == Kind.TRANSACTION_LINE][:200])
    _set(cluster, "predictions", "max.message.bytes", "120")
    with pytest.raises(ServerError, match="larger than a topic takes: 'predictions-"):
        cluster.stream_until(home, 200)
    assert cluster.published() == []
    _set(cluster, "predictions", "max.message.bytes", "1048576")
    cluster.stream_until(home, 200)
    published = cluster.published()
    assert len(published) == 200
    assert published == cluster.embedded(small_world.engine())


def test_micro_batches_fit_the_message_limit_of_order(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    pairs = zip(small_world.records, small_world.kinds, strict=True)
    bytes_max = 16_384 + 4_000
    _set(cluster, "order", "max.message.bytes", str(bytes_max))
    cluster.send("input", [*(r for r, k in pairs if k == Kind.TRANSACTION_LINE)][:390] + [b"nonsense"] * 10)
    cluster.stream_until(home, 400)
    sizes = [len(message.value() or b"") for message in cluster.read("order")]
    assert max(sizes) <= bytes_max - 16_384
    assert 7 < len(sizes) < 30
    assert cluster.published() == cluster.embedded(small_world.engine())
