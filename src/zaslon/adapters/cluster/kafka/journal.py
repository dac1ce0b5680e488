"""The port `Journal` on Kafka: the stream's log read like any other, and fed from files.

Reading is for replays and audits: an order is found by halving topic `order`, the outcomes by the
moment of their order; all outcomes of a transaction need a look through `predictions`.
Recording sends the records into `input` and `labels` first, in the same transaction. Nobody else
may send to these topics meanwhile. It shuts out the scorers of the group before its first record; one
that takes over afterwards shuts it out: never do both go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import orjson
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)

from zaslon.adapters.cluster.kafka.commit import as_rejection, send_outcomes, transactional_ids
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.order import Order, Range, batch_in_order, is_barrier
from zaslon.adapters.cluster.kafka.topics import REJECTION_BYTES_MAX, TopicNames, require
from zaslon.domain.errors import ArtefactError, DataError
from zaslon.domain.events import Kind, RecordBatch, TransactionId
from zaslon.domain.outcomes import Outcome, Rejection, Versions

_CALL_SECONDS = 20.0
_NOBODY = Versions("none", "none", "none", 0)
_KIND_BITS = np.uint8(15)  # of a record's byte in `RecordBatch.kinds`; above them stands what was left out


class KafkaJournal:
    """`zaslon.ports.Journal` over the topics of a stream.

    Args:
        group: of the scorers; all who record into its log use the same transactional ids, so only one can.

    Raises:
        ServerError: the broker cannot be reached or refuses us, or a topic is missing.
    """

    def __init__(self, connection: Connection, names: TopicNames, group: str) -> None:
        self._connection, self._names, self._group = connection, names, group
        self._watch = Watch(connection.servers)
        admin = connection.admin()
        require(admin, names.all(), connection.timeout_seconds)
        described = admin.describe_topics(TopicCollection([names.order]))[names.order]
        self._identity = str(described.result(connection.timeout_seconds).topic_id)
        self._producer: Producer | None = None
        self._is_closed = False
        self._orders = self._consumer()
        self._last = self._last_order()
        self._next_position = _end_of(self._last)
        self._cursors = dict(self._last.cursors) if self._last is not None else {}
        self._serving = self._last.versions if self._last is not None else _NOBODY

    @property
    def identity(self) -> str:
        """Kafka's own id of topic `order`: another one after it was deleted and made again."""
        return self._identity

    @property
    def next_position(self) -> int:
        """Position after the last record that was committed when this journal was opened."""
        return self._next_position

    def record(
        self, batch: RecordBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None
    ) -> list[bytes]:
        """Send records, order and outcomes in one transaction (see the port)."""
        if batch.first_position != self._next_position or len(outcomes) != len(batch):
            raise ValueError("the batch does not continue the log, or lacks outcomes")
        recorded = [outcome.to_json() for outcome in outcomes]  # what cannot be written raises here
        if not recorded and cursor is None:
            return recorded
        cursors = self._cursors if cursor is None else {**self._cursors, cursor[0]: cursor[1]}
        producer = self._writer()
        try:
            producer.begin_transaction()
            order = self._send_records(producer, batch, cursors)
            producer.produce(self._names.order, order.to_json(), partition=0)
            originals = {o.position: o.raw for o in outcomes if isinstance(o, Rejection)}
            send_outcomes(producer, self._names, outcomes, originals, REJECTION_BYTES_MAX)
            producer.commit_transaction(_CALL_SECONDS)
        except (KafkaException, DataError) as error:
            self._producer = None  # a new one aborts what this one began
            if isinstance(error, KafkaException):
                raise refused(error.args[0], "the transaction of a batch") from error
            raise
        self._last, self._cursors = order, cursors
        self._next_position += len(batch)
        return recorded

    def _writer(self) -> Producer:
        """Who records from now on; nobody else can, so the end that is read then stays the end.

        Raises:
            DataError: the log goes on behind what this journal knows.
        """
        if self._producer is None:
            producer, other = (self._open_producer(name) for name in transactional_ids(self._group))
            other.close()
            end = _end_of(self._last_order())
            if end != self._next_position:
                raise DataError(
                    f"The log goes on to position {end}; position {self._next_position} was to be recorded.",
                    hint="Somebody else has recorded into it meanwhile, or a batch whose end was not heard: "
                    "open the journal again.",
                )
            self._producer = producer
        return self._producer

    def _open_producer(self, transactional_id: str) -> Producer:
        producer = self._connection.producer(
            self._watch, transactional_id=transactional_id, compression_type="lz4",
            message_max_bytes=REJECTION_BYTES_MAX, retry_backoff_ms=2, retry_backoff_max_ms=20,
            queue_buffering_max_messages=0,  # no limit: a batch has one
        )  # fmt: skip
        producer.init_transactions(_CALL_SECONDS)
        return producer

    def _send_records(self, producer: Producer, batch: RecordBatch, cursors: dict[str, int]) -> Order:
        """The batch into `input` and `labels`; the order that says where it went."""
        is_label = (batch.kinds & _KIND_BITS) == Kind.LABEL_JSON
        offsets: dict[str, list[int]] = {self._names.labels: [], self._names.input: []}

        def note(error: KafkaError | None, message: Message) -> None:
            topic, offset = message.topic(), message.offset()
            if error is None and topic is not None and offset is not None:
                offsets[topic].append(offset)

        for index, label in enumerate(is_label.tolist()):
            topic = self._names.labels if label else self._names.input
            producer.produce(topic, batch.raw(index), partition=0, on_delivery=note)
        producer.flush(_CALL_SECONDS)
        ranges = tuple(self._range(topic, found) for topic, found in offsets.items())
        if sum(map(len, offsets.values())) != len(batch):
            raise DataError("The broker has not taken all records of a batch.")
        return Order(
            batch.first_position, ranges, np.where(is_label, 0, 1).astype(np.int64),
            batch.arrival_time_seconds, self._serving, self._identity, batch.kinds, cursors,
        )  # fmt: skip

    def _range(self, topic: str, offsets: list[int]) -> Range:
        if not offsets:
            ends = [r.end for r in self._last.ranges if r.topic == topic] if self._last is not None else [0]
            return Range(topic, 0, ends[0], ends[0])
        if offsets[-1] - offsets[0] + 1 != len(offsets):
            raise DataError(
                f"Somebody else sends to topic '{topic}' while records of a file are recorded there.",
                hint="Let only one of them send.",
            )
        return Range(topic, 0, offsets[0], offsets[-1] + 1)

    def read(self, from_position: int, to_position: int | None = None) -> Iterator[RecordBatch]:
        """The records of [from_position, to_position), in order."""
        end = self._next_position if to_position is None else min(to_position, self._next_position)
        contents = _Contents(self)
        try:
            for order, _ in self._orders_from(from_position):
                if order.position >= end:
                    return
                batch = batch_in_order(order, contents.of(order), self._names.labels)
                cut = _cut(batch, from_position, end)
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

    def possibly_known(self, transaction_ids: Sequence[TransactionId]) -> set[TransactionId]:
        """Which of these transactions have outcomes; reads all of `predictions`."""
        wanted = {str(identifier).encode(): identifier for identifier in transaction_ids}
        topic = self._names.predictions
        return {
            wanted[key]
            for partition in self._partitions(topic)
            for message in self._messages(topic, partition, 0)
            if (key := message.key()) in wanted
        }

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

    def cursor(self, source: str) -> int:
        """How many records of a source are done."""
        return self._cursors.get(source, 0)

    def serve(self, versions: Versions) -> None:
        """Note which versions decide from the next position on; kept with the next batch."""
        self._serving = versions

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
        if self._producer is not None:
            self._producer.close()

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


def _end_of(last: Order | None) -> int:
    return last.position + len(last) if last is not None else 0


def _positioned(message: Message) -> tuple[int, bytes]:
    value = message.value() or b""
    position = value.partition(b'"position":')[2].partition(b",")[0]
    return int(position), value


def _rejected(message: Message) -> tuple[int, bytes]:
    rejection = as_rejection(message)
    return rejection.position, rejection.to_json()


def _cut(batch: RecordBatch, begin: int, end: int) -> RecordBatch:
    part = slice(max(begin - batch.first_position, 0), max(0, min(end - batch.first_position, len(batch))))
    return replace(
        batch, first_position=batch.first_position + part.start, kinds=batch.kinds[part],
        arrival_time_seconds=batch.arrival_time_seconds[part], starts=batch.starts[part],
        lengths=batch.lengths[part],
    )  # fmt: skip
