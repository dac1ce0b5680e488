"""Outcomes find the records they belong to, in whatever order the three messages arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.adapters.cluster.kafka.matching import Matching
from zaslon.adapters.cluster.kafka.order import Order, Range
from zaslon.domain.outcomes import Versions
from zaslon.domain.recorded import Recorded

VERSIONS = Versions("m", "p", "c", 1)


def order(position: int, ranges: list[Range], source: list[int]) -> Order:
    return Order(position, tuple(ranges), np.array(source, np.int64), VERSIONS, "h", b"")


class World:
    """Our records among those of others, in one partition of `input` and one of `labels`."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.lost: list[str] = []
        self.matching: Matching[str] = Matching(self._found, self.lost.append)

    def _found(self, record: str, outcome: Recorded) -> None:
        self.found[record] = outcome.json

    def outcome(self, position: int, json: bytes) -> None:
        self.matching.outcome(Recorded(position, json))


def test_a_record_is_found_by_its_offset_and_position() -> None:
    world = World()
    number = world.matching.send()
    world.matching.acknowledged(number, "ours", "input", 0, 6)
    world.matching.applied(order(40, [Range("labels", 0, 3, 4), Range("input", 0, 5, 7)], [1, 0, 1]))
    for position in (40, 41, 42):
        world.outcome(position, b"%d" % position)
    assert world.found == {"ours": b"42"}


def test_a_record_acknowledged_last_is_found() -> None:
    world = World()
    number = world.matching.send()
    world.outcome(41, b"outcome")
    world.matching.applied(order(40, [Range("input", 0, 5, 7)], [0, 0]))
    world.matching.acknowledged(number, "ours", "input", 0, 6)
    assert world.found == {"ours": b"outcome"}


def test_gaps_are_not_counted_as_records() -> None:
    applied = order(10, [Range("input", 0, 5, 12, ((5, 2), (9, 1)))], [0] * 4)
    positions = [applied.position_of("input", 0, offset) for offset in range(4, 13)]
    assert positions == [None, None, None, 10, 11, None, 12, 13, None]
    assert Order.from_bytes(applied.to_bytes()).ranges == applied.ranges


def test_a_record_that_the_log_skipped_is_lost() -> None:
    world = World()
    world.matching.acknowledged(world.matching.send(), "ours", "input", 0, 6)
    world.matching.applied(order(10, [Range("input", 0, 5, 8, ((6, 1),))], [0, 0]))
    assert (world.found, world.lost) == ({}, ["ours"])


def test_records_of_other_senders_are_not_remembered() -> None:
    world = World()
    for begin in range(0, 1_000, 10):
        for position in range(begin, begin + 10):
            world.outcome(position, b"theirs")
        world.matching.applied(order(begin, [Range("input", 0, begin, begin + 10)], [0] * 10))
    assert not world.matching._outcomes
    assert not world.matching._applied


@given(data=st.data())
def test_outcomes_match_positions_in_any_arrival_order(data: st.DataObject) -> None:
    world, chance = World(), data.draw(st.randoms(use_true_random=False))
    batches = data.draw(st.lists(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=6),
                                 min_size=1, max_size=6))  # fmt: skip
    topics, ends, position = ("labels", "input"), [0, 0], 0
    acknowledged: list[list[tuple[int, str, str, int]]] = [[], []]  # by partition, in the order of offsets
    orders: list[Order] = []
    outcomes: list[int] = []
    expected: dict[str, bytes] = {}
    for batch in batches:
        begins = list(ends)
        for source, is_ours in batch:
            if is_ours:
                name = f"record {position}"
                acknowledged[source].append((world.matching.send(), name, topics[source], ends[source]))
                expected[name] = b"%d" % position
            outcomes.append(position)
            ends[source] += 1
            position += 1
        ranges = [Range(t, 0, b, e) for t, b, e in zip(topics, begins, ends, strict=True)]
        orders.append(order(position - len(batch), ranges, [source for source, _ in batch]))
    queues: list[list[Any]] = [acknowledged[0], acknowledged[1], orders, outcomes]
    while any(queues):
        index = chance.choice([i for i, queue in enumerate(queues) if queue])
        arrived = queues[index].pop(0)
        if isinstance(arrived, Order):
            world.matching.applied(arrived)
        elif isinstance(arrived, int):
            world.outcome(arrived, b"%d" % arrived)
        else:
            number, name, topic, offset = arrived
            world.matching.acknowledged(number, name, topic, 0, offset)
    assert world.found == expected
    assert world.lost == []
    assert not world.matching._outcomes, "something is remembered without a caller"


@pytest.mark.parametrize("end", ["refused", "withdraw"])
def test_nothing_waits_for_a_record_that_was_not_taken(end: str) -> None:
    world = World()
    getattr(world.matching, end)(world.matching.send())
    world.outcome(0, b"theirs")
    assert not world.matching._outcomes
