"""The port `LogReader` on Kafka: the stream's log read like any other, for replays and audits.

A position is found by bisecting topic `order`, outcomes by the timestamp of their order; all outcomes of
a transaction need a scan of `predictions`. Original bytes come from `input` and `labels`, for as long
as those keep them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.messages import recorded, recorded_rejection
from zaslon.adapters.cluster.kafka.order import NO_SOURCE, Order, Range, interleaved, is_barrier
from zaslon.adapters.cluster.kafka.topics import TopicNames, require
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import LogBatch, Originals, TransactionId
from zaslon.domain.outcomes import Serving, Versions
from zaslon.domain.recorded import Recorded

_CALL_SECONDS = 20.0
# An order is sent before its outcomes, but its broker may answer later, or have a clock that is ahead. A transaction has
# 30 s, and what it sends is in the log by then.
_EARLIER_MS_MAX = 60_000


def sent_ms(message: Message) -> int:
    """When the broker took a message, in milliseconds since 1970."""
    return message.timestamp()[1]


class KafkaJournal:
    """`zaslon.ports.LogReader` over the topics of a stream.

    Args:
        catalogue: whose fields the typed records have.

    Raises:
        ServerError: the broker cannot be reached or refuses us, or a topic is missing.
        ArtefactError: another version wrote the log.
    """

    def __init__(self, connection: Connection, names: TopicNames, catalogue: Catalogue) -> None:
        self._connection, self._names, self._catalogue = connection, names, catalogue
        self._watch = Watch(connection.servers)
        admin = connection.admin()
        require(admin, names.all(), connection.timeout_seconds)
        described = admin.describe_topics(TopicCollection([names.order]))[names.order]
        self._identity = str(described.result(connection.timeout_seconds).topic_id)
        self._is_closed = False
        self._orders = self._consumer()
        self._next_position = self._end = 0
        self.refresh()

    @property
    def identity(self) -> str:
        """Kafka's own id of topic `order`: a topic deleted and created again has another one."""
        return self._identity

    @property
    def next_position(self) -> int:
        """Position after the last record that was committed when this journal was opened or refreshed."""
        return self._next_position

    def refresh(self) -> bool:
        """See what was committed since; a topic that has become shorter is another one (see the port)."""
        before, (low, self._end) = self._end, self._ends()
        last = self._last_order(low, self._end)
        self._next_position = last.position + len(last) if last is not None else 0
        return self._end >= before

    def read(
        self, from_position: int, to_position: int | None = None, *, originals: bool = True
    ) -> Iterator[LogBatch]:
        """The records of [from_position, to_position), in order (see the port)."""
        end = self._next_position if to_position is None else min(to_position, self._next_position)
        raw = _RawRecords(self)
        try:
            for order, _ in self._orders_from(from_position):
                if order.position >= end:
                    return
                batch = order.batch(self._catalogue)
                if originals:
                    batch = replace(batch, originals=raw.of(order))
                part = batch.part(from_position - batch.first_position, end - batch.first_position)
                if len(part):
                    yield part
        finally:
            raw.close()

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome."""
        found = next(self.outcomes(position), None) if 0 <= position < self._next_position else None
        return found.json if found is not None and found.position == position else None

    def newest_decision(
        self, transaction_id: TransactionId, before_position: int | None = None
    ) -> Recorded | None:
        """The newest decision about a transaction; scans `predictions`."""
        end = self._next_position if before_position is None else before_position
        found = [
            outcome
            for outcome in self.find(transaction_id)
            if outcome.position < end and outcome.decided is not None
        ]
        return found[-1] if found else None

    def find(self, transaction_id: TransactionId) -> list[Recorded]:
        """Every outcome of a transaction, oldest first; scans `predictions`."""
        if isinstance(transaction_id, str) != self._catalogue.has_text_ids:
            return []
        key, topic = str(transaction_id).encode(), self._names.predictions
        found = [
            recorded(message)
            for partition in self._partitions(topic)
            for message in self._messages(topic, partition, 0)
            if message.key() == key
        ]
        return sorted(found, key=lambda outcome: outcome.position)

    def outcomes(self, from_position: int = 0) -> Iterator[Recorded]:
        """All outcomes from a position on."""
        next_position = from_position
        for earlier_ms in (0, _EARLIER_MS_MAX):
            for outcome in self._outcomes(next_position, earlier_ms):
                if outcome.position != next_position and not earlier_ms:
                    break  # one of another moment than its order is missing, or it is no longer kept
                yield outcome
                next_position = outcome.position + 1

    def _outcomes(self, from_position: int, earlier_ms: int) -> Iterator[Recorded]:
        """Those sent at most so much earlier than the order of the position."""
        if from_position >= self._next_position or self._is_closed:
            return
        found = next(self._orders_from(from_position), None)
        moment_ms = max(0, sent_ms(found[1]) - earlier_ms) if found is not None else 0
        readers = {self._names.predictions: recorded, self._names.rejections: recorded_rejection}
        streams = [
            self._since(topic, partition, moment_ms, read)
            for topic, read in readers.items()
            for partition in self._partitions(topic)
        ]
        for outcome in heapq.merge(*streams):
            if self._is_closed:
                return
            if from_position <= outcome.position < self._next_position:
                yield outcome

    def _since(
        self, topic: str, partition: int, moment_ms: int, read: Callable[[Message], Recorded]
    ) -> Iterator[Recorded]:
        """Outcomes of a partition sent at or after a moment."""
        target = TopicPartition(topic, partition, moment_ms)
        (found,) = self._orders.offsets_for_times([target], _CALL_SECONDS)
        if found.offset < 0:
            return
        yield from map(read, self._messages(topic, partition, found.offset))

    def page(self, before_position: int | None, count: int) -> list[Recorded]:
        """Up to `count` outcomes before a position, newest first."""
        end = self._next_position if before_position is None else min(before_position, self._next_position)
        begin = max(0, end - count)
        return list(takewhile(lambda found: found.position < end, self.outcomes(begin)))[::-1]

    def serving(self, position: int) -> Versions | None:
        """Which versions decided at a position; at the end of the log, those of its last record."""
        found = (
            next(self._orders_from(min(position, self._next_position - 1)), None) if position >= 0 else None
        )
        return None if found is None else found[0].versions

    def servings(self) -> Iterator[Serving]:
        """Everything that has decided, newest first; found by bisecting the number that every order names."""
        low, end = self._ends()
        while (newest := self._last_order(low, end)) is not None:
            order, message = self._first_of_number(newest.number, low, end)
            yield self._serving_from(order, message)
            end = message.offset() or 0

    def _serving_from(self, order: Order, message: Message) -> Serving:
        if NO_SOURCE not in order.source:  # the beginning of the log, or of what Kafka keeps of it
            seconds = None if order.position else sent_ms(message) // 1000
            return Serving(order.position, seconds, order.versions)
        batch = order.batch(self._catalogue)
        return Serving(order.position, int(batch.arrival_time_seconds[0]), order.versions, batch.change)

    def _first_of_number(self, number: int, low: int, end: int) -> tuple[Order, Message]:
        """The first order in offsets [low, end) of a promotion's number or a later one; there is one."""
        found: tuple[Order, Message] | None = None
        while low < end:
            middle = (low + end) // 2
            read = self._first_from(middle)
            offset = None if read is None else read[1].offset()
            if read is None or offset is None or read[0].number >= number:
                end, found = middle, read or found
            else:
                low = offset + 1
        assert found is not None
        return found

    def close(self) -> None:
        """Close all connections; reads that are still open end."""
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
        """The committed messages of a partition from an offset on, by a separate consumer."""
        consumer = self._consumer()
        try:
            yield from self._to_the_end(consumer, TopicPartition(topic, partition, offset))
        finally:
            consumer.close()

    def _to_the_end(self, consumer: Consumer, target: TopicPartition) -> Iterator[Message]:
        consumer.assign([target])
        try:
            while not self._is_closed:
                message = consumer.poll(_CALL_SECONDS)
                self._watch.raise_if_fatal()
                error = message.error() if message is not None else KafkaError(error_codes.TIMED_OUT)
                if error is None and message is not None:
                    if target.topic != self._names.order or not is_barrier(message):
                        yield message
                elif error is not None and error.code() == error_codes.PARTITION_END:
                    return
                elif error is not None and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                    # The group is a name only: nothing is assigned and nothing committed.
                    raise refused(error, f"'{target.topic}'")
        finally:
            if not self._is_closed:
                consumer.unassign()  # or it would go on fetching what nobody reads

    def _first_from(self, offset: int) -> tuple[Order, Message] | None:
        """The first order at or after an offset."""
        message = next(self._to_the_end(self._orders, TopicPartition(self._names.order, 0, offset)), None)
        return None if message is None else (Order.from_bytes(message.value()), message)

    def _ends(self) -> tuple[int, int]:
        target = TopicPartition(self._names.order, 0)
        try:
            low, high = self._orders.get_watermark_offsets(target, timeout=_CALL_SECONDS)
        except KafkaException as error:
            raise refused(error.args[0], f"'{target.topic}'") from error
        return low, high

    def _last_order(self, low: int, high: int) -> Order | None:
        """The newest order in offsets [low, high); there are transaction markers and barriers beside them."""
        step = 2
        while low < high:
            begin = max(low, high - step)
            newest = None
            for message in self._to_the_end(self._orders, TopicPartition(self._names.order, 0, begin)):
                if (message.offset() or 0) >= high:
                    break
                newest = message
            if newest is not None:
                return Order.from_bytes(newest.value())
            if begin == low:
                return None
            step *= 8
        return None

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
            order = Order.from_bytes(message.value())
            if order.position + len(order) > position:
                yield order, message


class _RawRecords:
    """Reads the original bytes of orders that follow each other; one reader for each partition."""

    def __init__(self, journal: KafkaJournal) -> None:
        self._journal = journal
        self._readers: dict[tuple[str, int], _RangeReader] = {}

    def of(self, order: Order) -> Originals | None:
        """The original bytes of an order's records; None where some are no longer kept."""
        if NO_SOURCE in order.source:
            return None
        records = [self._kept(r) for r in order.ranges]
        if list(map(len, records)) != order.counts:
            return None
        return Originals.joined(interleaved(order.source, records))

    def _kept(self, wanted: Range) -> list[bytes]:
        if wanted.records == 0:
            return []
        key = (wanted.topic, wanted.partition)
        if key not in self._readers:
            self._readers[key] = _RangeReader(self._journal._messages(*key, wanted.begin))
        return self._readers[key].read(wanted)

    def close(self) -> None:
        """Stop reading."""
        for reader in self._readers.values():
            reader.close()


class _RangeReader:
    """Reads ranges of one partition that follow each other."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self._ahead: Message | None = None  # read, and after the last range

    def read(self, wanted: Range) -> list[bytes]:
        """The records of a range that are kept."""
        records = []
        while (message := self._ahead or next(self._messages, None)) is not None:
            offset = message.offset()
            assert offset is not None
            self._ahead = message if offset >= wanted.end else None
            if offset >= wanted.end:
                break
            if offset >= wanted.begin:
                records.append(message.value() or b"")
            if offset == wanted.end - 1:  # what follows may not be there yet
                break
        return records

    def close(self) -> None:
        """Stop reading."""
        if hasattr(self._messages, "close"):
            self._messages.close()
