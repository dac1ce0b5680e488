"""A prediction's key is the transaction's id: whoever reads it knows a number from a text."""

from __future__ import annotations

import pytest

from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import Action, Decision, Versions


@pytest.mark.parametrize("name", [5, -7, 2**63 - 1, "5", "0d9f7a3e-52c1", 'платёж "7"', '"', ","])
def test_the_key_of_a_prediction_gives_back_the_id(name: TransactionId) -> None:
    pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")
    from zaslon.adapters.cluster.kafka.commit import send_outcomes
    from zaslon.adapters.cluster.kafka.outcome_reader import _named
    from zaslon.adapters.cluster.kafka.topics import TopicNames

    sent: list[dict[str, bytes]] = []

    class Producer:
        def produce_batch(self, _topic: str, messages: list[dict[str, bytes]]) -> int:
            sent.extend(messages)
            return len(messages)

    decision = Decision(41, name, 5, Action.ALLOW, 0.5, (), (), (), Versions("m", "p", "c", 1))
    names = TopicNames("input", "labels", "predictions", "rejections", "order")
    send_outcomes(Producer(), names, [decision], {}, 1_000)  # type: ignore[arg-type]
    assert [_named(message["key"], message["value"]) for message in sent] == [name]
