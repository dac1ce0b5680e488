"""Reads orders and outcomes for the gateway, and copies decisions into its store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import TopicDescription

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.messages import recorded, recorded_rejection
from zaslon.adapters.cluster.kafka.order import Order, is_barrier
from zaslon.adapters.cluster.kafka.topics import TopicNames, require
from zaslon.domain.events import TransactionId
from zaslon.domain.recorded import Recorded
from zaslon.ports import DecisionStore
from zaslon.system.isolation import fault_text, is_fault_of_ours

GROUP = "gateway"  # a name only: no partitions are assigned and no offsets committed
_FETCH_RECORDS = 2_000
# Short, for latency; the cost of longer waits was not distinguishable from the noise of a cold broker.
_FETCH_WAIT_MS = 5


@dataclass
class Arrived:
    """What one read returned: orders without their records, outcomes, and the decisions among them.

    `broken`: what failed on each message that breaks our own code; who waits for its outcome waits in vain.
    """

    orders: list[Order] = field(default_factory=list)
    outcomes: list[Recorded] = field(default_factory=list)
    decisions: list[tuple[int, TransactionId, bytes]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class OutcomeReader:
    """Reads `predictions` from where the store ends, `order` and `rejections` from now on.

    Args:
        kept_records: how far back a new store begins.

    Raises:
        ServerError: the broker cannot be reached or refuses us, or a topic is missing.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, store: DecisionStore, watch: Watch, *,
        kept_records: int,
    ) -> None:  # fmt: skip
        self._names, self._store = names, store
        self._kept_records = kept_records
        self._timeout = connection.timeout_seconds
        admin = connection.admin()
        require(admin, names.all(), self._timeout)
        described = admin.describe_topics(TopicCollection([names.predictions, names.rejections]))
        found = {name: future.result(self._timeout) for name, future in described.items()}
        self._log_id = str(found[names.predictions].topic_id)
        self._next: dict[int, int] = {}
        self._catching_up: dict[int, int] = {}  # by partition, up to which offset
        self._consumer: Consumer = connection.consumer(
            watch, group_id=GROUP, enable_partition_eof=True, auto_offset_reset="earliest",
            fetch_wait_max_ms=_FETCH_WAIT_MS, fetch_error_backoff_ms=50, fetch_queue_backoff_ms=10,
        )  # fmt: skip
        self._consumer.assign(self._targets(found))

    @property
    def is_caught_up(self) -> bool:
        """Whether the decisions that existed at the start have been read."""
        return not self._catching_up

    def _targets(self, found: dict[str, TopicDescription]) -> list[TopicPartition]:
        """Where to read. Orders last: no outcome of an order that is read later is missed."""
        targets, kept = [], self._kept()
        for partition in [p.id for p in found[self._names.rejections].partitions]:
            target = TopicPartition(self._names.rejections, partition)
            target.offset = self._ends(target)[1]
            targets.append(target)
        for partition in [p.id for p in found[self._names.predictions].partitions]:
            target = TopicPartition(self._names.predictions, partition)
            low, high = self._ends(target)
            target.offset = max(low, high - self._kept_records, kept.get(str(partition), 0))
            self._next[partition] = target.offset
            if target.offset < high:
                self._catching_up[partition] = high
            targets.append(target)
        order = TopicPartition(self._names.order, 0)
        order.offset = self._ends(order)[1]
        return [*targets, order]

    def _kept(self) -> dict[str, int]:
        """Where the store ends, by partition; a store of another log is emptied."""
        checkpoint = orjson.loads(self._store.checkpoint or b"{}")
        if checkpoint.get("log") == self._log_id:
            kept: dict[str, int] = checkpoint["next"]
            return kept
        self._store.clear()
        return {}

    def _ends(self, target: TopicPartition) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(target, timeout=self._timeout)
        except KafkaException as error:
            raise refused(error.args[0], f"'{target.topic}'") from error
        return low, high

    def read(self, wait_seconds: float) -> Arrived:
        """What has arrived, waiting for the first of it; decisions are in the store when this returns.

        Raises:
            ServerError: the broker refuses us.
        """
        arrived = Arrived()
        messages = self._consumer.consume(1, wait_seconds)
        if messages:
            messages += self._consumer.consume(_FETCH_RECORDS, 0)
        for message in messages:
            error = message.error()
            if error is None:
                self._sort_carefully(message, arrived)
            else:
                self._not_a_message(message, error)
        if arrived.decisions:
            checkpoint = {"log": self._log_id, "next": {str(p): offset for p, offset in self._next.items()}}
            self._store.keep(arrived.decisions, orjson.dumps(checkpoint))
        return arrived

    def _sort_carefully(self, message: Message, arrived: Arrived) -> None:
        try:
            self._sort(message, arrived)
        except Exception as error:
            if not is_fault_of_ours(error) or message.topic() == self._names.order:
                raise
            arrived.broken.append(fault_text(error))

    def _sort(self, message: Message, arrived: Arrived) -> None:
        if message.topic() == self._names.order:
            if not is_barrier(message):
                arrived.orders.append(replace(Order.from_bytes(message.value()), records=b""))
        elif message.topic() == self._names.rejections:
            arrived.outcomes.append(recorded_rejection(message))
        else:
            self._note_progress(message)
            outcome = recorded(message)
            arrived.outcomes.append(outcome)
            decided = outcome.decided
            if decided is not None:
                arrived.decisions.append((outcome.position, decided, outcome.json))

    def _note_progress(self, message: Message) -> None:
        offset, partition = message.offset(), message.partition()
        assert offset is not None
        assert partition is not None
        self._next[partition] = offset + 1
        # The marker of its transaction follows the last decision; the client also reports the end itself.
        if offset + 2 >= self._catching_up.get(partition, offset + 3):
            del self._catching_up[partition]

    def _not_a_message(self, message: Message, error: KafkaError) -> None:
        if error.code() == error_codes.PARTITION_END:
            partition = message.partition()
            if message.topic() == self._names.predictions and partition is not None:
                self._catching_up.pop(partition, None)
        elif error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # it is not a member of the group
        elif not error.retriable() and error.code() not in error_codes.UNREACHABLE:
            raise refused(error, f"'{message.topic()}'")

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
