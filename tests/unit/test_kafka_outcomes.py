"""No outcome is left out of a transaction in silence; no broker is needed to be refused by the client."""

from __future__ import annotations

import pytest

from zaslon.domain.outcomes import Action, Decision, ReasonGiven, Versions

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"message.max.bytes": 1_000}, "MSG_SIZE_TOO_LARGE"),
        ({"queue.buffering.max.messages": 2}, "_QUEUE_FULL"),
    ],
)
def test_an_outcome_that_the_client_does_not_take_fails_the_transaction(
    limit: dict[str, int], code: str
) -> None:
    from zaslon.adapters.cluster.kafka.commit import send_outcomes
    from zaslon.adapters.cluster.kafka.topics import TopicNames

    producer = kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, **limit})
    names = TopicNames("input", "labels", "predictions", "rejections", "order")
    outcomes = [
        Decision(
            n,
            n,
            5,
            Action.ALLOW,
            0.5,
            (ReasonGiven("code", "x" * length, 1.0),),
            (),
            (),
            Versions("m", "p", "c", 1),
        )
        for n, length in enumerate((10, 2_000, 10, 10))
    ]
    with pytest.raises(kafka.KafkaException) as raised:
        send_outcomes(producer, names, outcomes, {}, 1_000)
    assert raised.value.args[0].code() == getattr(kafka.KafkaError, code)
