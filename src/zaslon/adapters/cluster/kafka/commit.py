"""The commit: a micro-batch's order, outcomes and offsets become durable together or not at all.

For each micro-batch, in this order:
    1. take      records by time of arrival, as `order` will say           (source.py)
    2. decide    one outcome per record                                    (the engine)
    3. begin     a transaction, of our two transactional ids by turns
    4. order     which records were folded in which order, by what         → topic `order`
    5. outcomes  decisions and accepted labels                             → topic `predictions`
                 rejections with their original bytes                      → topic `rejections`
    6. offsets   up to where the inputs are done, as member of our group
    7. commit    the transaction
    8. now and then a copy of the state, with its place in the log         (the flow)
Steps 3 to 7 run on a thread of their own while 1 and 2 of the next micro-batch go on; 8 waits for
both. A crash before 7 leaves nothing that a `read_committed` reader sees: the transaction is
aborted by the next process to open the ids, which also shuts out this one, should it still live.
A crash after 7 loses nothing: whoever goes on folds what topic `order` says.

Two ids, because a broker that has made a commit durable goes on to mark it in every partition, and
refuses the same id a new transaction until it has; the client then asks again only after 20 ms. The
other id need not wait. Never more than one of the two is in a transaction, so the order stays.

A broker that is killed while it marks may come back, call the transaction complete and never set the
missing marks. What was committed then stays hidden from `read_committed` readers until the same id
commits again in that partition. Whoever takes over sees that topic `order` goes on behind the last
message that it may read, and commits a message without content under both ids (`commit_barrier`): it brings
the hidden one to light before anything is decided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.order import Order
from zaslon.adapters.cluster.kafka.topics import TopicNames
from zaslon.domain.outcomes import Outcome, Rejection
from zaslon.domain.rejections import RecordProblem
from zaslon.ports import SupersededError

_CALL_SECONDS = 5.0
# How long a stop waits for a broker that is away, before it leaves the batch to the next process.
_STOP_SECONDS = 10.0
_TRANSACTION_MS = 30_000
_BACKOFF_SECONDS, _BACKOFF_SECONDS_MAX = 0.1, 2.0
_HEADROOM_BYTES = 16_384  # of a message, for its headers: up to 16 problems of about 500 bytes
_FENCED = (
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError._FATAL,  # what is told to those who go on sending after the first of these
)  # fmt: skip
# A topic's refusals: the same micro-batch would be refused again.
_REFUSALS = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.MSG_SIZE_TOO_LARGE)


@dataclass(frozen=True)
class Work:
    """One micro-batch to commit. `originals` are the whole bytes of the rejected, by log position."""

    order: Order
    outcomes: Sequence[Outcome]
    originals: dict[int, bytes]


def transactional_ids(group: str) -> tuple[str, str]:
    """The two ids by which a log is recorded. Who opens both shuts out who had them before."""
    return f"{group}-1", f"{group}-2"


class Committer:
    """Commits micro-batches one after the other on its own thread.

    Args:
        group: of the scorers.
        committed: called with the order and the offset after its message, when it is durable.
        rejection_bytes_max: the largest message that topic `rejections` takes.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, group: str, leadership: Leadership,
        watch: Watch, *, committed: Callable[[Order, int], None], is_over: Callable[[], bool],
        rejection_bytes_max: int,
    ) -> None:  # fmt: skip
        self._names, self._leadership, self._watch = names, leadership, watch
        self._committed, self._is_over = committed, is_over
        self._original_bytes_max = rejection_bytes_max - _HEADROOM_BYTES
        self._order_offset = -1
        self.seconds = 0.0  # that the newest commit took
        self._over_since: float | None = None
        self._producer, self._next_producer = (
            connection.producer(
                watch, transactional_id=name, transaction_timeout_ms=_TRANSACTION_MS,
                compression_type="lz4", linger_ms=5, message_max_bytes=rejection_bytes_max,
                queue_buffering_max_messages=0,  # no limit: a micro-batch has one
                retry_backoff_ms=2, retry_backoff_max_ms=20,
            )
            for name in transactional_ids(group)
        )  # fmt: skip
        for producer in (self._producer, self._next_producer):
            self._with_retries(producer.init_transactions, _CALL_SECONDS)
        self._queue: Queue[Work | None] = Queue(maxsize=1)
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="zaslon-commit", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Hand over a batch; waits for the one before.

        Raises:
            SupersededError: an earlier batch cannot be committed.
            ServerError: the broker refuses us.
        """
        self._queue.join()
        self.raise_if_failed()
        self._queue.put(work)

    def commit_barrier(self) -> None:
        """Commit an empty message of `order` under both ids; to be called before anything is handed over.

        Raises:
            SupersededError: it cannot be committed.
        """
        try:
            for producer in (self._producer, self._next_producer):
                self._with_retries(producer.begin_transaction)
                producer.produce(self._names.order, None, partition=0)
                self._with_retries(producer.commit_transaction, _CALL_SECONDS)
        except KafkaException as error:
            raise SupersededError(f"the order could not be sealed: {error.args[0].str()}") from error

    def settle(self) -> None:
        """Wait until everything handed over is durable; raises as `submit`."""
        self._queue.join()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise what stopped the thread, if something did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread; a batch that is under way is finished or given up."""
        self._queue.put(None)
        self._thread.join()
        for producer in (self._producer, self._next_producer):
            with suppress(KafkaException):  # one that was shut out tells it once more
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
        """Transactions until one holds. The outcomes stay as they are: only sending is repeated."""
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
        self._producer.produce(
            self._names.order, work.order.to_json(), partition=0, on_delivery=self._note_offset
        )
        self._send_outcomes(work)
        done = [TopicPartition(r.topic, r.partition, r.end) for r in work.order.ranges]
        self._with_retries(
            self._producer.send_offsets_to_transaction, done, self._leadership.metadata(), _CALL_SECONDS
        )
        self._with_retries(self._producer.commit_transaction, _CALL_SECONDS)

    def _send_outcomes(self, work: Work) -> None:
        send_outcomes(self._producer, self._names, work.outcomes, work.originals, self._original_bytes_max)

    def _note_offset(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None:
            self._order_offset = offset

    def _abort(self, error: KafkaError) -> None:
        """Clear away a transaction that failed, or raise what cannot be tried again."""
        _raise_if_shut_out(error)
        self._watch.raise_if_fatal()
        # Who goes on sending in a transaction that has failed is only told that its state is wrong.
        if not error.txn_requires_abort() and error.code() != KafkaError._STATE:
            raise refused(error, "the transaction of a micro-batch")
        self._with_retries(self._producer.abort_transaction, _CALL_SECONDS)
        if error.code() in _REFUSALS:
            raise refused(error, f"'{self._names.predictions}', '{self._names.rejections}' or the order")

    def _with_retries(self, call: Callable[..., Any], *arguments: Any) -> None:
        """The same call again for as long as the client says that it may succeed."""
        while True:
            try:
                call(*arguments)
            except KafkaException as error:
                found = error.args[0]
                _raise_if_shut_out(found)
                if not found.retriable():
                    raise
                self._watch.raise_if_fatal()
                self._watch.unreachable()
                if self._stop_expired():
                    raise SupersededError("the broker stayed away while we were leaving") from error
                time.sleep(_BACKOFF_SECONDS)
            else:
                return

    def _stop_expired(self) -> bool:
        """Whether a stop was asked for and has waited long enough."""
        if not self._is_over():
            return False
        now = time.monotonic()
        self._over_since = self._over_since or now
        return now - self._over_since > _STOP_SECONDS


def _raise_if_shut_out(error: KafkaError) -> None:
    if error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        raise refused(error, "the scorers' transactions")
    if error.fatal() or error.code() in _FENCED:
        raise SupersededError(f"the broker has shut us out: {error.str()}")


def send_outcomes(
    producer: Producer, names: TopicNames, outcomes: Sequence[Outcome], originals: dict[int, bytes],
    original_bytes_max: int,
) -> None:  # fmt: skip
    """Step 5: each outcome as one message of `predictions` or `rejections`.

    Raises:
        KafkaException: the client does not take one; the transaction must not be committed.
    """
    accepted: list[dict[str, Any]] = [
        {"key": str(outcome.transaction_id).encode(), "value": outcome.to_json()}
        for outcome in outcomes
        if not isinstance(outcome, Rejection)
    ]
    if accepted and producer.produce_batch(names.predictions, accepted) != len(accepted):
        # It goes on after a message that it does not take, and raises nothing.
        raise KafkaException(next(message["_error"] for message in accepted if "_error" in message))
    for outcome in outcomes:
        if isinstance(outcome, Rejection):
            original = originals.get(outcome.position, outcome.raw or b"")
            headers = _headers(outcome, original, original_bytes_max)
            producer.produce(names.rejections, original[:original_bytes_max], headers=headers)


def _headers(outcome: Rejection, original: bytes, original_bytes_max: int) -> list[tuple[str, Any]]:
    headers = [
        ("position", b"%d" % outcome.position),
        ("reason", outcome.reason.encode()),
        ("detail", outcome.detail.encode()),
        ("raw_bytes", b"%d" % len(outcome.raw or b"")),
        ("transaction_id", orjson.dumps(outcome.transaction_id)),
    ]
    if outcome.problems:
        headers.append(("problems", orjson.dumps([p.to_json_dict() for p in outcome.problems])))
    if len(original) > original_bytes_max:
        headers.append(("cut_from_bytes", b"%d" % len(original)))
    return headers


def as_rejection(message: Message) -> Rejection:
    """A message of topic `rejections` as the outcome that was sent."""
    headers: dict[str, Any] = dict(message.headers() or [])
    problems = orjson.loads(headers.get("problems", b"[]"))
    return Rejection(
        int(headers["position"]), headers["reason"].decode(), headers["detail"].decode(),
        (message.value() or b"")[: int(headers["raw_bytes"])],
        tuple(RecordProblem.from_json_dict(problem) for problem in problems),
        orjson.loads(headers["transaction_id"]),
    )  # fmt: skip
