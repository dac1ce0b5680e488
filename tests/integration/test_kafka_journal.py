"""The journal on Kafka keeps to the same contract as the embedded one, and replays the stream."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.contract.conftest import OpenJournal
from tests.contract.test_journal_contract import *  # noqa: F403  the contract itself
from tests.contract.test_journal_contract import RECORDS, batch, outcomes
from tests.integration.kafka_world import Cluster

from zaslon.adapters.cluster.kafka.commit import Committer
from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.adapters.cluster.kafka.journal import KafkaJournal
from zaslon.adapters.cluster.kafka.leadership import Leadership
from zaslon.adapters.cluster.kafka.topics import TopicNames
from zaslon.domain.errors import DataError
from zaslon.domain.events import Kind
from zaslon.flows.replay import find_position, replay
from zaslon.ports import SupersededError
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


def _names(cluster: Cluster) -> TopicNames:
    return TopicNames(*(cluster.topic(t) for t in ("input", "labels", "predictions", "rejections", "order")))


@pytest.fixture
def cluster(broker: LocalBroker) -> Cluster:
    return Cluster.new(broker)


@pytest.fixture
def open_journal(cluster: Cluster) -> OpenJournal:
    return lambda: KafkaJournal(cluster.connection("admin"), _names(cluster), f"zaslon-{cluster.number}")


def test_of_two_who_opened_the_same_log_one_records(open_journal: OpenJournal) -> None:
    first, second = open_journal(), open_journal()
    first.record(batch(0, RECORDS), outcomes(0, RECORDS), None)
    for _ in range(2):
        with pytest.raises(DataError, match=f"goes on to position {len(RECORDS)}; position 0 was"):
            second.record(batch(0, RECORDS), outcomes(0, RECORDS), None)
    third = open_journal()
    third.record(batch(len(RECORDS), RECORDS), outcomes(len(RECORDS), RECORDS), None)
    assert [position for position, _ in third.outcomes()] == list(range(2 * len(RECORDS)))


def test_who_records_shuts_out_the_scorers_of_the_group(cluster: Cluster, open_journal: OpenJournal) -> None:
    watch, group, names = Watch("broker"), f"zaslon-{cluster.number}", _names(cluster)
    leadership = Leadership(cluster.connection("scorer"), names.order, group, 6, watch)
    scorer = Committer(
        cluster.connection("scorer"), names, group, leadership, watch, committed=lambda order, offset: None,
        is_over=lambda: False, rejection_bytes_max=100_000,
    )  # fmt: skip
    open_journal().record(batch(0, RECORDS), outcomes(0, RECORDS), None)
    with pytest.raises(SupersededError, match="shut us out"):
        scorer.commit_barrier()
    leadership.close()


def test_an_old_decision_of_the_stream_is_replayed_byte_for_byte(
    broker: LocalBroker, small_world: SmallWorld, home: Path
) -> None:
    cluster = Cluster.new(broker)
    for topic, kind in (("input", Kind.TRANSACTION_LINE), ("labels", Kind.LABEL_JSON)):
        cluster.send(
            topic, [r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == kind][:500]
        )
    cluster.stream_until(home, 1_000)
    context = cluster.context("viewer", home).with_log("stream")
    published = cluster.published()
    for position in (0, 123, 666, 999):
        replayed = replay(context, position)
        assert replayed.recorded == published[position]
        assert replayed.identical
    decided = next(m.key() for m in cluster.read("predictions") if b'"decision"' in (m.value() or b""))
    assert replay(context, find_position(context, f"tx:{(decided or b'').decode()}")).identical
