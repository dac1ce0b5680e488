"""Reads topic `order` from an offset on, and notices where it ends."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import KafkaError, Message, TopicPartition

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.order import Order, is_barrier
from zaslon.domain.errors import ArtefactError


class OrderReader:
    """The messages of topic `order`, one after the other.

    Attributes:
        next_offset: where the next message is read.
        is_at_end: all messages were read, and no transaction is open after them.
    """

    def __init__(self, connection: Connection, topic: str, group: str, watch: Watch) -> None:
        self._topic, self._timeout = topic, connection.timeout_seconds
        self._consumer = connection.consumer(
            watch, group_id=group, enable_partition_eof=True, auto_offset_reset="error",
            fetch_wait_max_ms=50, fetch_error_backoff_ms=100,
        )  # fmt: skip
        self.next_offset = 0
        self.is_at_end = self._is_hidden = False

    def open(self, offset: int, is_newest: Callable[[], bool]) -> None:
        """Read from this offset on; from the first that is kept if nothing was recorded since.

        Transaction markers follow the last order. When retention deletes everything, it deletes them too.

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
        """Whether the topic continues after what may be read; true once for each time that it was seen."""
        is_hidden, self._is_hidden = self._is_hidden, False
        return is_hidden

    def next(self, wait_seconds: float) -> Order | None:
        """The next message, or None if none has come.

        Raises:
            ArtefactError: it was deleted, or cannot be read.
            ServerError: the broker refuses us.
        """
        message = self._consumer.poll(wait_seconds)
        if message is None:
            return None
        error = message.error()
        if error is None:
            offset = message.offset()
            assert offset is not None
            self.next_offset = offset + 1
            return None if is_barrier(message) else Order.from_bytes(message.value())
        if error.code() == error_codes.PARTITION_END:
            self._note_end(message)
        elif error.code() in (error_codes.AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise self._deleted()
        elif not error.retriable() and error.code() != error_codes.ALL_BROKERS_DOWN:
            raise refused(error, f"'{self._topic}'")
        return None

    def _note_end(self, message: Message) -> None:
        """The end of what may be read is the end of the topic only if no transaction is open there."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), cached=True)
        offset = message.offset()
        assert offset is not None
        self.is_at_end, self._is_hidden = offset >= high, offset < high

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
