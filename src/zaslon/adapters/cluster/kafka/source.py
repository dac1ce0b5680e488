"""The partitions of `input` and `labels`: fetched ahead, taken by time of arrival."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain, groupby, islice
from typing import Any

import numpy as np
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.order import Range, counts_of
from zaslon.domain.errors import ArtefactError

# How long to wait for a partition that has not reported whether it holds more.
ORDER_WAIT_SECONDS = 0.2
# Fetched and not yet taken, by partition: enough for the next batches, and bounded.
_PENDING_RECORDS_MAX = 20_000
# How often the broker is asked whether the topics have more partitions.
_GROWTH_SECONDS = 3.0
_FETCH_WAIT_MS = 20  # also the longest time until an empty partition reports that it is empty


@dataclass
class Pending:
    """What was fetched of one partition and not taken yet.

    Attributes:
        stamps: when each message arrived, in ms since 1970; never decreasing.
        next_offset: after the last message taken, or later where no record follows.
        seen_to: after the last message fetched, or later where no record follows.
        is_complete: the partition holds nothing more at this moment.
    """

    topic: str
    partition: int
    next_offset: int
    messages: list[Message] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    seen_to: int = 0
    is_complete: bool = False
    is_paused: bool = False
    high: int = 0

    @property
    def target(self) -> TopicPartition:
        """As the client names the partition."""
        return TopicPartition(self.topic, self.partition)

    def add(self, messages: Sequence[Message], now_ms: int) -> None:
        """More messages, in the order of their offsets."""
        # The broker's clock records when a message arrived; a sender's is a claim, and never of the future.
        stamps = [
            stamp if kind == TIMESTAMP_LOG_APPEND_TIME else min(stamp, now_ms) if kind else now_ms
            for kind, stamp in map(Message.timestamp, messages)
        ]
        known = self.stamps[-1:]
        self.stamps.extend(islice(accumulate(chain(known, stamps), max), len(known), None))
        self.messages.extend(messages)
        self.seen_to = _offset(messages[-1]) + 1
        self.is_complete = False

    def end_at(self, offset: int) -> None:
        """The partition ends there; between its last message and the end may be transaction markers."""
        self.is_complete = True
        self.seen_to = max(self.seen_to, offset)
        if not self.messages:
            self.next_offset = max(self.next_offset, offset)

    @property
    def horizon(self) -> float:
        """Up to which arrival everything of this partition is known."""
        if self.is_complete:
            return float("inf")
        return self.stamps[-1] if self.stamps else float("-inf")

    def range_of(self, count: int) -> Range:
        """The offsets of the first messages, with the gaps between them."""
        end = _offset(self.messages[count - 1]) + 1 if count else self.next_offset
        gaps: list[tuple[int, int]] = []
        if end - self.next_offset != count:
            expected = self.next_offset
            for offset in map(_offset, self.messages[:count]):
                if offset != expected:
                    gaps.append((expected, offset - expected))
                expected = offset + 1
        return Range(self.topic, self.partition, self.next_offset, end, tuple(gaps))

    def first(self, count: int) -> list[bytes]:
        """The contents of the first messages, an empty one for a tombstone."""
        return [message.value() or b"" for message in self.messages[:count]]

    def drop(self, count: int) -> None:
        """Take the first messages."""
        if count == 0:
            return
        last = self.messages[count - 1]
        del self.messages[:count], self.stamps[:count]
        self.next_offset = _offset(last) + 1 if self.messages else self.seen_to


def _kind_and_partition(message: Message) -> tuple[bool, str | None, int | None]:
    return message.error() is None, message.topic(), message.partition()


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


class Partitions:
    """All partitions of `labels` and `input`, read by this process alone: no group assigns them.

    Nothing is fetched before `open`: a standby needs none of it.

    Args:
        topics: in the order in which records are taken that arrived in the same millisecond.
    """

    def __init__(
        self, connection: Connection, topics: Sequence[str], group: str, watch: Watch, admin: AdminClient
    ) -> None:
        self._watch, self._topics, self._admin = watch, topics, admin
        self._timeout = connection.timeout_seconds
        self._consumer: Consumer = connection.consumer(
            watch, group_id=group, enable_partition_eof=True, auto_offset_reset="error",
            fetch_wait_max_ms=_FETCH_WAIT_MS, fetch_error_backoff_ms=100,
            queued_min_messages=_PENDING_RECORDS_MAX, queued_max_messages_kbytes=64 * 1024,
            # A full queue is checked again this soon; the default of a second starves the engine.
            fetch_queue_backoff_ms=5,
        )  # fmt: skip
        self.pending: list[Pending] = []
        self._by_partition: dict[tuple[str | None, int | None], Pending] = {}
        self._waiting_since: float | None = None
        self._described: dict[str, Future[Any]] = {}
        self._describe_at = time.monotonic() + _GROWTH_SECONDS

    def open(self, next_offsets: dict[str, int]) -> None:
        """Begin at these offsets by `topic:partition`; other partitions at the first record that is kept.

        Called again, it starts over.

        Raises:
            ServerError: a topic does not exist or may not be read.
        """
        if self.pending:
            self._consumer.resume([p.target for p in self.pending if p.is_paused])
            self._consumer.incremental_unassign([p.target for p in self.pending])
        self.pending, self._by_partition, self._waiting_since = [], {}, None
        for topic in self._topics:
            self._add_partitions(topic, next_offsets)

    def _partitions_of(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, timeout=self._timeout).topics[topic]
        if found.error is not None:
            raise refused(found.error, f"'{topic}'")
        return sorted(found.partitions)

    def _add_partitions(self, topic: str, next_offsets: dict[str, int]) -> None:
        """Read those partitions of a topic that are not read yet."""
        added, targets = [], []
        for partition in self._partitions_of(topic):
            if (topic, partition) not in self._by_partition:
                target = TopicPartition(topic, partition)
                target.offset = first = next_offsets.get(f"{topic}:{partition}", OFFSET_BEGINNING)
                if first == OFFSET_BEGINNING:
                    first = self._consumer.get_watermark_offsets(target, timeout=self._timeout)[0]
                targets.append(target)
                added.append(Pending(topic, partition, first))
        self._consumer.incremental_assign(targets)
        self.pending = sorted(
            [*self.pending, *added], key=lambda p: (self._topics.index(p.topic), p.partition)
        )
        self._by_partition = {(p.topic, p.partition): p for p in self.pending}

    def is_newest(self, next_offsets: dict[str, int]) -> bool:
        """Whether no scorer has applied records after these offsets, by `topic:partition`.

        That is known where the group has committed the same offset, which happens with each order, or
        where the partition ends there. An empty state is never the newest of a log that had orders.
        """
        targets = [TopicPartition(topic, p) for topic in self._topics for p in self._partitions_of(topic)]
        return bool(next_offsets) and all(
            next_offsets.get(f"{target.topic}:{target.partition}", OFFSET_INVALID)
            in (target.offset, self._consumer.get_watermark_offsets(target, timeout=self._timeout)[1])
            for target in self._consumer.committed(targets, self._timeout)
        )

    def look_for_more(self) -> None:
        """Read partitions that were added to the topics: asks now and then, and does not wait."""
        if self._described:
            if not all(future.done() for future in self._described.values()):
                return
            for topic, future in self._described.items():
                known = sum(p.topic == topic for p in self.pending)
                if future.exception() is None and len(future.result().partitions) > known:
                    self._grow(topic)
            self._described = {}
        elif time.monotonic() > self._describe_at:
            self._admin.poll(0)  # its events are kept until they are polled
            self._described = self._admin.describe_topics(
                TopicCollection(list(self._topics)), request_timeout=self._timeout
            )
            self._describe_at = time.monotonic() + _GROWTH_SECONDS

    def _grow(self, topic: str) -> None:
        with suppress(KafkaException):  # no leader yet, or no broker: the next look asks again
            self._add_partitions(topic, {})

    @property
    def lag_records(self) -> int:
        """Records that have arrived and were not taken."""
        return sum(max(0, p.high - p.next_offset) for p in self.pending)

    @property
    def pending_records(self) -> int:
        """Records fetched and not taken."""
        return sum(len(p.messages) for p in self.pending)

    def fetch(self, wait_seconds: float, records: int) -> None:
        """Get what has arrived; wait for the first of it at most `wait_seconds`.

        Raises:
            ServerError: the broker refuses us.
            ArtefactError: records that are needed are no longer kept.
        """
        # Twice: a paused partition resumes at half, which must not be less than what is waited for.
        self._bound(max(2 * records, _PENDING_RECORDS_MAX))
        found = self._consumer.consume(1, wait_seconds)
        if found:
            found += self._consumer.consume(records, 0)
        now_ms = time.time_ns() // 1_000_000
        for (is_message, topic, partition), run in groupby(found, _kind_and_partition):
            if is_message:
                self._by_partition[topic, partition].add(list(run), now_ms)
            else:
                for message in run:
                    self._not_a_message(message)
        if found:
            self._note_ends()
        self._watch.raise_if_fatal()

    def _not_a_message(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        if error.code() == error_codes.PARTITION_END:
            self._by_partition[message.topic(), message.partition()].end_at(_offset(message))
        elif error.code() in (error_codes.AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise ArtefactError(
                f"Topic '{message.topic()}' no longer holds the records that follow the last order.",
                hint="Keep records longer than a stop of all scorers may last (ZASLON_KAFKA_RETENTION).",
            )
        elif not error.retriable() and error.code() not in error_codes.UNREACHABLE:
            raise refused(error, f"'{message.topic()}'")

    def _note_ends(self) -> None:
        """A partition whose newest message is the last one holds nothing more at this moment."""
        for pending in self.pending:
            _, pending.high = self._consumer.get_watermark_offsets(pending.target, cached=True)
            if pending.messages and _offset(pending.messages[-1]) + 1 >= pending.high > 0:
                pending.is_complete = True

    def _bound(self, records_max: int) -> None:
        """Stop fetching partitions that run ahead of the others; resume when there is room again."""
        for pending in self.pending:
            fetched = len(pending.messages)
            if fetched >= records_max and not pending.is_paused:
                self._consumer.pause([pending.target])
                pending.is_paused = True
            elif fetched < records_max // 2 and pending.is_paused:
                self._consumer.resume([pending.target])
                pending.is_paused = False

    def by_arrival(self, records_max: int, bytes_max: int) -> NDArray[np.int64] | None:
        """Which records to take next, in the order in which they arrived.

        Nothing later is taken before something earlier that may still come from another partition.

        Returns:
            of each record the partition's index and its arrival in ms as int64[n, 2]; None if nothing
            can be taken yet. The records of a partition are its first ones.
        """
        bound = min(p.horizon for p in self.pending)
        counts = [bisect_right(p.stamps, bound) for p in self.pending]
        if not any(counts):
            if not self.pending_records or not self._waited_enough():
                return None
            counts = [len(p.stamps) for p in self.pending]
        self._waiting_since = None
        stamps = np.concatenate(
            [np.array(p.stamps[:n], np.int64) for p, n in zip(self.pending, counts, strict=True)]
        )
        source = np.repeat(np.arange(len(counts)), counts)
        by_time = np.lexsort((source, stamps))
        taken = self._fitting(source[by_time], records_max, bytes_max)
        return np.stack([source[by_time], stamps[by_time]], axis=1)[:taken]

    def _waited_enough(self) -> bool:
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        return now - self._waiting_since > ORDER_WAIT_SECONDS

    def _fitting(self, source: NDArray[np.int64], records_max: int, bytes_max: int) -> int:
        """How many of the records fit into a micro-batch; at least one."""
        parts = [iter(p.messages) for p in self.pending]
        lengths = [len(next(parts[s])) for s in source[:records_max].tolist()]
        return max(1, int(np.searchsorted(np.cumsum(lengths), bytes_max, side="right")))

    def counts_of(self, source: NDArray[np.int64]) -> list[int]:
        """Records of each partition, given the partition of each record."""
        return counts_of(source, len(self.pending))

    def ranges_of(self, counts: Sequence[int]) -> tuple[Range, ...]:
        """The offsets of the first messages, so many of each partition."""
        return tuple(p.range_of(n) for p, n in zip(self.pending, counts, strict=True))

    def first(self, counts: Sequence[int]) -> list[list[bytes]]:
        """The contents of the first messages, so many of each partition."""
        return [p.first(n) for p, n in zip(self.pending, counts, strict=True)]

    def drop(self, counts: Sequence[int]) -> None:
        """Take the first messages, so many of each partition."""
        for pending, count in zip(self.pending, counts, strict=True):
            pending.drop(count)

    def close(self) -> None:
        """Stop fetching."""
        self._consumer.close()
