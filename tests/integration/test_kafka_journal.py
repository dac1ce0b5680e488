"""The log of the stream is read like any other: its decisions are replayed."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster

from zaslon.domain.events import Kind
from zaslon.flows.replay import find_position, replay
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def test_an_old_decision_of_the_stream_is_replayed_byte_for_byte(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    for topic, kind in (("input", Kind.TRANSACTION_LINE), ("labels", Kind.LABEL_JSON)):
        cluster.send(
            topic, [r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == kind][:500]
        )
    cluster.stream_until(home, 1_000)
    context = cluster.context("viewer", home).with_log("stream")
    published = cluster.published()
    for position in (0, 123, 666, 999):
        replayed = replay(context, position)
        assert replayed.recorded == published[position]
        assert replayed.identical
    decided = next(m.key() for m in cluster.read("predictions") if b'"decision"' in (m.value() or b""))
    assert replay(context, find_position(context, f"tx:{(decided or b'').decode()}")).identical
