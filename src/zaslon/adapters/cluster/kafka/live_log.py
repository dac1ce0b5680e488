"""The port `Stream` on Kafka: follow what was recorded, take over, take new records, record them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from zaslon.adapters.cluster.kafka.commit import Committer, Work
from zaslon.adapters.cluster.kafka.connection import (
    Connection,
    Notify,
    UnreachableError,
    Watch,
    ignore_notice,
    refused,
)
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.order import Order, batch_in_order, is_barrier
from zaslon.adapters.cluster.kafka.source import Partitions
from zaslon.adapters.cluster.kafka.topics import TopicNames, bytes_max, require
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import RecordBatch
from zaslon.domain.outcomes import Outcome, Rejection, Versions
from zaslon.ports import SupersededError

_IDLE_SECONDS = 0.1  # how long nothing new is waited for at a time
_AGAIN_SECONDS = 0.2  # between two attempts to begin
_UNDECIDED = Versions("none", "none", "none", 0)


@dataclass(frozen=True)
class Limits:
    """Of a micro-batch: records, bytes, and for how many ms one that is not full waits for more."""

    records: int
    bytes: int
    wait_ms: int


class KafkaStream:
    """`zaslon.ports.Stream`: topics `input` and `labels` folded in the order of topic `order`.

    Args:
        group: of the scorers; their transactional ids begin with it.
        say: told in a sentence what people should know, for example that the broker is away.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, group: str, limits: Limits, *,
        session_timeout_seconds: float, say: Notify = ignore_notice,
    ) -> None:  # fmt: skip
        self._connection, self._names, self._group, self._limits = connection, names, group, limits
        self._session_timeout_seconds, self._say = session_timeout_seconds, say
        self._committer: Committer | None = None
        self._parts: _Parts | None = None
        self._checkpoint: dict[str, Any] = {}
        self._position = 0
        self._taken: deque[Order] = deque()
        self._rejection_bytes_max = 0
        self._was_open = False

    def open(self, checkpoint: bytes) -> None:
        """Begin at a place (see the port)."""
        self.close()
        self._checkpoint = orjson.loads(checkpoint)
        self._position = int(self._checkpoint.get("position", 0))
        self._taken.clear()
        try:
            self._connect_with_retries()
        except UnreachableError as error:
            if not self._was_open:
                raise
            # Who has been there before waits for a broker as a standby.
            raise SupersededError("no broker answers") from error
        self._was_open = True

    def _connect_with_retries(self) -> None:
        """A broker that has just started does not know yet what it leads."""
        end = time.monotonic() + self._connection.timeout_seconds
        while True:
            try:
                self._connect()
            except (KafkaException, UnreachableError) as error:
                found = (
                    error
                    if isinstance(error, UnreachableError)
                    else refused(error.args[0], "the stream's topics")
                )
                if not isinstance(found, UnreachableError) or time.monotonic() > end:
                    raise found from error
            else:
                return
            self.close()
            time.sleep(_AGAIN_SECONDS)

    def _connect(self) -> None:
        watch, admin = Watch(self._connection.servers, self._say), self._connection.admin()
        require(admin, self._names.all(), self._connection.timeout_seconds)
        self._rejection_bytes_max = bytes_max(admin, self._names.rejections, self._connection.timeout_seconds)
        self._parts = _Parts(
            watch,
            Partitions(self._connection, (self._names.labels, self._names.input), self._group, watch, admin),
            _OrderReader(self._connection, self._names.order, self._group, watch),
            Leadership(
                self._connection, self._names.order, self._group, self._session_timeout_seconds, watch
            ),
        )
        folded_to = self._checkpoint.get("next", {})
        self._parts.partitions.open(folded_to)
        self._parts.orders.open(
            int(self._checkpoint.get("order", 0)), lambda: self._open.partitions.is_newest(folded_to)
        )

    @property
    def _open(self) -> _Parts:
        if self._parts is None:
            raise ValueError("the stream is not open")
        return self._parts

    def replay(self, is_over: Callable[[], bool]) -> Iterator[RecordBatch | None]:
        """What was recorded after the place (see the port)."""
        parts = self._open
        while not is_over():
            parts.leadership.poll()
            if parts.leadership.is_ours and self._committer is None:
                self._take_over(is_over)
            order = parts.orders.next(_IDLE_SECONDS if self._committer is None else 0.01)
            if order is not None:
                yield from self._recorded(order, is_over)
            elif self._committer is not None and parts.orders.is_at_end:
                return
            elif self._committer is not None and parts.orders.take_hidden():
                self._committer.commit_barrier()
            else:
                yield None

    def _take_over(self, is_over: Callable[[], bool]) -> None:
        """Shut out whoever decided before; what it recorded can then be read to its end."""
        self._committer = Committer(
            self._connection, self._names, self._group, self._open.leadership, self._open.watch,
            committed=self._note_committed, is_over=is_over,
            rejection_bytes_max=self._rejection_bytes_max,
        )  # fmt: skip
        self._open.orders.look_again()

    def _recorded(self, order: Order, is_over: Callable[[], bool]) -> Iterator[RecordBatch]:
        self._check(order)
        parts = self._open
        while (records := parts.partitions.as_recorded(order)) is None:
            if is_over():
                return
            parts.partitions.fetch(_IDLE_SECONDS, max(order.counts))
            parts.leadership.poll()
        self._note_committed(order, parts.orders.next_offset)
        self._position += len(order)
        yield batch_in_order(order, records, self._names.labels)

    def _check(self, order: Order) -> None:
        if order.history != self._checkpoint["history"]:
            raise ArtefactError(
                f"The log in topic '{self._names.order}' began from state {order.history}, "
                f"ours from {self._checkpoint['history']}.",
                hint="Share the snapshots of the scorer that began it, or begin with new topics.",
            )
        if order.position != self._position:
            raise ArtefactError(
                f"Topic '{self._names.order}' goes on at log position {order.position}, "
                f"our state ends at {self._position}.",
                hint="Use a newer snapshot: the messages between them are no longer kept.",
            )

    def take(self, is_over: Callable[[], bool]) -> Iterator[RecordBatch]:
        """New records in micro-batches (see the port)."""
        parts = self._open
        while not is_over():
            parts.leadership.poll()
            if self._committer is None or not parts.leadership.is_ours:
                raise SupersededError("another scorer has taken over")
            self._committer.raise_if_failed()
            batch = self._next_batch(parts.partitions)
            if batch is not None:
                yield batch

    def _next_batch(self, partitions: Partitions) -> RecordBatch | None:
        limits = self._limits
        partitions.look_for_more()
        partitions.fetch(0.0 if partitions.pending_records else _IDLE_SECONDS, limits.records)
        end = time.monotonic() + limits.wait_ms / 1000
        while 0 < partitions.pending_records < limits.records:
            left = end - time.monotonic()
            if left <= 0:
                break
            partitions.fetch(left, limits.records)
        found = partitions.by_arrival(limits.records, limits.bytes)
        if found is None:
            return None
        counts, chosen = found
        order = Order(
            self._position, partitions.ranges_of(counts), chosen[:, 0], chosen[:, 1] // 1000,
            _UNDECIDED, self._checkpoint["history"],
        )  # fmt: skip
        self._position += len(order)
        self._taken.append(order)
        return batch_in_order(order, partitions.drop(counts), self._names.labels)

    def record(self, batch: RecordBatch, outcomes: Sequence[Outcome], versions: Versions) -> None:
        """Hand over a batch with its outcomes (see the port)."""
        order = self._taken.popleft()
        if batch.first_position != order.position or len(outcomes) != len(order):
            raise ValueError("the batch is not the one that was taken, or lacks outcomes")
        originals = {
            o.position: batch.raw(o.position - order.position) for o in outcomes if isinstance(o, Rejection)
        }
        assert self._committer is not None
        order = replace(order, versions=versions, arrival_time_seconds=batch.arrival_time_seconds)
        self._committer.submit(Work(order, outcomes, originals))

    def settle(self) -> None:
        """Wait until everything is durable (see the port)."""
        if self._committer is not None:
            self._committer.settle()

    def _note_committed(self, order: Order, order_offset: int) -> None:
        self._checkpoint = {
            "history": order.history,
            "position": order.position + len(order),
            "order": order_offset,
            "next": {f"{r.topic}:{r.partition}": r.end for r in order.ranges},
        }

    @property
    def checkpoint(self) -> bytes:
        """Where the log is (see the port)."""
        return orjson.dumps(self._checkpoint)

    @property
    def lag_records(self) -> int:
        """Records that have arrived and were not taken yet."""
        return self._open.partitions.lag_records

    @property
    def commit_seconds(self) -> float:
        """How long the newest commit took."""
        return self._committer.seconds if self._committer is not None else 0.0

    def close(self) -> None:
        """Leave the group and give back all connections."""
        if self._committer is not None:
            self._committer.close()
            self._committer = None
        if self._parts is not None:
            self._parts.close()
            self._parts = None


@dataclass(frozen=True)
class _Parts:
    """The clients of one life of the stream."""

    watch: Watch
    partitions: Partitions
    orders: _OrderReader
    leadership: Leadership

    def close(self) -> None:
        self.leadership.close()
        self.partitions.close()
        self.orders.close()


class _OrderReader:
    """Reads topic `order` from an offset on."""

    def __init__(self, connection: Connection, topic: str, group: str, watch: Watch) -> None:
        self._topic, self._timeout = topic, connection.timeout_seconds
        self._consumer = connection.consumer(
            watch, group_id=group, enable_partition_eof=True, auto_offset_reset="error",
            fetch_wait_max_ms=50, fetch_error_backoff_ms=100,
        )  # fmt: skip
        self.next_offset = 0
        self.is_at_end = self._is_hidden = False

    def open(self, offset: int, is_newest: Callable[[], bool]) -> None:
        """Read from this offset on; from the first that is kept if nothing was folded since.

        Behind the last order stand marks of transactions. When all is deleted for its age, so are they.

        Raises:
            ArtefactError: orders were deleted that may be needed.
        """
        partition = TopicPartition(self._topic, 0)
        first, _ = self._consumer.get_watermark_offsets(partition, timeout=self._timeout)
        if offset < first and not is_newest():
            raise self._deleted()
        self.next_offset = max(offset, first)
        self.look_again()

    def _deleted(self) -> ArtefactError:
        return ArtefactError(
            f"Topic '{self._topic}' no longer holds what follows the snapshot.",
            hint="Use a newer snapshot, and keep records longer (ZASLON_KAFKA_RETENTION).",
        )

    def look_again(self) -> None:
        """Forget that the end was seen: it may have moved."""
        self.is_at_end = self._is_hidden = False
        self._consumer.assign([TopicPartition(self._topic, 0, self.next_offset)])

    def take_hidden(self) -> bool:
        """Whether the topic goes on behind what may be read; true once for each time that it was seen."""
        is_hidden, self._is_hidden = self._is_hidden, False
        return is_hidden

    def next(self, wait_seconds: float) -> Order | None:
        """The next message, or None if none has come."""
        message = self._consumer.poll(wait_seconds)
        if message is None:
            return None
        error = message.error()
        if error is None:
            offset = message.offset()
            assert offset is not None
            self.next_offset = offset + 1
            return None if is_barrier(message) else Order.from_json(message.value())
        if error.code() == KafkaError._PARTITION_EOF:
            self._note_end(message)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise self._deleted()
        elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
            raise refused(error, f"'{self._topic}'")
        return None

    def _note_end(self, message: Message) -> None:
        """The end of what may be read is the end of the topic only if no transaction is open there."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), cached=True)
        offset = message.offset()
        assert offset is not None
        self.is_at_end, self._is_hidden = offset >= high, offset < high

    def close(self) -> None:
        self._consumer.close()
