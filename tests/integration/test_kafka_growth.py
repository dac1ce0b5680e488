"""Partitions that are added while scorers run are read from their beginning, by all scorers alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.bootstrap import open_topics
from zaslon.domain.events import Kind
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def _send(cluster: Cluster, topic: str, partition: int, records: Sequence[bytes]) -> None:
    producer = cluster.connection("producer").producer(Watch("broker"))
    for record in records:
        producer.produce(cluster.topic(topic), record, partition=partition)
    assert producer.flush(DEADLINE_SECONDS) == 0


def test_added_partitions_are_applied_in_one_order(
    broker: LocalBroker, small_world: SmallWorld, home: Path, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    records = {
        kind: iter([r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == kind])
        for kind in (Kind.TRANSACTION_LINE, Kind.LABEL_JSON)
    }
    sent = 0

    def send(**partitions: int) -> None:
        nonlocal sent
        for topic, count in partitions.items():
            kind = Kind.LABEL_JSON if topic == "labels" else Kind.TRANSACTION_LINE
            for partition in range(count):
                _send(cluster, topic, partition, [next(records[kind]) for _ in range(100)])
                sent += 100

    other = small_world.in_home(tmp_path / "other").context.home
    settings = {
        "ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS": "3",
        "ZASLON_PSEUDONYM_KEY": small_world.context.key.decode(),
    }
    with cluster.scorer(home, **settings) as first:
        send(input=1, labels=1)
        cluster.wait_for(sent)
        with cluster.scorer(other, **settings) as second:
            assert second.prints("Replaying"), second.printed
            cluster.grow(input=3, labels=2, order=2, rejections=2)
            send(input=3, labels=2)
            cluster.wait_for(sent)
            first.kill()
            send(input=3, labels=2)
            cluster.wait_for(sent)
            assert second.is_deciding, second.printed
            second.kill()
    send(input=3, labels=1)
    cluster.stream_until(home, sent)
    published = cluster.published()
    assert len(published) == sent
    assert published == cluster.embedded(small_world.engine())


def test_a_second_partition_of_order_or_rejections_is_a_complaint(
    broker: LocalBroker, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    cluster.grow(input=2, order=2, rejections=3)
    messages = {s.name: s.complaints for s in open_topics(cluster.settings("viewer", tmp_path)).check()}
    assert messages == {
        cluster.topic("input"): (), cluster.topic("labels"): (), cluster.topic("predictions"): (),
        cluster.topic("order"): ("2 partitions, expected 1: its messages have one order",),
        cluster.topic("rejections"): ("3 partitions, expected 1: its messages have one order",),
    }  # fmt: skip
