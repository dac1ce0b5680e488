"""What is fetched of partitions, and taken. No broker is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zaslon.adapters.cluster.kafka.source import Partitions, Pending

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


def _partition() -> tuple[Partitions, Pending]:
    """The only partition of a topic, of which nothing is fetched yet."""
    from zaslon.adapters.cluster.kafka.connection import Connection, Watch
    from zaslon.adapters.cluster.kafka.source import Partitions, Pending

    nowhere = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    connection, admin = Connection("127.0.0.1:1", "plaintext"), kafka.admin.AdminClient(nowhere)
    partitions = Partitions(connection, ("input",), "zaslon-test", Watch("nowhere"), admin)
    pending = Pending("input", 0, 0)
    partitions.pending, partitions._by_partition = [pending], {("input", 0): pending}
    partitions._consumer.assign([pending.target])
    return partitions, pending


@pytest.mark.parametrize("wanted", [1, 5_000, 13_000, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0])
def test_a_partition_with_less_than_is_wanted_is_never_paused(wanted: int, share: float) -> None:
    partitions, pending = _partition()
    message = kafka.Message(topic="input", partition=0, offset=0, value=b"")
    pending.messages = [message] * 3 * max(wanted, 20_000)
    partitions.fetch(0, wanted)
    was_paused = pending.is_paused
    assert was_paused, "three times as much as is wanted is too far ahead"
    del pending.messages[int(wanted * share) :]
    partitions.fetch(0, wanted)
    assert len(pending.messages) >= wanted or not pending.is_paused


def test_a_senders_clock_never_makes_an_arrival_of_the_future() -> None:
    _, pending = _partition()
    now = 1_700_000_000_000
    for offset, (kind, stamp) in enumerate([(0, -1), (1, now - 5), (1, now + 5), (2, now + 7)]):
        pending.add(
            [kafka.Message(topic="input", partition=0, offset=offset, value=b"", timestamp=(kind, stamp))],
            now,
        )
    assert pending.stamps == [now, now, now, now + 7]


def test_taken_records_are_gone_and_the_rest_begins_after_them() -> None:
    from zaslon.adapters.cluster.kafka.order import Range

    partitions, pending = _partition()
    messages = [kafka.Message(topic="input", partition=0, offset=n, value=b"%d" % n) for n in (0, 1, 4, 5)]
    pending.add(messages, 0)
    assert partitions.first([3]) == [[b"0", b"1", b"4"]]
    assert partitions.ranges_of([3]) == (Range("input", 0, 0, 5, ((2, 2),)),)
    partitions.drop([3])
    assert (pending.next_offset, partitions.first([1])) == (5, [[b"5"]])
    partitions.drop([1])
    pending.end_at(8)
    assert (pending.next_offset, partitions.ranges_of([0])) == (8, (Range("input", 0, 8, 8),))
