"""A scorer may be stopped in any step, a broker may leave anything unfinished: the log stays consistent."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from deploy.kafka.broker import LocalBroker
from tests.integration import stopping_scorer
from tests.integration.kafka_world import Cluster, Scorer
from tests.waiting import DEADLINE_SECONDS, deadline, until

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.commit import Committer
from zaslon.adapters.cluster.kafka.connection import Connection, Watch
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.order import Order, Range, is_barrier
from zaslon.adapters.cluster.kafka.order_reader import OrderReader
from zaslon.adapters.cluster.kafka.source import Partitions
from zaslon.adapters.cluster.kafka.topics import MessageLimits, TopicNames
from zaslon.admission import admit
from zaslon.admission.log_format import encode
from zaslon.domain.errors import ServerError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.outcomes import Versions
from zaslon.flows.stream import stream
from zaslon.ports.streams import Stream, SupersededError
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration

STREAM_BEGIN = b'{"history":"none","position":0}'


def _lines(world: SmallWorld) -> list[bytes]:
    return [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE]


def _is_stopped(scorer: Scorer) -> bool:
    assert scorer.process.poll() is None, scorer.printed
    return Path(f"/proc/{scorer.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _until(found: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    def is_found() -> bool:
        if found():
            return True
        meanwhile()
        return False

    until(is_found, look_seconds=0.1)


def test_a_scorer_stopped_before_any_step_is_fenced_when_it_resumes(
    broker: LocalBroker, small_world: SmallWorld, tmp_path: Path
) -> None:
    cluster, lines = Cluster.new(broker), cycle(_lines(small_world))
    settings = {
        "ZASLON_KAFKA_SESSION_TIMEOUT_SECONDS": "3", "ZASLON_SNAPSHOT_EVERY_RECORDS": "60",
        "ZASLON_PSEUDONYM_KEY": small_world.context.key.decode(),
    }  # fmt: skip
    sent = 0

    def send() -> None:
        """Some of them bad or sent before, so that every step has something to do."""
        nonlocal sent
        cluster.send("input", [*(next(lines) for _ in range(9)), b"nonsense"])
        sent += 10

    with ExitStack() as stack:

        def start(name: str, *command: str) -> Scorer:
            home = small_world.in_home(tmp_path / name).context.home
            given = (*command, str(home)) if command else ()
            return stack.enter_context(cluster.scorer(home, *given, **settings))

        # Each of the two transactional ids is the one in use in half of the steps.
        stopping = [
            start(step.replace(" ", "-"), stopping_scorer.__file__, step, str(2 + number % 2))
            for number, step in enumerate(stopping_scorer.STEPS)
        ]
        _until(lambda: all(map(_is_stopped, stopping)), send)
        last = start("last")
        _until(lambda: last.is_deciding, send)
        before = cluster.committed_records()
        _until(lambda: cluster.committed_records() > before, send)
        for scorer in stopping:
            scorer.process.send_signal(signal.SIGCONT)
        for scorer in stopping:
            assert scorer.prints("Standing by"), scorer.printed
        cluster.wait_for(sent)
        last.kill()
        send()
        cluster.wait_for(sent)
        for scorer in stopping:
            assert scorer.process.poll() is None, "\n".join(scorer.printed)
    published = cluster.published()
    assert len(published) == sent
    assert published == cluster.embedded(small_world.engine())


def test_an_open_transaction_in_order_blocks_decisions(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    """As a broker leaves one that was killed while it marked a commit."""
    cluster, lines = Cluster.new(broker), _lines(small_world)
    cluster.send("input", lines[:100])
    cluster.stream_until(home, 100)
    other = cluster.connection("admin").producer(Watch("broker"), transactional_id="zaslon-unfinished")
    other.init_transactions(DEADLINE_SECONDS)
    cluster.send("input", lines[100:150])
    before = cluster.orders()[-1]
    done = {r.topic: r.end for r in before.ranges}[cluster.topic("input")]
    ranges = [(cluster.topic("labels"), 0, 0), (cluster.topic("input"), done, done + 30)]
    raw = RecordBatch.of(lines[100:130], [Kind.TRANSACTION_LINE] * 30, [int(time.time())] * 30, 100)
    order = Order(
        100, tuple(Range(topic, 0, begin, end) for topic, begin, end in ranges), np.ones(30, np.int64),
        Versions("m", "p", "c", 1), before.history,
        encode(small_world.admit(raw), small_world.context.catalogue),
    )  # fmt: skip
    other.begin_transaction()
    other.produce(cluster.topic("order"), order.to_bytes())
    other.flush(DEADLINE_SECONDS)
    admin = cluster.connection("viewer").admin()
    partition = TopicPartition(cluster.topic("order"), 0)

    def end_of_order() -> int:
        """With what is not committed."""
        latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition]  # type: ignore[no-untyped-call]
        offset: int = latest.result(DEADLINE_SECONDS).offset
        return offset

    open_at, messages, is_committed = end_of_order(), list[str](), False
    check = deadline()

    def is_over() -> bool:
        """The scorer's barrier did not help; then the other transaction ends, and it decides after it."""
        nonlocal is_committed
        if not is_committed and end_of_order() >= open_at + 2:
            other.commit_transaction(DEADLINE_SECONDS)
            is_committed = True
        check()
        return any("Deciding" in sentence for sentence in messages)

    stream(cluster.context("scorer", home), is_over, messages.append)
    assert is_committed
    assert "Deciding from position 130." in messages
    assert any(map(is_barrier, cluster.read("order")))


def _begin_in_vain(opened: Stream, broker: LocalBroker) -> None:
    """Without a broker no life begins; it is there again afterwards."""
    try:
        with pytest.raises(SupersededError, match="no broker answers"):
            opened.open(STREAM_BEGIN)
    finally:
        broker.start()


def test_a_life_that_ends_without_a_broker_is_followed_by_another(
    broker: LocalBroker, tmp_path: Path
) -> None:
    """It ends before it is assigned the partition: there the client used to wait permanently."""
    cluster = Cluster.new(broker)
    opened = cluster.context("scorer", tmp_path, kafka_timeout_seconds=1).adapters.open_stream(print)
    opened.open(STREAM_BEGIN)
    admin, group = cluster.connection("admin").admin(), f"zaslon-{cluster.number}"

    def is_assigned() -> bool:
        found = admin.describe_consumer_groups([group])[group].result(DEADLINE_SECONDS)
        return any(member.assignment.topic_partitions for member in found.members)

    _until(is_assigned)
    broker.kill()
    _begin_in_vain(opened, broker)
    opened.open(STREAM_BEGIN)
    opened.close()


class _Impatient(Connection):
    """Its members lose their membership after three seconds without a poll."""

    def consumer(self, watch: Watch, **more: Any) -> Consumer:
        return super().consumer(watch, **{**more, "max_poll_interval_ms": 3_000})


def test_a_member_that_did_not_poll_joins_the_group_again(broker: LocalBroker) -> None:
    cluster, group = Cluster.new(broker), "zaslon-silent"
    connection = _Impatient(**vars(cluster.connection("scorer")))
    leadership = Leadership(connection, cluster.topic("order"), group, 3, Watch("broker"))
    admin = cluster.connected_admin()
    _until(lambda: leadership.is_ours, leadership.poll)
    _until(lambda: not admin.describe_consumer_groups([group])[group].result(DEADLINE_SECONDS).members)
    assert leadership.is_ours, "it has not polled yet"
    _until(lambda: not leadership.is_ours, leadership.poll)
    _until(lambda: leadership.is_ours, leadership.poll)
    leadership.close()


def test_a_broker_lost_while_a_life_begins_is_retried(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.new(broker)
    opened = cluster.context("scorer", tmp_path, kafka_timeout_seconds=1).adapters.open_stream(print)
    opened.open(STREAM_BEGIN)
    begin = OrderReader.open

    def begin_without(orders: OrderReader, offset: int, is_newest: Callable[[], bool]) -> None:
        broker.kill()
        begin(orders, offset, is_newest)

    with monkeypatch.context() as patched:
        patched.setattr(OrderReader, "open", begin_without)
        _begin_in_vain(opened, broker)
    opened.open(STREAM_BEGIN)
    opened.close()


def test_connecting_is_retried_unless_access_is_refused(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Cluster.new(broker).context("scorer", tmp_path).adapters.open_stream(print)
    begin, refusals = OrderReader.open, [KafkaError.NOT_LEADER_FOR_PARTITION] * 2

    def refuse_first(orders: OrderReader, offset: int, is_newest: Callable[[], bool]) -> None:
        if refusals:
            raise KafkaException(KafkaError(refusals.pop()))
        begin(orders, offset, is_newest)

    monkeypatch.setattr(OrderReader, "open", refuse_first)
    opened.open(STREAM_BEGIN)
    refusals.append(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(ServerError, match="does not allow us this topic"):
        opened.open(STREAM_BEGIN)
    opened.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [(error_codes.TRANSPORT, SupersededError), (KafkaError.TOPIC_AUTHORIZATION_FAILED, ServerError)],
)
def test_a_scorer_that_loses_its_broker_becomes_a_standby(
    broker: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    context = Cluster.new(broker).context("scorer", tmp_path)
    opened = context.adapters.open_stream(print)
    opened.open(STREAM_BEGIN)
    assert list(filter(None, opened.replay(lambda: False))) == []

    def fail(partitions: Partitions, next_offsets: dict[str, int]) -> None:
        raise KafkaException(KafkaError(code))

    monkeypatch.setattr(Partitions, "open", fail)
    with pytest.raises(error):
        next(opened.take(lambda raw: admit(raw, context.catalogue, context.key), 10, lambda: False))
    opened.close()


def test_refused_transactions_are_one_clear_error(broker: LocalBroker) -> None:
    cluster, watch = Cluster.new(broker), Watch("broker")
    names = TopicNames(*(cluster.topic(t) for t in ("input", "labels", "predictions", "rejections", "order")))
    scorer = cluster.connection("scorer")
    leadership = Leadership(scorer, names.order, f"zaslon-{cluster.number}", 6, watch)
    with pytest.raises(ServerError, match="does not allow us transactions under this name"):
        Committer(
            scorer, names, "others", leadership, watch, committed=lambda order, offset: None,
            is_over=lambda: False, limits=MessageLimits(100_000, 100_000),
        )  # fmt: skip
    leadership.close()
