"""Each user can do only its part, and what cannot work fails within seconds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from deploy.kafka.broker import LocalBroker
from tests.integration.kafka_world import Cluster
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Watch
from zaslon.bootstrap import kafka_connection, open_topics
from zaslon.domain.errors import ServerError
from zaslon.flows.stream import stream

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(broker: LocalBroker) -> Cluster:
    return Cluster.new(broker)


def _code(call: Callable[[], object]) -> int:
    with pytest.raises(KafkaException) as caught:
        call()
    code: int = caught.value.args[0].code()
    return code


def _write(cluster: Cluster, user: str, topic: str) -> int | None:
    """The error of a message sent by a user, or None if it was taken."""
    refused: list[int | None] = []
    connection = cluster.connection(user)
    # Without idempotence: what is asked here is the topic's answer, not the producer's.
    producer = Producer(connection.config(Watch("broker"), message_timeout_ms=8_000))

    def delivered(error: KafkaError | None, _: Message) -> None:
        refused.append(None if error is None else error.code())

    producer.produce(cluster.topic(topic), b"{}", on_delivery=delivered)
    producer.flush(DEADLINE_SECONDS)
    assert len(refused) == 1
    return refused[0]


def _read(cluster: Cluster, user: str, topic: str) -> int | None:
    """The error of a read by a user, or None if it was allowed."""
    consumer = cluster.connection(user).consumer(
        Watch("broker"),
        group_id={"scorer": "zaslon-reads", "gateway": "gateway"}.get(user, f"{user}-reads"),
        enable_partition_eof=True,
        auto_offset_reset="earliest",
    )
    consumer.assign([TopicPartition(cluster.topic(topic), 0, 0)])
    message = consumer.poll(DEADLINE_SECONDS)
    consumer.close()
    assert message is not None
    error = message.error()
    return None if error is None or error.code() == error_codes.PARTITION_END else error.code()


@pytest.mark.parametrize(
    ("user", "may_write", "may_read"),
    [
        ("producer", {"input", "labels"}, set()),
        ("scorer", {"order", "predictions", "rejections"}, {"input", "labels", "order"}),
        ("gateway", {"input", "labels"}, {"order", "predictions", "rejections"}),
        ("viewer", set(), {"input", "labels", "order", "predictions", "rejections"}),
    ],
)
def test_a_user_is_refused_what_is_not_its_own(
    cluster: Cluster, user: str, may_write: set[str], may_read: set[str]
) -> None:
    for topic in ("input", "labels", "order", "predictions", "rejections"):
        refused = KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert _write(cluster, user, topic) == (None if topic in may_write else refused), topic
        seen = _read(cluster, user, topic)
        assert seen in ({None} if topic in may_read else {refused, KafkaError.GROUP_AUTHORIZATION_FAILED}), (
            topic
        )


@pytest.mark.parametrize("user", ["producer", "gateway", "viewer"])
def test_only_the_scorer_may_use_its_group_and_transactions(cluster: Cluster, user: str) -> None:
    producer = cluster.connection(user).producer(Watch("broker"), transactional_id="zaslon-scorer")
    assert _code(lambda: producer.init_transactions(DEADLINE_SECONDS)) == (
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    )
    consumer: Consumer = cluster.connection(user).consumer(Watch("broker"), group_id="zaslon-scorer")
    consumer.subscribe([cluster.topic("input")])
    message = consumer.poll(DEADLINE_SECONDS)
    consumer.close()
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.code() in (
        KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    )  # fmt: skip


def test_a_viewer_may_not_create_topics(cluster: Cluster) -> None:
    with pytest.raises(ServerError, match="does not allow us"):
        open_topics(cluster.settings("viewer", Path("unused"), kafka_topic_input="another")).create()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"kafka_password": "wrong", "kafka_password_file": None}, "refuses the user or the password"),
        ({"kafka_user": "nobody"}, "refuses the user or the password"),
        ({"kafka_ca_file": "other"}, "shows a certificate that is not trusted"),
        ({"kafka_servers": "127.0.0.1:1", "kafka_timeout_seconds": 3}, "No broker answers at 127.0.0.1:1"),
    ],
    ids=["password", "user", "authority", "nobody there"],
)
def test_a_wrong_connection_is_one_clear_error(
    cluster: Cluster, tmp_path: Path, more: dict[str, object], sentence: str
) -> None:
    if more.get("kafka_ca_file") == "other":
        script = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "certificates.sh"
        subprocess.run(["sh", str(script), str(tmp_path / "tls")], check=True)
        more = {"kafka_ca_file": tmp_path / "tls" / "ca.crt"}
    with pytest.raises(ServerError, match=sentence):
        kafka_connection(cluster.settings("scorer", tmp_path, **more)).admin()


@pytest.mark.parametrize("missing", ["input", "labels", "order", "predictions", "rejections"])
def test_a_missing_topic_is_one_clear_error(cluster: Cluster, home: Path, missing: str) -> None:
    context = cluster.context("admin", home, **{f"kafka_topic_{missing}": "nowhere"})
    with pytest.raises(ServerError, match="There is no topic for 'nowhere'") as caught:
        stream(context, lambda: False, print)
    assert "zaslon topics create" in str(caught.value)


def test_no_secret_is_shown(cluster: Cluster) -> None:
    connection = cluster.connection("scorer")
    assert connection.password
    assert connection.password not in repr(connection)
    settings = cluster.settings("scorer", Path("unused"), kafka_password="very secret")
    assert "very secret" not in repr(settings)
