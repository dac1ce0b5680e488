"""The order message: what is written is read back, and everything else is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.log_batches import CATALOGUES, content_of, log_batches

from zaslon.admission.log_format import encode
from zaslon.domain.errors import ArtefactError
from zaslon.domain.outcomes import Versions

if TYPE_CHECKING:
    from zaslon.adapters.cluster.kafka.order import Order

pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")

VERSIONS = Versions("model", "policy", "catalogue", 3)


def _order(sources: list[int], records: bytes = b"", position: int = 40) -> Order:
    """An order of records from two partitions, with a gap at the beginning of the second."""
    from zaslon.adapters.cluster.kafka.order import Order, Range

    counts = sources.count(0), sources.count(1)
    ranges = Range("labels", 0, 3, 3 + counts[0]), Range("input", 2, 7, 9 + counts[1], ((7, 2),))
    return Order(position, ranges, np.array(sources, np.int64), VERSIONS, "history", records)


@given(data=st.data(), catalogue=st.sampled_from(CATALOGUES))
def test_records_and_header_come_back(data: st.DataObject, catalogue: object) -> None:
    from zaslon.adapters.cluster.kafka.order import Order
    from zaslon.domain.catalogue import Catalogue

    assert isinstance(catalogue, Catalogue)
    batch = data.draw(log_batches(catalogue))
    sources = data.draw(st.lists(st.integers(0, 1), min_size=len(batch), max_size=len(batch)))
    order = _order(sources, encode(batch, catalogue), batch.first_position)
    found = Order.from_bytes(order.to_bytes())
    assert replace(found, source=order.source) == replace(order, source=order.source)
    assert found.source.tolist() == sources
    assert content_of(found.batch(catalogue)) == content_of(replace(batch, originals=None))
    assert found.next_offsets == {"labels:0": 3 + sources.count(0), "input:2": 9 + sources.count(1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"position":0,"count":0}', "format 1; this version reads format 2"),
        (b"ZORD\x03\x00\x00\x00\x00\x00", "format 3; this version reads format 2"),
        (b"", "no header"), (None, "no header"), (b"ZORD", "no header"), (b"nonsense, and long", "no header"),
        (b"ZORD\x02\x00\x02\x00\x00\x00{}", "cannot be read: 'position'"),
        (b"ZORD\x02\x00\x09\x00\x00\x00{", "cannot be read"),
    ],
)  # fmt: skip
def test_another_format_and_damage_are_refused(content: bytes | None, message: str) -> None:
    from zaslon.adapters.cluster.kafka.order import Order

    with pytest.raises(ArtefactError, match=message):
        Order.from_bytes(content)


def test_ranges_that_do_not_hold_the_records_are_refused() -> None:
    from zaslon.adapters.cluster.kafka.order import Order

    lying = replace(_order([0, 1, 1]), source=np.array([0, 0, 1], np.int64))
    with pytest.raises(ArtefactError, match="ranges and sources disagree"):
        Order.from_bytes(lying.to_bytes())


@given(data=st.data())
def test_records_of_another_position_are_refused(data: st.DataObject) -> None:
    batch = data.draw(log_batches(CATALOGUES[0]))
    order = _order([1] * len(batch), encode(batch, CATALOGUES[0]), batch.first_position + 1)
    with pytest.raises(ArtefactError, match="not those of position"):
        order.batch(CATALOGUES[0])
