"""The commit: a micro-batch's order, outcomes and offsets become durable together or not at all.

For each micro-batch, in this order:
    1. take      records by time of arrival; admission makes typed records of them   (source.py, the flow)
    2. decide    one outcome per record, encoded                                     (the engine)
    3. begin     a transaction, with one of our two transactional ids in turn
    4. order     the typed records, where they came from, what decided               → topic `order`
    5. outcomes  decisions and accepted labels                                       → topic `predictions`
                 rejections with their original bytes                                → topic `rejections`
    6. offsets   where the inputs continue, as a member of our group
    7. commit    the transaction
    8. state     now and then a snapshot with its checkpoint                         (the flow)
Steps 3 to 7 run on a separate thread while 1 and 2 of the next micro-batch continue; 8 waits for
both. A crash before 7 leaves nothing that a `read_committed` reader sees: the next process to open the
ids aborts the transaction, which also fences this one, should it still be alive. A crash after 7 loses
nothing: the process that continues applies what topic `order` holds.

Why two ids: after a commit is durable the broker still writes a commit marker to every partition, and
refuses the same id a new transaction until that is done; the client then asks again only after 20 ms. The
other id need not wait. At most one of the two is in a transaction at any time, so the order is kept.

A broker killed while it writes markers may come back, call the transaction complete and never write the
missing ones. What was committed then stays hidden from `read_committed` readers until the same id
commits again in that partition. A scorer that takes over sees that topic `order` continues behind the last
message that it may read, and commits a message without content under both ids, a barrier
(`commit_barrier`): the hidden message becomes visible before anything is decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.messages import RejectionMessage, send_outcomes
from zaslon.adapters.cluster.kafka.order import Order
from zaslon.adapters.cluster.kafka.topics import MessageLimits, TopicNames
from zaslon.domain.outcomes import Outcome
from zaslon.ports.streams import SupersededError

_CALL_SECONDS = 5.0
# How long a stop waits for an unreachable broker before it leaves the batch to the next process.
_STOP_SECONDS = 10.0
_TRANSACTION_MS = 30_000
_BACKOFF_SECONDS, _BACKOFF_SECONDS_MAX = 0.1, 2.0
HEADROOM_BYTES = 16_384  # of a message, for its headers: up to 16 problems of about 500 bytes
_FENCED = (
    error_codes.FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,
    error_codes.FATAL,  # the answer to every call after the first of these
)  # fmt: skip
# A topic refuses these for good: the same micro-batch would be refused again.
_REFUSALS = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.MSG_SIZE_TOO_LARGE)


@dataclass(frozen=True)
class Work:
    """One micro-batch to commit.

    Attributes:
        order, message: what topic `order` gets, and its bytes.
        outcomes, content: of each record, and the JSON of each.
        rejections: the messages of rejected records, by log position: made before the batch is handed over, so
            that one that breaks our code is found there.
    """

    order: Order
    message: bytes
    outcomes: Sequence[Outcome]
    content: Sequence[bytes]
    rejections: dict[int, RejectionMessage]


def transactional_ids(group: str) -> tuple[str, str]:
    """The two ids that write a log. Opening both fences their previous owner."""
    return f"{group}-1", f"{group}-2"


class Committer:
    """Commits micro-batches one after the other on its own thread.

    Args:
        group: of the scorers.
        committed: called with the order and the offset after its message, when it is durable.
        limits: the largest messages that the topics take.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, group: str, leadership: Leadership,
        watch: Watch, *, committed: Callable[[Order, int], None], is_over: Callable[[], bool],
        limits: MessageLimits,
    ) -> None:  # fmt: skip
        self._names, self._leadership, self._watch = names, leadership, watch
        self._committed, self._is_over = committed, is_over
        self._order_offset = -1
        self.seconds = 0.0  # that the newest commit took
        self._over_since: float | None = None
        self._producer, self._next_producer = (
            connection.producer(
                watch, transactional_id=name, transaction_timeout_ms=_TRANSACTION_MS,
                compression_type="lz4", linger_ms=5, message_max_bytes=max(limits.rejection_bytes, limits.order_bytes),
                queue_buffering_max_messages=0,  # no limit: a micro-batch has one
                retry_backoff_ms=2, retry_backoff_max_ms=20,
            )
            for name in transactional_ids(group)
        )  # fmt: skip
        try:
            for producer in (self._producer, self._next_producer):
                self._with_retries(producer.init_transactions, _CALL_SECONDS)
        except BaseException:
            self._close_producers()
            raise
        self._queue: Queue[Work | None] = Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="zaslon-commit", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Hand over a batch; waits for the previous one.

        Raises:
            SupersededError: an earlier batch cannot be committed.
            ServerError: the broker refuses us.
        """
        self._queue.join()
        self.raise_if_failed()
        self._queue.put(work)

    def commit_barrier(self) -> None:
        """Commit an empty message of `order` under both ids; called before the first batch only.

        Raises:
            SupersededError: it cannot be committed.
        """
        try:
            for producer in (self._producer, self._next_producer):
                self._with_retries(producer.begin_transaction)
                producer.produce(self._names.order, None, partition=0)
                self._with_retries(producer.commit_transaction, _CALL_SECONDS)
        except KafkaException as error:
            raise SupersededError(f"no barrier could be committed: {error.args[0].str()}") from error

    def settle(self) -> None:
        """Wait until everything handed over is durable; raises as `submit`."""
        self._queue.join()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise the error that stopped the thread, if there is one."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread; a batch in flight is finished or given up."""
        self._queue.put(None)
        self._thread.join()
        self._close_producers()

    def _close_producers(self) -> None:
        for producer in (self._producer, self._next_producer):
            with suppress(KafkaException):  # a fenced producer reports it once more
                producer.close()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    self._commit(work)
            except BaseException as error:  # noqa: BLE001  the deciding thread raises it
                self._failure = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _commit(self, work: Work) -> None:
        """Retry the transaction until it commits. The outcomes stay as they are: only sending is repeated."""
        backoff, begin = _BACKOFF_SECONDS, time.perf_counter()
        while True:
            try:
                self._transaction(work)
            except KafkaException as error:
                self._abort(error.args[0])
            else:
                self.seconds = time.perf_counter() - begin
                self._producer, self._next_producer = self._next_producer, self._producer
                self._committed(work.order, self._order_offset + 1)
                return
            self._leadership.poll()
            if not self._leadership.is_ours or self._stop_expired():
                raise SupersededError("another scorer has taken over")
            time.sleep(backoff)
            backoff = min(backoff * 2, _BACKOFF_SECONDS_MAX)

    def _transaction(self, work: Work) -> None:
        """Steps 3 to 7."""
        self._with_retries(self._producer.begin_transaction)
        self._producer.produce(self._names.order, work.message, partition=0, on_delivery=self._note_offset)
        self._send_outcomes(work)
        done = [TopicPartition(r.topic, r.partition, r.end) for r in work.order.ranges]
        self._with_retries(
            self._producer.send_offsets_to_transaction, done, self._leadership.metadata(), _CALL_SECONDS
        )
        self._with_retries(self._producer.commit_transaction, _CALL_SECONDS)

    def _send_outcomes(self, work: Work) -> None:
        send_outcomes(self._producer, self._names, work.outcomes, work.content, work.rejections)

    def _note_offset(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None:
            self._order_offset = offset

    def _abort(self, error: KafkaError) -> None:
        """Abort a transaction that failed, or raise what cannot be retried."""
        _raise_if_fenced(error)
        self._watch.raise_if_fatal()
        # Once a transaction has failed, further sends in it only report a wrong state.
        if not error.txn_requires_abort() and error.code() != error_codes.WRONG_STATE:
            raise refused(error, "the transaction of a micro-batch")
        self._with_retries(self._producer.abort_transaction, _CALL_SECONDS)
        if error.code() in _REFUSALS:
            raise refused(error, f"'{self._names.predictions}', '{self._names.rejections}' or the order")

    def _with_retries(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Repeat a call for as long as the client reports that it may succeed."""
        while True:
            try:
                call(*arguments)
            except KafkaException as error:
                found = error.args[0]
                _raise_if_fenced(found)
                if not found.retriable():
                    raise
                self._watch.raise_if_fatal()
                self._watch.unreachable()
                if self._stop_expired():
                    raise SupersededError("the broker was unreachable while the scorer stopped") from error
                time.sleep(_BACKOFF_SECONDS)
            else:
                return

    def _stop_expired(self) -> bool:
        """Whether a stop was requested and has waited long enough."""
        if not self._is_over():
            return False
        now = time.monotonic()
        self._over_since = self._over_since or now
        return now - self._over_since > _STOP_SECONDS


def _raise_if_fenced(error: KafkaError) -> None:
    if error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        raise refused(error, "the scorers' transactions")
    if error.fatal() or error.code() in _FENCED:
        raise SupersededError(f"the broker has fenced this scorer: {error.str()}")
