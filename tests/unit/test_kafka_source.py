"""How far ahead partitions are fetched: bounded, and never less than is waited for. No broker is needed."""

from __future__ import annotations

import pytest

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


@pytest.mark.parametrize("wanted", [1, 5_000, 13_000, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0])
def test_a_partition_that_holds_less_than_is_waited_for_is_never_stopped(wanted: int, share: float) -> None:
    from zaslon.adapters.cluster.kafka.connection import Connection, Watch
    from zaslon.adapters.cluster.kafka.source import Partitions, Pending

    nowhere = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    connection, admin = Connection("127.0.0.1:1", "plaintext"), kafka.admin.AdminClient(nowhere)
    partitions = Partitions(connection, ("input",), "zaslon-test", Watch("nowhere"), admin)
    pending = Pending("input", 0, 0)
    partitions.pending = [pending]
    partitions._consumer.assign([pending.place])
    message = kafka.Message(topic="input", partition=0, offset=0, value=b"")
    pending.messages = [message] * 3 * max(wanted, 20_000)
    partitions.fetch(0, wanted)
    was_paused = pending.is_paused
    assert was_paused, "three times as much as is wanted is too far ahead"
    del pending.messages[int(wanted * share) :]
    partitions.fetch(0, wanted)
    assert len(pending.messages) >= wanted or not pending.is_paused
