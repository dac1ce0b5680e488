"""The port `Stream` on Kafka: replay what was recorded, take over, take new records, record them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from zaslon.adapters.cluster.kafka.commit import HEADROOM_BYTES, Committer, Work
from zaslon.adapters.cluster.kafka.connection import (
    CLOSE_SECONDS,
    Connection,
    Notify,
    UnreachableError,
    Watch,
    close_within,
    ignore_notice,
    refused,
)
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.messages import rejection_messages
from zaslon.adapters.cluster.kafka.order import NO_SOURCE, Order, interleaved, raw_batch
from zaslon.adapters.cluster.kafka.order_reader import OrderReader
from zaslon.adapters.cluster.kafka.source import Partitions
from zaslon.adapters.cluster.kafka.topics import MessageLimits, TopicNames, message_limits, require
from zaslon.admission import as_engine_error, writable
from zaslon.admission.log_format import encode
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Int64, Kind, LogBatch, RecordBatch
from zaslon.domain.outcomes import Outcome, Versions
from zaslon.engine import ENGINE_VERSION
from zaslon.intake.examples import example_record
from zaslon.intake.ordinary import ordinary_records
from zaslon.ports.streams import SupersededError
from zaslon.system.isolation import by_halves, is_fault_of_ours

_IDLE_SECONDS = 0.1  # the longest wait for something new
_AGAIN_SECONDS = 0.2  # between two attempts to connect
_UNDECIDED = Versions("none", "none", "none", 0)  # until the batch is recorded


@dataclass(frozen=True)
class Limits:
    """Of a micro-batch: raw bytes, and for how many ms one that is not full waits for more."""

    bytes: int
    wait_ms: int


class KafkaStream:
    """`zaslon.ports.Stream`: the records of `input` and `labels`, in the order of topic `order`.

    Args:
        group: of the scorers; their transactional ids begin with it.
        catalogue: whose fields the typed records have.
        takeover_from_engine: which other engine version's log this scorer may take over.
        notify: called with sentences for people, for example that the broker is unreachable.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, group: str, catalogue: Catalogue, limits: Limits, *,
        session_timeout_seconds: float, takeover_from_engine: int | None = None,
        notify: Notify = ignore_notice,
    ) -> None:  # fmt: skip
        self._connection, self._names, self._group, self._limits = connection, names, group, limits
        self._takeover_from_engine = takeover_from_engine
        self._catalogue, self._notify = catalogue, notify
        self._session_timeout_seconds = session_timeout_seconds
        self._committer: Committer | None = None
        self._clients: _Clients | None = None
        self._checkpoint: dict[str, Any] = {}
        self._position = 0
        self._taken: _Taken | None = None
        self._was_open = False

    def open(self, checkpoint: bytes) -> None:
        """Begin at a saved state, as a standby (see the port)."""
        self.close()
        self._begin_at(checkpoint)
        try:
            self._connect_with_retries()
        except UnreachableError as error:
            if not self._was_open:
                raise
            # A scorer that was connected before is a standby until a broker is back.
            raise SupersededError("no broker answers") from error
        self._was_open = True

    def _begin_at(self, checkpoint: bytes) -> None:
        self._checkpoint = orjson.loads(checkpoint)
        self._position = int(self._checkpoint.get("position", 0))
        self._taken = None

    def _connect_with_retries(self) -> None:
        """A broker that has just started does not know yet which partitions it leads."""
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
        connection, names, group = self._connection, self._names, self._group
        watch, admin = Watch(connection.servers, self._notify), connection.admin()
        require(admin, names.all(), connection.timeout_seconds)
        self._clients = _Clients(
            watch,
            message_limits(admin, names, connection.timeout_seconds),
            Partitions(connection, (names.labels, names.input), group, watch, admin),
            OrderReader(connection, names.order, group, watch),
            Leadership(connection, names.order, group, self._session_timeout_seconds, watch),
        )
        self._read_orders(self._checkpoint)

    def _read_orders(self, checkpoint: dict[str, Any]) -> None:
        partitions, next_offsets = self._open.partitions, checkpoint.get("next", {})
        self._open.orders.open(int(checkpoint.get("order", 0)), lambda: partitions.is_newest(next_offsets))

    @property
    def _open(self) -> _Clients:
        if self._clients is None:
            raise ValueError("the stream is not open")
        return self._clients

    def replay(self, is_over: Callable[[], bool]) -> Iterator[LogBatch | None]:
        """What was recorded after the saved state (see the port)."""
        clients = self._open
        while not is_over():
            clients.leadership.poll()
            if clients.leadership.is_ours and self._committer is None:
                self._take_over(is_over)
            order = clients.orders.next(_IDLE_SECONDS if self._committer is None else 0.01)
            if order is not None:
                yield self._recorded(order)
                continue
            is_at_end = clients.orders.is_at_end
            if is_at_end:
                self._check_engine()
            if self._committer is not None and is_at_end:
                self._say_if_another_engine_decided()
                return
            if self._committer is not None and clients.orders.take_hidden():
                self._committer.commit_barrier()
            else:
                yield None

    def _take_over(self, is_over: Callable[[], bool]) -> None:
        """Fence the scorer that decided before; what it recorded can then be read to its end."""
        self._committer = Committer(
            self._connection, self._names, self._group, self._open.leadership, self._open.watch,
            committed=self._note_committed, is_over=is_over, limits=self._open.limits,
        )  # fmt: skip
        self._open.orders.look_again()

    def recorded_since(self, checkpoint: bytes, is_over: Callable[[], bool]) -> Iterator[LogBatch]:
        """Everything recorded after a saved state (see the port)."""
        self.settle()
        saved, clients = orjson.loads(checkpoint), self._open
        position, end = int(saved.get("position", 0)), int(self._checkpoint.get("position", 0))
        with _standing_by_without_broker():
            self._read_orders(saved)
        while position < end:
            clients.leadership.poll()
            if not clients.leadership.is_ours or is_over():
                break
            order = clients.orders.next(_IDLE_SECONDS)
            if order is not None:
                yield order.batch(self._catalogue)
                position += len(order)
        if position != end:
            raise SupersededError("the scorer stops" if is_over() else "another scorer has taken over")

    def _recorded(self, order: Order) -> LogBatch:
        self._check(order)
        batch = order.batch(self._catalogue)
        self._note_committed(order, self._open.orders.next_offset)
        self._position += len(order)
        return batch

    def _check(self, order: Order) -> None:
        if order.history != self._checkpoint["history"]:
            raise ArtefactError(
                f"The log in topic '{self._names.order}' began from state {order.history}, "
                f"ours from {self._checkpoint['history']}.",
                hint="Share the snapshots of the scorer that began it, or begin with new topics.",
            )
        if order.position != self._position:
            raise ArtefactError(
                f"Topic '{self._names.order}' continues at log position {order.position}, "
                f"our state ends at {self._position}.",
                hint="Use a newer snapshot: the messages between them are no longer kept.",
            )

    @property
    def _engine_before(self) -> int:
        """The engine version of the newest batch; ours where there is none."""
        return int(self._checkpoint.get("engine", ENGINE_VERSION))

    def _check_engine(self) -> None:
        """Refuse, at the end of the log, to continue what another engine version decides."""
        if self._engine_before not in (ENGINE_VERSION, self._takeover_from_engine):
            raise ArtefactError(
                f"The log in topic '{self._names.order}' is decided by engine version {self._engine_before}; "
                f"this scorer has engine version {ENGINE_VERSION}, which may give other bytes.",
                hint="Use a release of that engine version; or to upgrade, name the version to take over from: "
                f"ZASLON_STREAM_TAKEOVER_FROM_ENGINE={self._engine_before}.",
            )

    def _say_if_another_engine_decided(self) -> None:
        if self._engine_before != ENGINE_VERSION:
            self._notify(
                f"Engine version {ENGINE_VERSION} decides from position {self._position} on; before it was "
                f"engine version {self._engine_before}."
            )

    def take(
        self, admit: Callable[[RecordBatch], LogBatch], records_max: int, is_over: Callable[[], bool]
    ) -> Iterator[LogBatch | None]:
        """New records in micro-batches (see the port)."""
        clients = self._open
        with _standing_by_without_broker():
            clients.partitions.open(self._checkpoint.get("next", {}))
        while not is_over():
            clients.leadership.poll()
            if self._committer is None or not clients.leadership.is_ours:
                raise SupersededError("another scorer has taken over")
            self._committer.raise_if_failed()
            chosen = self._arrived(clients.partitions, records_max)
            yield None if chosen is None else self._taken_of(clients, chosen, admit)

    def _arrived(self, partitions: Partitions, records_max: int) -> NDArray[np.int64] | None:
        """Which records come next, by `Partitions.by_arrival`."""
        partitions.look_for_more()
        partitions.fetch(0.0 if partitions.pending_records else _IDLE_SECONDS, records_max)
        end = time.monotonic() + self._limits.wait_ms / 1000
        while 0 < partitions.pending_records < records_max:
            left = end - time.monotonic()
            if left <= 0:
                break
            partitions.fetch(left, records_max)
        return partitions.by_arrival(records_max, self._limits.bytes)

    def _taken_of(
        self, clients: _Clients, chosen: NDArray[np.int64], admit: Callable[[RecordBatch], LogBatch]
    ) -> LogBatch:
        """Admit records, and take as many as fit into a message: all of them, or half until they fit."""
        partitions, bytes_max = clients.partitions, clients.limits.order_bytes - HEADROOM_BYTES
        source, arrival_time_seconds = chosen[:, 0], chosen[:, 1] // 1000
        is_labels = [p.topic == self._names.labels for p in partitions.pending]
        records = partitions.first(partitions.counts_of(source))
        batch = self._admitted(source, is_labels, arrival_time_seconds, interleaved(source, records), admit)
        try:
            order = self._order(partitions, source, batch)
        except Exception as error:
            if not is_fault_of_ours(error):
                raise
            batch = self._writable(batch, admit)
            order = self._order(partitions, source, batch)
        while len(order.to_bytes()) > bytes_max and len(batch) > 1:
            batch = batch.part(0, len(batch) // 2)
            order = self._order(partitions, source[: len(batch)], batch)
        self._taken = _Taken(batch, order)
        return batch

    def _admitted(
        self, source: Int64, is_labels: Sequence[bool], arrival_time_seconds: Int64, bodies: Sequence[bytes],
        admit: Callable[[RecordBatch], LogBatch],
    ) -> LogBatch:  # fmt: skip
        """Typed records; one that breaks our own code before admission is an `engine_error`."""

        def raw(bodies: Sequence[bytes], begin: int, end: int) -> RecordBatch:
            rows = slice(begin, end)
            return raw_batch(
                self._position + begin, source[rows], is_labels, arrival_time_seconds[rows], bodies
            )

        def alone(index: int, error: Exception) -> LogBatch:
            try:
                raw([example_record(self._catalogue)], index, index + 1)
            except Exception:  # noqa: BLE001  the first error is more useful
                raise error from None
            kind = Kind.LABEL_JSON if is_labels[source[index]] else Kind.TRANSACTION_LINE
            arrival = [int(arrival_time_seconds[index])]
            record = RecordBatch.of([bodies[index]], [kind], arrival, self._position + index)
            return as_engine_error(record, admit, error)

        parts = by_halves(lambda begin, end: admit(raw(bodies[begin:end], begin, end)), len(bodies), alone)
        return parts[0] if len(parts) == 1 else LogBatch.concatenate(parts)

    def _writable(self, batch: LogBatch, admit: Callable[[RecordBatch], LogBatch]) -> LogBatch:
        catalogue = self._catalogue
        return writable(
            batch, lambda part: encode(part, catalogue), lambda: admit(ordinary_records(catalogue))
        )

    def _order(self, partitions: Partitions, source: NDArray[np.int64], batch: LogBatch) -> Order:
        return Order(
            batch.first_position, partitions.ranges_of(partitions.counts_of(source)), source, _UNDECIDED,
            self._checkpoint["history"], encode(batch, self._catalogue),
        )  # fmt: skip

    def insert(self, change: LogBatch) -> None:
        """Let a change of what decides be the next record (see the port)."""
        partitions = self._open.partitions
        if not partitions.pending:
            with _standing_by_without_broker():
                partitions.open(self._checkpoint.get("next", {}))
        order = self._order(partitions, np.array([NO_SOURCE], np.int64), change)
        self._taken = _Taken(change, order)

    def record(
        self, batch: LogBatch, outcomes: Sequence[Outcome], content: Sequence[bytes], versions: Versions,
        number: int,
    ) -> None:  # fmt: skip
        """Hand over a batch with its outcomes (see the port)."""
        order, partitions = self._order_of(batch), self._open.partitions
        if len(outcomes) != len(order):
            raise ValueError("a record lacks its outcome")
        rejections = rejection_messages(
            outcomes, lambda position: batch.original(position - order.position) or b"",
            self._open.limits.rejection_bytes - HEADROOM_BYTES,
        )  # fmt: skip
        assert self._committer is not None
        order = replace(order, versions=versions, number=number)
        self._committer.submit(Work(order, order.to_bytes(), outcomes, content, rejections))
        partitions.drop(order.counts)
        self._position += len(order)

    def _order_of(self, batch: LogBatch) -> Order:
        """The order message of the batch that was taken, or of its next part."""
        taken = self._taken
        if taken is None or batch.first_position != self._position:
            raise ValueError("the batch is not what was taken")
        if batch is taken.batch:
            return taken.order
        begin = self._position - taken.order.position
        return self._order(self._open.partitions, taken.order.source[begin : begin + len(batch)], batch)

    def settle(self) -> None:
        """Wait until everything is durable (see the port)."""
        if self._committer is not None:
            self._committer.settle()

    def _note_committed(self, order: Order, order_offset: int) -> None:
        self._checkpoint = {
            "history": order.history,
            "position": order.position + len(order),
            "order": order_offset,
            "next": order.next_offsets,
            "engine": order.versions.engine,
            "serving": [order.versions.model, order.versions.policy, order.number],
        }

    @property
    def serving(self) -> tuple[str, str, int] | None:
        """What decided the newest batch (see the port)."""
        model, policy, number = self._checkpoint.get("serving", (None, None, 0))
        return None if model is None else (model, policy, number)

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
        """Leave the group and close all connections."""
        closing = _Closing(self._notify)
        with ExitStack() as stack:
            if self._clients is not None:
                stack.callback(self._clients.close, closing)
            if self._committer is not None:  # first: it needs the membership
                stack.callback(closing.close, self._committer.close, "The commit of a micro-batch")
            self._clients = self._committer = None


class _Closing:
    """Closes clients one after the other, all of them within one time."""

    def __init__(self, notify: Notify) -> None:
        self._notify, self._end = notify, time.monotonic() + CLOSE_SECONDS

    def close(self, close: Callable[[], None], what: str) -> None:
        """Close one, which has a second at least."""
        close_within(close, what, self._notify, seconds=max(1.0, self._end - time.monotonic()))


@contextmanager
def _standing_by_without_broker() -> Iterator[None]:
    """A scorer that loses its broker is a standby until it is back."""
    try:
        yield
    except KafkaException as error:
        found = refused(error.args[0], "the stream's topics")
        if isinstance(found, UnreachableError):
            raise SupersededError("no broker answers") from error
        raise found from error


@dataclass(frozen=True)
class _Taken:
    """A micro-batch, and the order message of the whole."""

    batch: LogBatch
    order: Order


@dataclass(frozen=True)
class _Clients:
    """The clients of one connection, and what the topics take."""

    watch: Watch
    limits: MessageLimits
    partitions: Partitions
    orders: OrderReader
    leadership: Leadership

    def close(self, closing: _Closing) -> None:
        """All of them, also when one fails: one that the garbage collector finds may block it permanently."""
        with ExitStack() as stack:
            stack.callback(closing.close, self.orders.close, "The reader of the log")
            stack.callback(closing.close, self.partitions.close, "The reader of new records")
            stack.callback(closing.close, self.leadership.close, "The membership in the group")
