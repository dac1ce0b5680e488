"""The port `Decider` on Kafka: records into `input` and `labels`, the log's outcomes back to the caller.

This process decides nothing. For every record, in this order:
    1. send      into `input` or `labels`; once acknowledged it will be decided, exactly once
    2. match     the outcome that the log has for it                       (matching.py)
    3. keep      decisions in a store of this process, for look-ups        (outcome_reader.py)
    4. answer    with the recorded bytes; a `duplicate` with the decision that it repeats
A caller that times out loses nothing: the record stays matched, and the same bytes sent again wait for
the same outcome. See docs/decisions/0010-the-gateway-writes-records-into-the-log.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Notify, Watch, refused
from zaslon.adapters.cluster.kafka.matching import Matching
from zaslon.adapters.cluster.kafka.outcome_reader import Arrived, OutcomeReader
from zaslon.adapters.cluster.kafka.topics import INPUT_BYTES_MAX, TopicNames
from zaslon.domain.answers import Answer
from zaslon.domain.errors import (
    BrokenCallError,
    BusyError,
    ServerError,
    TooLargeError,
    UncertainError,
    ZaslonError,
)
from zaslon.domain.events import Kind
from zaslon.domain.outcomes import Decision, Rejection, Versions
from zaslon.domain.recorded import Recorded
from zaslon.ports import Answered, DecisionStore, DeliveryTiming, Outcomes, repeated_decision
from zaslon.system.isolation import fault_text, is_fault_of_ours

_WAIT_SECONDS = 0.02
_RECORD_BYTES_MAX = INPUT_BYTES_MAX - 1_024  # a message holds more than the record
_SEND_MS_MAX = 5_000  # the client gives up a record that the broker has not taken by then
_STOP_SECONDS = 5.0
# How long to wait for the decision that a duplicate repeats: it may come from another partition.
_REPEATED_SECONDS = 0.1


@dataclass(frozen=True)
class GatewayLimits:
    """The most records without outcome, and how many of the newest log positions can be looked up."""

    waiting_records: int
    kept_records: int


@dataclass
class _Call:
    """A call, until all its records have their answers or one has failed."""

    answers: list[Answer | None]
    answered: Answered
    left: int

    def take(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.left -= 1
        if self.left == 0:
            self.answered([a for a in self.answers if a is not None])

    def fail(self, error: ZaslonError) -> None:
        if self.left > 0:
            self.left = 0
            self.answered(error)


@dataclass
class _Sent:
    """A record in flight, and the calls that wait for its outcome; the first of them sent it."""

    body: bytes
    kind: Kind
    waiting: list[tuple[_Call, int]]
    sent_seconds: float
    number: int
    logged_seconds: float | None = None


@dataclass
class _Repeated:
    """A record that the log rejected as a duplicate, until the decision that it repeats is read.

    `event_seconds` is its own event time.
    """

    record: _Sent
    outcome: Recorded
    rejection: Rejection
    event_seconds: int | None
    until_seconds: float


class _GatewayWatch(Watch):
    """Also remembers that no broker is reachable, until one is."""

    is_unreachable = False

    def on_error(self, error: KafkaError) -> None:
        super().on_error(error)
        if error.code() == error_codes.ALL_BROKERS_DOWN:
            self.is_unreachable = True


class KafkaGateway:
    """`zaslon.ports.Decider` in front of the stream's log.

    Args:
        open_store: opens the store of decisions; called on the gateway's thread.
        open_outcomes: opens it for a thread that only reads.
        event_seconds_of: the event time of a record that can be decided, else None.
        watch: called with the records that passed and the next log position, on the gateway's thread.
        notify: called with sentences for people.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, limits: GatewayLimits, *,
        open_store: Callable[[], DecisionStore], open_outcomes: Callable[[], Outcomes],
        event_seconds_of: Callable[[bytes], int | None],
        watch: Callable[[Sequence[DeliveryTiming], int], None], notify: Notify,
    ) -> None:  # fmt: skip
        self._connection, self._names, self._limits = connection, names, limits
        self._open_store, self._open_outcomes = open_store, open_outcomes
        self._event_seconds_of, self._watch, self._notify = event_seconds_of, watch, notify
        self._broker = _GatewayWatch(connection.servers, notify)
        self._matching: Matching[_Sent] = Matching(self._found, self._lost)
        self._lock = threading.Lock()
        self._waiting_records = 0
        self._in_flight: dict[bytes, _Sent] = {}  # transactions by content
        self._repeated: list[_Repeated] = []
        self._deliveries: list[DeliveryTiming] = []
        self._serving: Versions | None = None
        self._is_open, self._is_caught_up = True, False
        self._started = threading.Event()
        self._failure: ZaslonError | None = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Wait until the decisions of the log have been read up to now.

        Raises:
            ZaslonError: why it cannot serve.
        """
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def is_ready(self) -> bool:
        """Whether records are sent now: the broker is reachable and the store has caught up."""
        return self._is_open and self._is_caught_up and not self._broker.is_unreachable

    @property
    def obstacle(self) -> str:
        """Why not."""
        if not self._is_open:
            return "The service is stopping."
        if self._broker.is_unreachable:
            return "The broker that keeps the log is unreachable."
        return "The decisions of the log are still being read."

    @property
    def is_alive(self) -> bool:
        """Whether the gateway's thread runs."""
        return self._thread.is_alive()

    @property
    def waiting_records(self) -> int:
        """Records that have no outcome yet."""
        return self._waiting_records

    @property
    def serving(self) -> Versions | None:
        """What decided the newest micro-batch that was read."""
        return self._serving

    def open_outcomes(self) -> Outcomes:
        """The store of decisions, for a thread that only reads."""
        return self._open_outcomes()

    def submit(
        self, records: Sequence[bytes], kind: Kind, deadline_seconds: float, answered: Answered
    ) -> Callable[[], bool]:
        """Send the records of one call (see the port); the deadline is the caller's to keep."""
        del deadline_seconds  # the scorer does not know it, so nothing is left out
        longest = max(map(len, records))
        if longest > _RECORD_BYTES_MAX:
            raise TooLargeError(f"A record has {longest} bytes; the log takes {_RECORD_BYTES_MAX}.")
        call = _Call([None] * len(records), answered, len(records))
        with self._lock:
            if not self.is_ready:
                raise BusyError(self.obstacle, hint="Try again in a moment.")
            if self._waiting_records + len(records) > self._limits.waiting_records:
                raise BusyError("Too many records wait for their outcomes.", hint="Try again in a moment.")
            sent = self._send(records, kind, call)
        return lambda: all(record.logged_seconds is not None for record in sent)

    def close(self) -> None:
        """Give waiting calls a last moment, then stop."""
        with self._lock:
            self._is_open = False
        self._thread.join()

    def _send(self, records: Sequence[bytes], kind: Kind, call: _Call) -> list[_Sent]:
        """Send the records of a call. Under the lock.

        Raises:
            ZaslonError: one of them cannot be sent, or breaks our own code; for an `UncertainError` others
                are, and will be decided.
        """
        sent: list[_Sent] = []
        for index, body in enumerate(records):
            try:
                sent.append(self._take(body, kind, call, index))
            except Exception as error:
                raise self._unsent(error, is_begun=bool(sent)) from error
        return sent

    def _unsent(self, error: Exception, *, is_begun: bool) -> Exception:
        """What a call is answered whose records are not all sent."""
        if is_fault_of_ours(error):
            self._notify(f"Zaslon's own code failed on a call: {fault_text(error)}. Report it.")
            error = BrokenCallError("Zaslon's own code failed on this call; nothing of it is in the log.")
        return UncertainError(f"Only some records of this call were sent: {error}") if is_begun else error

    def _take(self, body: bytes, kind: Kind, call: _Call, index: int) -> _Sent:
        """Send a record, or wait with the same transaction of another call that is in flight already.

        A call that is sent again is not logged again; records of one call are all logged, as by every other ingress.
        """
        before = None if kind == Kind.LABEL_JSON else self._in_flight.get(body)
        if before is not None and before.waiting[0][0] is not call:
            before.waiting.append((call, index))
            return before
        topic = self._names.labels if kind == Kind.LABEL_JSON else self._names.input
        number = self._matching.send()
        try:
            record = _Sent(body, kind, [(call, index)], time.monotonic(), number)
            self._producer.produce(topic, body, on_delivery=partial(self._delivered, record))
        except Exception as error:
            self._matching.withdraw(number)  # else outcomes would be kept for it
            if isinstance(error, BufferError | KafkaException):
                raise ServerError(f"A record cannot be sent to '{topic}': {error}.") from error
            raise
        self._waiting_records += 1
        if kind != Kind.LABEL_JSON:
            self._in_flight[body] = record
        return record

    # From here on: the gateway's own thread.

    def _run(self) -> None:
        with ExitStack() as opened:
            try:
                self._relay(self._open(opened))
            except ZaslonError as error:
                self._failure = error
                if self._started.is_set():
                    self._notify(str(error))
            finally:
                self._is_open = False
                self._started.set()

    def _open(self, opened: ExitStack) -> OutcomeReader:
        """Connect, and start reading where the store ends."""
        self._store = self._open_store()
        opened.callback(self._store.close)
        reader = OutcomeReader(
            self._connection, self._names, self._store, self._broker,
            kept_records=self._limits.kept_records,
        )  # fmt: skip
        opened.callback(reader.close)
        self._producer: Producer = self._connection.producer(
            self._broker, acks="all", linger_ms=0, message_max_bytes=INPUT_BYTES_MAX,
            message_timeout_ms=_SEND_MS_MAX, retry_backoff_ms=5, retry_backoff_max_ms=100,
            queue_buffering_max_messages=2 * self._limits.waiting_records,
        )  # fmt: skip
        opened.callback(self._producer.flush, _STOP_SECONDS)
        # Connects now, so that the first records need not wait for it.
        for topic in (self._names.labels, self._names.input):
            self._producer.list_topics(topic, timeout=self._connection.timeout_seconds)
        return reader

    def _relay(self, reader: OutcomeReader) -> None:
        """Answer calls with what the log records, until the gateway is closed and no call waits."""
        closed_seconds: float | None = None
        while True:
            if reader.is_caught_up and not self._is_caught_up:
                self._is_caught_up = True
                self._started.set()
            arrived = reader.read(_WAIT_SECONDS)
            self._producer.poll(0)  # acknowledgements, most of them of what has just arrived
            self._match(arrived)
            self._broker.raise_if_fatal()
            if self._broker.is_unreachable:
                self._look_for_the_broker()
            if not self._is_open:
                closed_seconds = closed_seconds or time.monotonic()
                if not self._waiting_records or time.monotonic() - closed_seconds > _STOP_SECONDS:
                    return

    def _match(self, arrived: Arrived) -> None:
        for order in arrived.orders:
            self._matching.applied(order)
            self._serving = order.versions
        for outcome in arrived.outcomes:
            self._matching.outcome(outcome)
        for fault in arrived.broken:
            self._notify_of_fault(fault)
        self._answer_repeated()
        if arrived.orders or self._deliveries:
            deliveries, self._deliveries = self._deliveries, []
            self._watch(deliveries, self._matching.end)

    def _look_for_the_broker(self) -> None:
        """Ask until one answers: the client reports the loss of a broker and not its return."""
        try:
            self._producer.list_topics(self._names.input, timeout=1.0)
        except KafkaException:
            self._broker.unreachable()
        else:
            self._broker.is_unreachable = False

    def _delivered(self, record: _Sent, error: KafkaError | None, message: Message) -> None:
        offset, partition, topic = message.offset(), message.partition(), message.topic()
        if error is None and topic is not None and partition is not None and offset is not None:
            # This is called at the next poll; the client knows when it was acknowledged.
            taken = message.latency()
            record.logged_seconds = time.monotonic() if taken is None else record.sent_seconds + taken
            self._matching.acknowledged(record.number, record, topic, partition, offset)
            return
        self._matching.refused(record.number)
        if error is None:  # the broker took an earlier attempt, whose acknowledgement was lost
            record.logged_seconds = time.monotonic()
            self._fail(record, UncertainError(f"'{topic}' has taken a record at an unknown offset."))
        else:
            self._fail(record, UncertainError(str(refused(error, f"'{topic}'"))))

    def _lost(self, record: _Sent) -> None:
        self._fail(record, ServerError("The log has skipped a record."))

    def _found(self, record: _Sent, outcome: Recorded) -> None:
        """Answer with an outcome. One that breaks our own code fails its calls, and no others."""
        try:
            self._answer_or_wait(record, outcome)
        except Exception as error:
            if not is_fault_of_ours(error):
                raise
            self._fail_alone(record, error)

    def _fail_alone(self, record: _Sent, error: Exception) -> None:
        self._notify_of_fault(fault_text(error))
        self._fail(record, UncertainError("Zaslon's own code failed on the outcome."))

    def _notify_of_fault(self, fault: str) -> None:
        self._notify(f"Zaslon's own code failed on an outcome, which is in the log: {fault}. Report it.")

    def _answer_or_wait(self, record: _Sent, outcome: Recorded) -> None:
        """Answer with an outcome, or wait for the decision that it repeats."""
        value = outcome.outcome
        if record.kind == Kind.LABEL_JSON or not isinstance(value, Rejection) or not value.repeats:
            self._answer(record, outcome)
            return
        until = time.monotonic() + _REPEATED_SECONDS
        self._repeated.append(_Repeated(record, outcome, value, self._event_seconds_of(record.body), until))

    def _answer_repeated(self) -> None:
        """Answer duplicates with the decision that they repeat, or as duplicates where it is not kept."""
        waiting, self._repeated = self._repeated, []
        for repeated in waiting:
            try:
                decision = self._decision_repeated(repeated)
            except Exception as error:
                if not is_fault_of_ours(error):
                    raise
                self._fail_alone(repeated.record, error)
                continue
            if decision is not None:
                self._answer(repeated.record, decision, repeated=True)
            elif time.monotonic() < repeated.until_seconds:
                self._repeated.append(repeated)
            else:
                self._answer(repeated.record, repeated.outcome)

    def _decision_repeated(self, repeated: _Repeated) -> Recorded | None:
        """The decision that a duplicate repeats, if it was read.

        An id may be used again after `remember`, and older decisions may be read before newer ones of
        other partitions: the one that is repeated has the same content, so the same event time.
        """
        found = repeated_decision(repeated.rejection, self._store)
        decision = None if found is None else found.outcome
        is_it = isinstance(decision, Decision) and decision.event_time_seconds == repeated.event_seconds
        return found if is_it else None

    def _answer(self, record: _Sent, recorded: Recorded, *, repeated: bool = False) -> None:
        answer = Answer.of(recorded.outcome, recorded.json, repeated=repeated)
        self._done(record)
        now = time.monotonic()
        logged = now if record.logged_seconds is None else record.logged_seconds
        timing = DeliveryTiming(recorded.outcome, repeated, logged - record.sent_seconds, now - logged)
        self._deliveries.append(timing)
        (first, index), *others = record.waiting
        first.take(index, answer)
        for call, index in others:
            call.take(index, answer if answer.rejection else replace(answer, repeated=True))

    def _fail(self, record: _Sent, error: ZaslonError) -> None:
        self._done(record)
        for call, _ in record.waiting:
            call.fail(error)

    def _done(self, record: _Sent) -> None:
        """From now on the same content is another record."""
        with self._lock:
            self._waiting_records -= 1
            if self._in_flight.get(record.body) is record:
                del self._in_flight[record.body]
