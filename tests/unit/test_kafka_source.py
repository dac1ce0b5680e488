"""What is fetched of partitions, ahead and as it was recorded. No broker is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zaslon.domain.errors import ArtefactError
from zaslon.domain.outcomes import Versions

if TYPE_CHECKING:
    from zaslon.adapters.cluster.kafka.source import Partitions, Pending

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


def _partition() -> tuple[Partitions, Pending]:
    """Of one topic that has one, of which nothing is fetched yet."""
    from zaslon.adapters.cluster.kafka.connection import Connection, Watch
    from zaslon.adapters.cluster.kafka.source import Partitions, Pending

    nowhere = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    connection, admin = Connection("127.0.0.1:1", "plaintext"), kafka.admin.AdminClient(nowhere)
    partitions = Partitions(connection, ("input",), "zaslon-test", Watch("nowhere"), admin)
    pending = Pending("input", 0, 0)
    partitions.pending, partitions._by_place = [pending], {("input", 0): pending}
    partitions._consumer.assign([pending.place])
    return partitions, pending


@pytest.mark.parametrize("wanted", [1, 5_000, 13_000, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0])
def test_a_partition_that_holds_less_than_is_waited_for_is_never_stopped(wanted: int, share: float) -> None:
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


def _fold(found: Sequence[int], *, end: int, begin: int = 10, recorded_end: int = 15, count: int = 4) -> str:
    """What becomes of a recorded [begin, recorded_end) where these offsets were fetched and the end seen."""
    from zaslon.adapters.cluster.kafka.order import Order, Range

    partitions, pending = _partition()
    if found:
        pending.add([kafka.Message(topic="input", partition=0, offset=n, value=b"%d" % n) for n in found], 0)
    if end:
        pending.end_at(end)
    order = Order(
        0, (Range("input", 0, begin, recorded_end),), np.zeros(count, np.int64), np.zeros(count, np.int64),
        Versions("m", "p", "c", 1), "none",
    )  # fmt: skip
    records = partitions.as_recorded(order)
    return "waits" if records is None else b" ".join(records[0]).decode()


def test_what_was_recorded_is_waited_for_until_it_is_read() -> None:
    assert _fold([10, 11, 13], end=0) == "waits"
    assert _fold([], end=0) == "waits"
    assert _fold([10, 11, 13], end=14) == "waits", "the end may move"
    assert _fold([10, 11, 13, 14, 15], end=0) == "10 11 13 14"
    assert _fold([10, 11, 13, 14], end=16) == "10 11 13 14"


@pytest.mark.parametrize(
    ("found", "end"),
    [([11, 13, 14], 0), ([11, 13, 14], 15), ([], 15), ([20, 21, 22, 23, 24], 0), ([10, 11, 12, 13], 0),
     ([9, 10, 11, 13, 14], 0)],
    ids=["a head is gone", "a head is gone, at the end", "all is gone", "all is gone, others stand behind",
         "more stand there", "one before it"],
)  # fmt: skip
def test_what_was_not_recorded_so_is_one_error(found: list[int], end: int) -> None:
    with pytest.raises(ArtefactError, match=r"does not hold the 4 records \[10, 15\) of partition 0"):
        _fold(found, end=end)
