"""The port `Decider` on Kafka: records into `input` and `labels`, the log's outcomes back to who asked.

This process decides nothing. For every record, in this order:
    1. send      into `input` or `labels`; from the acknowledgement on it will be decided, once
    2. match     the outcome that the log has for it                       (matching.py)
    3. keep      decisions in a store of this process, where they can be looked up (following.py)
    4. answer    with the recorded bytes; for a `duplicate` with the decision that was recorded first
Who waits no longer loses nothing: the record stays matched, and the same bytes sent again wait for
the same outcome. See docs/decisions/0010-the-gateway-writes-records-into-the-log.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from zaslon.adapters.cluster.kafka.connection import Connection, Notify, Watch, refused
from zaslon.adapters.cluster.kafka.matching import Matching
from zaslon.adapters.cluster.kafka.outcome_reader import Arrived, OutcomeReader
from zaslon.adapters.cluster.kafka.topics import INPUT_BYTES_MAX, TopicNames
from zaslon.domain.errors import BusyError, ServerError, TooLargeError, UncertainError, ZaslonError
from zaslon.domain.events import Kind, TransactionId
from zaslon.domain.outcomes import Versions
from zaslon.ports import Answer, Answered, DecisionStore, DeliveryTiming, Outcomes

_WAIT_SECONDS = 0.02
_RECORD_BYTES_MAX = INPUT_BYTES_MAX - 1_024  # a message has more in it than the record
_SEND_MS_MAX = 5_000  # what the broker has not taken by then is given up
_STOP_SECONDS = 5.0
# How long the decision that a duplicate repeats is waited for, where it stands in another partition.
_REPEATED_SECONDS = 0.1
_REJECTION = b'{"outcome":"rejection"'


@dataclass(frozen=True)
class GatewayLimits:
    """Most records without outcome, and how many of the newest log positions can be looked up."""

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
    """A record on its way, and the places in calls that wait for its outcome; the first sent it."""

    body: bytes
    kind: Kind
    waiting: list[tuple[_Call, int]]
    sent_seconds: float
    number: int
    logged_seconds: float | None = None


@dataclass
class _Repeated:
    """A record that the log calls a duplicate, until the decision that it repeats is seen."""

    record: _Sent
    outcome: bytes
    until_seconds: float


class _GatewayWatch(Watch):
    """Also remembers that no broker answers, until one does."""

    is_unreachable = False

    def hear(self, error: KafkaError) -> None:
        super().hear(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.is_unreachable = True


class KafkaGateway:
    """`zaslon.ports.Decider` in front of the stream's log.

    Args:
        open_store: opens the store of decisions; called on the gateway's thread.
        open_outcomes: opens it for a thread that only looks.
        identify: the transaction id of a record that can be decided, else None.
        watch: told of the records that passed and of the next log position, on the gateway's thread.
        say: told in a sentence what people should know.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, limits: GatewayLimits, *,
        open_store: Callable[[], DecisionStore], open_outcomes: Callable[[], Outcomes],
        identify: Callable[[bytes], TransactionId | None],
        watch: Callable[[Sequence[DeliveryTiming], int], None], say: Notify,
    ) -> None:  # fmt: skip
        self._connection, self._names, self._limits = connection, names, limits
        self._open_store, self._open_outcomes, self._identify = open_store, open_outcomes, identify
        self._watch, self._say = watch, say
        self._broker = _GatewayWatch(connection.servers, say)
        self._matching: Matching[_Sent] = Matching(self._found, self._lost)
        self._lock = threading.Lock()
        self._waiting_records = 0
        self._under_way: dict[bytes, _Sent] = {}  # transactions by content
        self._repeated: dict[TransactionId, list[_Repeated]] = {}
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
        """Whether records are passed on now: the broker is there and the store has caught up."""
        return self._is_open and self._is_caught_up and not self._broker.is_unreachable

    @property
    def obstacle(self) -> str:
        """Why not."""
        if not self._is_open:
            return "The service is stopping."
        if self._broker.is_unreachable:
            return "The broker that keeps the log is away."
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
        """What decided the newest micro-batch that was seen."""
        return self._serving

    def open_outcomes(self) -> Outcomes:
        """The store of decisions, for a thread that only looks."""
        return self._open_outcomes()

    def submit(
        self, records: Sequence[bytes], kind: Kind, deadline_seconds: float, answered: Answered
    ) -> Callable[[], bool]:
        """Send the records of one call (see the port); the deadline is the caller's to keep."""
        del deadline_seconds  # whoever decides does not know of it, so nothing is left out
        longest = max(map(len, records))
        if longest > _RECORD_BYTES_MAX:
            raise TooLargeError(f"A record has {longest} bytes; the log takes {_RECORD_BYTES_MAX}.")
        call = _Call([None] * len(records), answered, len(records))
        with self._lock:
            if not self.is_ready:
                raise BusyError(self.obstacle, hint="Try again in a moment.")
            if self._waiting_records + len(records) > self._limits.waiting_records:
                raise BusyError("Too many records wait for their outcomes.", hint="Try again in a moment.")
            sent = [self._take(body, kind, call, index) for index, body in enumerate(records)]
        return lambda: all(record.logged_seconds is not None for record in sent)

    def close(self) -> None:
        """Give those who wait a last moment, then stop."""
        with self._lock:
            self._is_open = False
        self._thread.join()

    def _take(self, body: bytes, kind: Kind, call: _Call, index: int) -> _Sent:
        """Send a record, or wait with the same transaction that was sent before and has no outcome yet."""
        if kind != Kind.LABEL_JSON and (before := self._under_way.get(body)) is not None:
            before.waiting.append((call, index))
            return before
        record = _Sent(body, kind, [(call, index)], time.monotonic(), self._matching.send())
        topic = self._names.labels if kind == Kind.LABEL_JSON else self._names.input
        try:
            self._producer.produce(topic, body, on_delivery=partial(self._delivered, record))
        except (BufferError, KafkaException) as error:
            self._matching.withdraw(record.number)
            raise ServerError(f"A record cannot be sent to '{topic}': {error}.") from error
        self._waiting_records += 1
        if kind != Kind.LABEL_JSON:
            self._under_way[body] = record
        return record

    # From here on: the gateway's own thread.

    def _run(self) -> None:
        with ExitStack() as opened:
            try:
                self._replay(self._open(opened))
            except ZaslonError as error:
                self._failure = error
                if self._started.is_set():
                    self._say(str(error))
            finally:
                self._is_open = False
                self._started.set()

    def _open(self, opened: ExitStack) -> OutcomeReader:
        """Connect, and begin to read where the store ends."""
        self._store = self._open_store()
        opened.callback(self._store.close)
        following = OutcomeReader(
            self._connection, self._names, self._store, self._limits.kept_records, self._broker
        )
        opened.callback(following.close)
        self._producer: Producer = self._connection.producer(
            self._broker, acks="all", linger_ms=0, message_max_bytes=INPUT_BYTES_MAX,
            message_timeout_ms=_SEND_MS_MAX, retry_backoff_ms=5, retry_backoff_max_ms=100,
            queue_buffering_max_messages=2 * self._limits.waiting_records,
        )  # fmt: skip
        opened.callback(self._producer.flush, _STOP_SECONDS)
        # Connected now, so that the first records need not wait for the connection.
        for topic in (self._names.labels, self._names.input):
            self._producer.list_topics(topic, timeout=self._connection.timeout_seconds)
        return following

    def _replay(self, following: OutcomeReader) -> None:
        """Read what the log records, until the gateway is closed and nobody waits."""
        closed_seconds: float | None = None
        while True:
            if following.is_caught_up and not self._is_caught_up:
                self._is_caught_up = True
                self._started.set()
            arrived = following.look(_WAIT_SECONDS)
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
        for position, outcome in arrived.outcomes:
            self._matching.outcome(position, outcome)
        self._answer_repeated()
        if arrived.orders or self._deliveries:
            deliveries, self._deliveries = self._deliveries, []
            self._watch(deliveries, self._matching.end)

    def _look_for_the_broker(self) -> None:
        """Ask until one answers: the client tells of a loss and not of a return."""
        try:
            self._producer.list_topics(self._names.input, timeout=1.0)
        except KafkaException:
            self._broker.unreachable()
        else:
            self._broker.is_unreachable = False

    def _delivered(self, record: _Sent, error: KafkaError | None, message: Message) -> None:
        offset, partition, topic = message.offset(), message.partition(), message.topic()
        if error is None and topic is not None and partition is not None and offset is not None:
            # We hear of it when we next look; the client knows when it was.
            taken = message.latency()
            record.logged_seconds = time.monotonic() if taken is None else record.sent_seconds + taken
            self._matching.acknowledged(record.number, record, topic, partition, offset)
            return
        self._matching.refused(record.number)
        if error is None:  # an attempt whose answer was lost was the one that the broker took
            record.logged_seconds = time.monotonic()
            self._fail(record, UncertainError(f"'{topic}' has a record and does not say where."))
        else:
            self._fail(record, UncertainError(str(refused(error, f"'{topic}'"))))

    def _lost(self, record: _Sent) -> None:
        self._fail(record, ServerError("The log has passed over a record."))

    def _found(self, record: _Sent, outcome: bytes) -> None:
        identifier = None
        if record.kind != Kind.LABEL_JSON and _is_duplicate(outcome):
            identifier = self._identify(record.body)
        if identifier is None:
            self._answer(record, Answer(outcome))
        else:
            repeated = _Repeated(record, outcome, time.monotonic() + _REPEATED_SECONDS)
            self._repeated.setdefault(identifier, []).append(repeated)

    def _answer_repeated(self) -> None:
        """Answer duplicates with the decision that they repeat, or as such where it is not kept."""
        now = time.monotonic()
        for identifier, all_waiting in list(self._repeated.items()):
            known = self._store.find(identifier)
            waiting = [r for r in all_waiting if not known and now < r.until_seconds]
            for repeated in all_waiting:
                if known:
                    self._answer(repeated.record, Answer(known[0][1], repeated=True))
                elif repeated not in waiting:
                    self._answer(repeated.record, Answer(repeated.outcome))
            if waiting:
                self._repeated[identifier] = waiting
            else:
                del self._repeated[identifier]

    def _answer(self, record: _Sent, answer: Answer) -> None:
        self._done(record)
        now = time.monotonic()
        logged = now if record.logged_seconds is None else record.logged_seconds
        self._deliveries.append(DeliveryTiming(answer, logged - record.sent_seconds, now - logged))
        (first, index), *others = record.waiting
        first.take(index, answer)
        for call, index in others:
            call.take(index, Answer(answer.outcome, repeated=True))

    def _fail(self, record: _Sent, error: ZaslonError) -> None:
        self._done(record)
        for call, _ in record.waiting:
            call.fail(error)

    def _done(self, record: _Sent) -> None:
        """From now on the same content is a record of its own."""
        with self._lock:
            self._waiting_records -= 1
            if self._under_way.get(record.body) is record:
                del self._under_way[record.body]


def _is_duplicate(outcome: bytes) -> bool:
    return outcome.startswith(_REJECTION) and orjson.loads(outcome)["reason"] == "duplicate"
