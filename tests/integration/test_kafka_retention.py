"""Records that are no longer kept: those that are not needed are not missed, others are one clear error."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Kind
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def _lines(world: SmallWorld) -> list[bytes]:
    return [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE]


def _delete(cluster: Cluster, topic: str, before: int = OFFSET_END) -> None:
    """As retention does: messages before an offset, or all that there are."""
    admin, target = cluster.connected_admin(), TopicPartition(cluster.topic(topic), 0, before)
    admin.delete_records([target])[target].result(DEADLINE_SECONDS)


@pytest.mark.parametrize("before", [100, OFFSET_END], ids=["some", "all"])
def test_a_new_scorer_needs_only_the_order_topic(
    broker: LocalBroker, small_world: SmallWorld, home: Path, tmp_path: Path, before: int
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)
    cluster.send("input", lines[:300])
    cluster.stream_until(home, 300)
    applied = list(cluster.recorded(small_world.context.catalogue))
    _delete(cluster, "input", before)
    cluster.send("input", lines[300:310])
    other = small_world.in_home(tmp_path / "other").context.home
    assert cluster.stream_until(other, 310).replayed == 300
    engine = small_world.engine()
    outcomes = [o.to_json() for batch in applied for o in engine.process(batch).outcomes]
    assert cluster.published()[:300] == outcomes
    assert len(cluster.published()) == 310


def test_undecided_deleted_records_are_one_clear_error(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)
    cluster.send("input", lines[:100])
    cluster.stream_until(home, 100)
    cluster.send("input", lines[100:200])
    _delete(cluster, "input", 150)
    with pytest.raises(ArtefactError, match=r"'input-\d+' no longer holds the records that follow"):
        cluster.stream_until(home, 200)
    assert len(cluster.published()) == 100


def test_a_stream_idle_until_everything_was_deleted_continues(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    """Transaction markers follow the last record; deleting them loses nothing."""
    cluster, lines, engine = Cluster.new(broker), _lines(small_world), small_world.engine()
    sender = cluster.connection("admin").producer(Watch("broker"), transactional_id="zaslon-sender")
    sender.init_transactions(DEADLINE_SECONDS)
    sender.begin_transaction()
    sender.produce(cluster.topic("labels"), b"nonsense")
    sender.commit_transaction(DEADLINE_SECONDS)
    cluster.stream_until(home, 1)
    cluster.send("input", lines[:200])
    cluster.stream_until(home, 201)
    before = cluster.embedded(engine)
    for topic in ("input", "labels", "order"):
        _delete(cluster, topic)
    cluster.send("input", lines[200:300])
    cluster.stream_until(home, 301)
    assert [*before, *cluster.embedded(engine)] == cluster.published()


def test_a_state_older_than_the_kept_orders_is_refused(
    broker: LocalBroker, small_world: SmallWorld, home: Path, tmp_path: Path
) -> None:
    cluster, lines, older = Cluster.new(broker), _lines(small_world), tmp_path / "older"
    cluster.send("input", lines[:100])
    cluster.stream_until(home, 100)
    shutil.copytree(home, older)
    cluster.send("input", lines[100:200])
    cluster.stream_until(home, 200)
    _delete(cluster, "order")
    new = small_world.in_home(tmp_path / "new").context.home
    for state in (older, new):
        with pytest.raises(ArtefactError, match="no longer holds what follows"):
            cluster.stream_until(state, 201)
    cluster.send("input", lines[200:210])
    cluster.stream_until(home, 210)
    assert len(cluster.published()) == 210


def test_a_page_before_a_gap_holds_nothing_behind_it(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster, lines = Cluster.new(broker), _lines(small_world)
    cluster.send("input", lines[:100])
    cluster.stream_until(home, 100)
    for topic in ("predictions", "rejections"):
        _delete(cluster, topic)
    cluster.send("input", lines[100:110])
    cluster.stream_until(home, 110)
    with closing(cluster.context("viewer", home).with_log("stream").open_journal_for_reading()) as journal:
        assert journal.page(90, 20) == []
        assert [position for position, _ in journal.page(None, 20)] == list(range(109, 99, -1))
        assert [position for position, _ in journal.outcomes(50)] == list(range(100, 110))
        assert journal.outcome(50) is None
