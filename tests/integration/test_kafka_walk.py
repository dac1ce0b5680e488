"""A message in Kafka takes the walk of ARCHITECTURE.md in its order."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from deploy.kafka.broker import LocalBroker
from tests.api.serving import transaction
from tests.call_trace import CLEAN_LABELS, label_walk, traced, walk
from tests.integration.kafka_world import Cluster
from tests.integration.test_kafka_gateway import gateway, scoring
from tests.recovery.faults import (
    GATEWAY_STAGES,
    PASSED,
    PUBLISH,
    STREAM_STAGES,
    SUBMIT_GATEWAY,
    Poison,
    inject,
    poisoned,
    without_fault,
)

from zaslon.adapters.cluster.kafka.messages import as_rejection
from zaslon.domain.rejections import Reason

pytestmark = pytest.mark.integration

IN_SCORER = ("KafkaStream.take", "Committer.submit")
IN_KAFKA = "A message in Kafka"
KAFKA = "zaslon.adapters.cluster.kafka"
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


def test_every_function_passed_by_a_message_has_had_a_fault(
    broker: LocalBroker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "policy.toml").write_text("[thresholds]\nreview = 0.00001\nblock = 0.99999\n")
    PASSED.clear()
    cluster = Cluster.new(broker)
    poisons = poisoned(monkeypatch, (*STREAM_STAGES, PUBLISH))
    records = [transaction(tx_amount=20 + n) for n in range(10)]
    records += [transaction(transaction_id=p.transaction_id, tx_amount=p.amount) for p in poisons.values()]
    records.append(records[-1])  # only a rejection breaks where it is published
    cluster.send("input", [orjson.dumps(record) for record in records])
    cluster.stream_until(home, len(records))
    rejected = [as_rejection(message).reason for message in cluster.read("rejections")]
    assert rejected == [Reason.ENGINE_ERROR] * len(poisons)
    assert set(PASSED) == set(poisons)
    # It hands the batch over to another thread, which sends what is made already.
    assert without_fault(walk(IN_KAFKA)) == {f"{KAFKA}.commit.Committer.submit"}


@pytest.mark.parametrize("stage", GATEWAY_STAGES)
def test_an_outcome_that_breaks_the_gateway_fails_its_call_alone(
    broker: LocalBroker, home: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    PASSED.clear()
    poison, cluster = Poison(900, 1_000.25), Cluster.new(broker)
    inject(monkeypatch, stage, poison)
    with scoring(cluster, home), gateway(cluster, home, api_budget_ms=5_000) as caller:
        broken = caller.post("/v1/transactions", transaction(transaction_id=900, tx_amount=1_000.25))
        assert (broken.status_code, broken.json()["in_log"]) == (503, True)
        assert caller.post("/v1/transactions", transaction()).status_code == 200
    name = "messages.recorded" if stage == "read_gateway" else "matching.Matching.outcome"
    assert without_fault([f"{KAFKA}.{name}"]) == set()


def test_a_call_that_breaks_the_gateway_fails_alone(
    broker: LocalBroker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not sent is not in the log; where others of its call were sent, nobody is told that they are not."""
    PASSED.clear()
    inject(monkeypatch, SUBMIT_GATEWAY, Poison(900, 1_000.25))
    cluster, good, bad = Cluster.new(broker), transaction(), transaction(tx_amount=1_000.25)
    with scoring(cluster, home), gateway(cluster, home, api_budget_ms=5_000) as caller:
        broken = caller.post("/v1/transactions", bad)
        assert (broken.status_code, broken.json()["type"]) == (500, "urn:zaslon:problem:internal")
        assert "nothing of it is in the log" in broken.json()["detail"]
        half = caller.post("/v1/transactions/batch", [good, bad])
        assert (half.status_code, half.json()["in_log"]) == (503, None)
        again = caller.post("/v1/transactions", good)
        assert again.status_code == 200 and again.json()["repeated"]
        assert caller.post("/v1/transactions", transaction()).status_code == 200
    assert without_fault([f"{KAFKA}.gateway.KafkaGateway.submit"]) == set()
