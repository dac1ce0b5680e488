"""The stream's log is read like the embedded one, and its old decisions are replayed byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.log_batches import content_of
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Kind, LogBatch
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import find_position, replay
from zaslon.ports import LogReader
from zaslon.services.context import Context
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration

RECORDS = 1_010


@pytest.fixture(scope="module")
def cluster(broker: LocalBroker) -> Cluster:
    return Cluster.new(broker)


@pytest.fixture(scope="module")
def context(cluster: Cluster, small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The log of a stream with labels, repeats and nonsense among its records, for reading."""
    home = small_world.in_home(tmp_path_factory.mktemp("journal") / "home").context.home
    lines, labels = (
        [r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == kind]
        for kind in (Kind.TRANSACTION_LINE, Kind.LABEL_JSON)
    )
    cluster.send("input", [*lines[:450], b"nonsense", *lines[:9]])
    cluster.stream_until(home, 460)
    cluster.send("labels", labels[:500])
    cluster.send("input", lines[450:500])
    cluster.stream_until(home, RECORDS)
    return cluster.context("viewer", home).with_log("stream")


@pytest.fixture
def reader(context: Context) -> Iterator[LogReader]:
    with closing(context.open_journal_for_reading()) as opened:
        yield opened


@pytest.fixture(scope="module")
def embedded(
    context: Context, cluster: Cluster, small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqliteJournal]:
    """The same log in the embedded journal."""
    engine = small_world.engine()
    path = tmp_path_factory.mktemp("embedded") / "journal.db"
    with closing(SqliteJournal(path, context.catalogue)) as journal:
        journal.serve(engine.versions)
        for batch in cluster.recorded(context.catalogue):
            journal.record(batch, engine.process(batch).outcomes, None)
        yield journal


def _content(batches: Iterator[LogBatch]) -> dict[str, object]:
    return content_of(LogBatch.concatenate(list(batches)))


@pytest.mark.parametrize(("begin", "end"), [(0, None), (0, 1), (459, 461), (333, 777), (1_009, 1_010)])
def test_records_are_those_of_the_embedded_journal(
    reader: LogReader, embedded: SqliteJournal, begin: int, end: int | None
) -> None:
    assert reader.next_position == embedded.next_position == RECORDS
    for originals in (True, False):
        assert _content(reader.read(begin, end, originals=originals)) == _content(
            embedded.read(begin, end, originals=originals)
        )


def test_outcomes_are_those_of_the_embedded_journal(reader: LogReader, embedded: SqliteJournal) -> None:
    assert list(reader.outcomes()) == list(embedded.outcomes())
    assert list(reader.outcomes(700)) == list(embedded.outcomes(700))
    assert list(reader.outcomes(RECORDS)) == []
    for position in (-1, 0, 455, 1_009, RECORDS):
        assert reader.outcome(position) == embedded.outcome(position)
    for before, count in ((None, 7), (460, 20), (3, 20), (0, 5)):
        assert reader.page(before, count) == embedded.page(before, count)


def test_outcomes_of_a_transaction_are_found(
    reader: LogReader, embedded: SqliteJournal, small_world: SmallWorld
) -> None:
    found = [int(r.split(b",")[0]) for r, k in zip(small_world.records, small_world.kinds, strict=True)
             if k == Kind.TRANSACTION_LINE and r.split(b",")[0].isdigit()][:3]  # fmt: skip
    for identifier in (*found, 123_456_789):
        assert reader.find(identifier) == embedded.find(identifier)
        assert reader.newest_decision(identifier) == embedded.newest_decision(identifier)
        assert reader.newest_decision(identifier, 0) is None
    assert reader.find(str(found[0])) == [], "this catalogue's ids are numbers"


def test_serving_versions_are_those_that_decided(reader: LogReader, small_world: SmallWorld) -> None:
    versions = small_world.engine().versions
    assert reader.serving(-1) is None
    assert {reader.serving(position) for position in (0, 500, RECORDS - 1, RECORDS)} == {versions}


def test_reads_that_are_open_end_when_the_journal_is_closed(context: Context) -> None:
    opened = context.open_journal_for_reading()
    records, outcomes = opened.read(0), opened.outcomes()
    assert len(next(records)) > 0
    assert next(outcomes)[0] == 0
    opened.close()
    assert (next(records, None), next(outcomes, None)) == (None, None)


def test_an_old_decision_is_replayed_byte_for_byte(context: Context, cluster: Cluster) -> None:
    published = cluster.published()
    for position in (0, 123, 455, 666, 1_009):
        replayed = replay(context, position)
        assert replayed.recorded == published[position]
        assert replayed.identical
    decided = next(m.key() or b"" for m in cluster.read("predictions") if not m.headers())
    assert replay(context, find_position(context, f"tx:{decided.decode()}")).identical


def test_the_log_reconciles(context: Context) -> None:
    found = reconcile(context)
    assert found.is_whole
    assert (found.records, found.labels) == (RECORDS, 500)


def test_an_empty_log_is_empty(broker: LocalBroker, tmp_path: Path) -> None:
    other = Cluster.new(broker).context("viewer", tmp_path).with_log("stream")
    with closing(other.open_journal_for_reading()) as opened:
        assert opened.next_position == 0
        assert (list(opened.read(0)), list(opened.outcomes()), opened.serving(0)) == ([], [], None)


def test_the_log_is_read_without_its_original_bytes(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    """As when `input` keeps its records for less time than `order`."""
    cluster = Cluster.new(broker)
    lines = [r for r, k in zip(small_world.records, small_world.kinds, strict=True)
             if k == Kind.TRANSACTION_LINE]  # fmt: skip
    cluster.send("input", lines[:300])
    cluster.stream_until(home, 300)
    context = cluster.context("viewer", home).with_log("stream")
    with closing(context.open_journal_for_reading()) as opened:
        before = _content(opened.read(0, originals=False))
    admin, target = cluster.connected_admin(), TopicPartition(cluster.topic("input"), 0, OFFSET_END)
    admin.delete_records([target])[target].result(DEADLINE_SECONDS)
    with closing(context.open_journal_for_reading()) as opened:
        assert _content(opened.read(0)) == before
    decided = next(m.key() or b"" for m in cluster.read("predictions"))
    assert replay(context, find_position(context, f"tx:{decided.decode()}")).identical


def test_a_log_of_an_earlier_format_is_refused(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    producer = cluster.connection("admin").producer(Watch("broker"))
    producer.produce(
        cluster.topic("order"), b'{"position":0,"count":0,"ranges":[],"sources":[]}', partition=0
    )
    assert producer.flush(DEADLINE_SECONDS) == 0
    with pytest.raises(ArtefactError, match="holds messages of format 1; this version reads format 2"):
        cluster.context("viewer", home).with_log("stream").open_journal_for_reading()
    with pytest.raises(ArtefactError, match="begin with new topics"):
        cluster.stream_until(home, 1)


def test_outcomes_that_came_before_their_order_are_found(
    reader: LogReader, embedded: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition of the orders had no leader for a while, or the clock of its broker is ahead."""
    there = "zaslon.adapters.cluster.kafka.kafka_journal.sent_ms"
    monkeypatch.setattr(there, lambda message: int(message.timestamp()[1]) + 50_000)
    assert list(reader.outcomes(700)) == list(embedded.outcomes(700))
    for position in (0, 455, 1_009):
        assert reader.outcome(position) == embedded.outcome(position)
    assert reader.page(460, 20) == embedded.page(460, 20)
