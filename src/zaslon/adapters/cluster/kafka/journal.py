"""The port `LogReader` on Kafka: the stream's log read like any other.

Reading is for replays and audits: an order is found by halving topic `order`, the outcomes by the
moment of their order; all outcomes of a transaction need a look through `predictions`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice

import orjson
from confluent_kafka import Consumer, KafkaError, Message, TopicCollection, TopicPartition

from zaslon.adapters.cluster.kafka.commit import as_rejection
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.order import Order, Range, batch_in_order, is_barrier
from zaslon.adapters.cluster.kafka.topics import TopicNames, require
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import LogBatch, RecordBatch, TransactionId
from zaslon.domain.outcomes import Versions

_CALL_SECONDS = 20.0
_NOBODY = Versions("none", "none", "none", 0)


class KafkaJournal:
    """`zaslon.ports.LogReader` over the topics of a stream.

    Args:
        admit: makes typed records of those that stand in `input` and `labels`.

    Raises:
        ServerError: the broker cannot be reached or refuses us, or a topic is missing.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, admit: Callable[[RecordBatch], LogBatch]
    ) -> None:
        self._connection, self._names, self._admit = connection, names, admit
        self._watch = Watch(connection.servers)
        admin = connection.admin()
        require(admin, names.all(), connection.timeout_seconds)
        described = admin.describe_topics(TopicCollection([names.order]))[names.order]
        self._identity = str(described.result(connection.timeout_seconds).topic_id)
        self._is_closed = False
        self._orders = self._consumer()
        last = self._last_order()
        self._next_position = last.position + len(last) if last is not None else 0
        self._serving = last.versions if last is not None else _NOBODY

    @property
    def identity(self) -> str:
        """Kafka's own id of topic `order`: another one after it was deleted and made again."""
        return self._identity

    @property
    def next_position(self) -> int:
        """Position after the last record that was committed when this journal was opened."""
        return self._next_position

    def read(
        self, from_position: int, to_position: int | None = None, *, originals: bool = True
    ) -> Iterator[LogBatch]:
        """The records of [from_position, to_position), in order; with their originals in any case."""
        del originals
        end = self._next_position if to_position is None else min(to_position, self._next_position)
        contents = _Contents(self)
        try:
            for order, _ in self._orders_from(from_position):
                if order.position >= end:
                    return
                batch = self._admit(batch_in_order(order, contents.of(order), self._names.labels))
                cut = batch.part(from_position - batch.first_position, end - batch.first_position)
                if len(cut):
                    yield cut
        finally:
            contents.close()

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome."""
        found = next(self.outcomes(position), None) if 0 <= position < self._next_position else None
        return found[1] if found is not None and found[0] == position else None

    def find(self, transaction_id: TransactionId) -> list[tuple[int, bytes]]:
        """(position, JSON) of every outcome of a transaction, oldest first; reads all of `predictions`."""
        key = str(transaction_id).encode()
        topic = self._names.predictions
        found = sorted(
            _positioned(message)
            for partition in self._partitions(topic)
            for message in self._messages(topic, partition, 0)
            if message.key() == key
        )  # a number and its digits have one key
        return [row for row in found if orjson.loads(row[1])["transaction_id"] == transaction_id]

    def newest_decision(
        self, transaction_id: TransactionId, before_position: int | None = None
    ) -> tuple[int, bytes] | None:
        """(position, JSON) of the newest decision about a transaction; reads all of `predictions`."""
        end = self._next_position if before_position is None else before_position
        found = [
            row
            for row in self.find(transaction_id)
            if row[0] < end and orjson.loads(row[1])["outcome"] == "decision"
        ]
        return found[-1] if found else None

    def outcomes(self, from_position: int = 0) -> Iterator[tuple[int, bytes]]:
        """(position, JSON) of all outcomes from a position on."""
        if from_position >= self._next_position:
            return
        found = next(self._orders_from(from_position), None)
        moment_ms = found[1].timestamp()[1] if found is not None else 0
        streams = [
            self._since(topic, partition, moment_ms)
            for topic in (self._names.predictions, self._names.rejections)
            for partition in self._partitions(topic)
        ]
        for position, outcome in heapq.merge(*streams):
            if self._is_closed:
                return
            if from_position <= position < self._next_position:
                yield position, outcome

    def _since(self, topic: str, partition: int, moment_ms: int) -> Iterator[tuple[int, bytes]]:
        """Outcomes of a partition sent at or after a moment; an order is sent before its outcomes."""
        place = TopicPartition(topic, partition, moment_ms)
        (found,) = self._orders.offsets_for_times([place], _CALL_SECONDS)
        if found.offset < 0:
            return
        as_found = _positioned if topic == self._names.predictions else _rejected
        for message in self._messages(topic, partition, found.offset):
            yield as_found(message)

    def page(self, before_position: int | None, count: int) -> list[tuple[int, bytes]]:
        """(position, JSON) of up to `count` outcomes before a position, newest first."""
        end = self._next_position if before_position is None else min(before_position, self._next_position)
        begin = max(0, end - count)
        return list(islice(self.outcomes(begin), max(0, end - begin)))[::-1]

    def serving(self, position: int) -> Versions | None:
        """Which versions decided at a position."""
        if position < 0:
            return None
        found = next(self._orders_from(position), None) if position < self._next_position else None
        versions = found[0].versions if found is not None else self._serving
        return None if versions == _NOBODY else versions

    def close(self) -> None:
        """Give back all connections; whoever still reads is at the end."""
        self._is_closed = True
        self._orders.close()

    # Reading of topics.

    def _consumer(self) -> Consumer:
        return self._connection.consumer(
            self._watch, group_id="viewer-journal", enable_partition_eof=True,
            auto_offset_reset="earliest", fetch_wait_max_ms=20,
        )  # fmt: skip

    def _partitions(self, topic: str) -> list[int]:
        found = self._orders.list_topics(topic, timeout=_CALL_SECONDS).topics[topic]
        return sorted(found.partitions)

    def _messages(self, topic: str, partition: int, offset: int) -> Iterator[Message]:
        """What is committed in a partition from an offset on, by a consumer of its own."""
        consumer = self._consumer()
        try:
            yield from self._to_the_end(consumer, TopicPartition(topic, partition, offset))
        finally:
            consumer.close()

    def _to_the_end(self, consumer: Consumer, place: TopicPartition) -> Iterator[Message]:
        consumer.assign([place])
        while not self._is_closed:
            message = consumer.poll(_CALL_SECONDS)
            self._watch.raise_if_fatal()
            error = message.error() if message is not None else KafkaError(KafkaError._TIMED_OUT)
            if error is None and message is not None:
                if place.topic != self._names.order or not is_barrier(message):
                    yield message
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                return
            elif error is not None and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                # The group is a name only: nothing is dealt out and nothing committed.
                raise refused(error, f"'{place.topic}'")

    def _first_from(self, offset: int) -> tuple[Order, Message] | None:
        """The first order at or after an offset."""
        message = next(self._to_the_end(self._orders, TopicPartition(self._names.order, 0, offset)), None)
        return None if message is None else (Order.from_json(message.value()), message)

    def _ends(self) -> tuple[int, int]:
        place = TopicPartition(self._names.order, 0)
        low, high = self._orders.get_watermark_offsets(place, timeout=_CALL_SECONDS)
        return low, high

    def _last_order(self) -> Order | None:
        """The newest order; behind it stand only marks of transactions."""
        low, high = self._ends()
        step = 2
        while True:
            begin = max(low, high - step)
            place = TopicPartition(self._names.order, 0, begin)
            messages = list(self._to_the_end(self._orders, place))
            if messages:
                return Order.from_json(messages[-1].value())
            if begin == low:
                return None
            step *= 8

    def _orders_from(self, position: int) -> Iterator[tuple[Order, Message]]:
        """Orders from the one that holds a position on, with their messages."""
        low, high = self._ends()
        begin = low
        while high - low > 1:  # invariant: no order before `begin` holds the position or a later one
            middle = (low + high) // 2
            found = self._first_from(middle)
            if found is not None and found[0].position <= position:
                low = begin = middle
            else:
                high = middle
        for message in self._messages(self._names.order, 0, begin):
            order = Order.from_json(message.value())
            if order.position + len(order) > position:
                yield order, message


class _Contents:
    """Reads the records of orders that follow each other; one consumer for each partition."""

    def __init__(self, journal: KafkaJournal) -> None:
        self._journal = journal
        self._streams: dict[tuple[str, int], Iterator[Message]] = {}

    def of(self, order: Order) -> list[list[bytes]]:
        """The records of an order, by range."""
        return [self._range(r, count) for r, count in zip(order.ranges, order.counts, strict=True)]

    def _range(self, wanted: Range, count: int) -> list[bytes]:
        if count == 0:
            return []
        key = (wanted.topic, wanted.partition)
        if key not in self._streams:
            self._streams[key] = self._journal._messages(wanted.topic, wanted.partition, wanted.begin)
        records = []
        for message in self._streams[key]:
            offset = message.offset()
            if offset is not None and offset >= wanted.begin:
                records.append(message.value() or b"")
            if len(records) == count and offset == wanted.end - 1:
                return records
            if offset is None or offset >= wanted.end:
                break
        raise ArtefactError(
            f"Topic '{wanted.topic}' no longer holds the {count} records [{wanted.begin}, {wanted.end}) "
            f"of partition {wanted.partition}.",
            hint="Keep records as long as decisions may be questioned (ZASLON_KAFKA_RETENTION).",
        )

    def close(self) -> None:
        """Stop reading."""
        for stream in self._streams.values():
            if hasattr(stream, "close"):
                stream.close()


def _positioned(message: Message) -> tuple[int, bytes]:
    value = message.value() or b""
    position = value.partition(b'"position":')[2].partition(b",")[0]
    return int(position), value


def _rejected(message: Message) -> tuple[int, bytes]:
    rejection = as_rejection(message)
    return rejection.position, rejection.to_json()
