"""A message in Kafka takes the walk of ARCHITECTURE.md in its order."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.api.serving import transaction
from tests.call_trace import CLEAN_LABELS, label_walk, traced, walk
from tests.integration.kafka_world import Cluster
from tests.integration.test_kafka_gateway import gateway, scoring

pytestmark = pytest.mark.integration

IN_SCORER = ("KafkaStream.take", "Committer.submit")
IN_KAFKA = "A message in Kafka"
RECORDS = {
    "input": b"1,2020-01-01 10:00:00,5,7,20.00,0,0,0,0",
    "labels": b'{"transaction_id":1,"is_fraud":true}',
}


@pytest.mark.parametrize(
    ("topic", "expected"),
    [("input", walk(IN_KAFKA)), ("labels", label_walk(IN_KAFKA))],
    ids=["input", "labels"],
)
def test_a_message_takes_the_walk_in_order(
    topic: str, expected: list[str], broker: LocalBroker, home: Path
) -> None:
    cluster = Cluster.new(broker)
    cluster.send(topic, [RECORDS[topic]])
    with traced([*walk(IN_KAFKA), CLEAN_LABELS]) as calls:

        def forget_warm_up(message: str) -> None:
            if message.startswith("Deciding"):
                calls.clear()

        cluster.stream_until(home, 1, forget_warm_up)
    assert [name for name in calls if name in expected] == expected


def test_http_before_kafka_takes_the_walk_in_order(broker: LocalBroker, home: Path) -> None:
    """The scorer's part, in a process of its own, is a message's, which the test above follows."""
    expected = walk("A transaction over HTTP in front of Kafka")
    scorers = [name for name in expected if name.endswith(IN_SCORER)]
    assert scorers == [name for name in walk(IN_KAFKA) if name in scorers]
    cluster = Cluster.new(broker)
    with scoring(cluster, home), traced(expected) as calls, gateway(cluster, home) as caller:
        calls.clear()
        assert caller.post("/v1/transactions", transaction()).status_code == 200
        found = list(calls)
    assert found == [name for name in expected if name not in scorers]
