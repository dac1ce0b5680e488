"""Outcomes come back from their messages as they were sent; no broker is needed."""

from __future__ import annotations

from typing import Any

import pytest

from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import Action, Decision, LabelAccepted, Outcome, ReasonGiven, Rejection, Versions
from zaslon.domain.rejections import PROBLEMS_MAX, Reason, RecordProblem

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")

VERSIONS = Versions("m", "p", "c", 1)


class Producer:
    """Keeps what is sent as the messages that a consumer gets."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Any]] = {"predictions": [], "rejections": []}

    def produce(self, topic: str, value: bytes, key: bytes | None = None, **more: Any) -> None:
        message = kafka.Message(topic=topic, partition=0, offset=0, value=value, key=key, **more)
        self.messages[topic].append(message)


def _sent(
    outcome: Outcome, originals: dict[int, bytes] | None = None, original_bytes_max: int = 1_000
) -> Any:
    """The message of an outcome, and its topic."""
    from zaslon.adapters.cluster.kafka.messages import rejection_messages, send_outcomes
    from zaslon.adapters.cluster.kafka.topics import TopicNames

    raw = outcome.raw or b"" if isinstance(outcome, Rejection) else b""
    rejections = rejection_messages([outcome], lambda at: (originals or {}).get(at, raw), original_bytes_max)
    producer: Any = Producer()
    names = TopicNames("input", "labels", "predictions", "rejections", "order")
    send_outcomes(producer, names, [outcome], [outcome.to_json()], rejections)
    ((topic, message),) = [(t, m) for t, found in producer.messages.items() for m in found]
    return topic, message


def _decision(position: int, name: TransactionId) -> Decision:
    reasons = (ReasonGiven("rule:a", 'a text with "position":7,', 1.0),)
    return Decision(position, name, 5, Action.ALLOW, 0.5, reasons, (), (), VERSIONS)


@pytest.mark.parametrize(
    "name", [5, -7, 2**63 - 1, "5", "0d9f7a3e-52c1", 'payment "position":9,', ",", "\u00e9"]
)
def test_a_decision_has_its_id_as_key_and_no_header(name: TransactionId) -> None:
    from zaslon.adapters.cluster.kafka.messages import recorded

    topic, message = _sent(_decision(41, name))
    found = recorded(message)
    assert (topic, message.headers()) == ("predictions", None)
    assert (found.position, found.decided, found.outcome) == (41, name, _decision(41, name))
    assert found.json == _decision(41, name).to_json()


def test_the_receipt_of_a_label_is_not_a_decision() -> None:
    from zaslon.adapters.cluster.kafka.messages import recorded

    receipt = LabelAccepted(7, 1234, is_fraud=True)
    topic, message = _sent(receipt)
    assert (topic, message.headers(), message.key()) == ("predictions", [("kind", b"label")], b"1234")
    found = recorded(message)
    assert (found.position, found.decided, found.outcome) == (7, None, receipt)
    assert found.json == receipt.to_json()


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"nonsense", b'{"outcome":"decision"}'])
def test_a_message_that_is_no_outcome_is_named(value: bytes | None) -> None:
    from zaslon.adapters.cluster.kafka.messages import recorded

    message = kafka.Message(topic="predictions", partition=0, offset=7, value=value)
    with pytest.raises(ArtefactError, match="offset 7 of 'predictions'"):
        recorded(message)


@pytest.mark.parametrize("name", [None, 5, "5"])
def test_a_rejection_comes_back_with_its_id_and_bytes(name: TransactionId | None) -> None:
    from zaslon.adapters.cluster.kafka.messages import recorded_rejection

    problem = RecordProblem(Reason.DUPLICATE, None, "It repeats \u2026")
    rejection = Rejection(9, (problem,), b"\xff\x00raw", transaction_id=name)
    topic, message = _sent(rejection, {9: b"\xff\x00raw and more"})
    assert (topic, dict(message.headers())["kind"]) == ("rejections", b"rejection")
    assert message.value() == b"\xff\x00raw and more"
    found = recorded_rejection(message)
    assert (found.outcome, found.position, found.json) == (rejection, 9, rejection.to_json())


def test_long_original_bytes_are_cut_with_their_length() -> None:
    too_long = (RecordProblem(Reason.TOO_LONG, None, "It is long"),)
    _, message = _sent(Rejection(9, too_long, b"abc"), {9: b"abcdef"}, 4)
    assert message.value() == b"abcd"
    assert dict(message.headers())["cut_from_bytes"] == b"6"


def test_a_rejection_comes_back_with_all_its_problems() -> None:
    from zaslon.adapters.cluster.kafka.messages import as_rejection

    problems = tuple(RecordProblem(Reason.MISSING_FIELD, f"f{i}", "is missing", "a value") for i in range(16))
    sent = Rejection(7, problems, b"x,\xff")
    assert as_rejection(_sent(sent)[1]) == sent


def test_message_headers_fit_the_longest_problems() -> None:
    from zaslon.adapters.cluster.kafka.commit import HEADROOM_BYTES

    longest = RecordProblem(
        Reason.CONFLICTING_DUPLICATE, "f" * 64, "is '" + "\\U0001f600\u00e9" * 6 + "\u2026'", "e" * 120
    )
    sent = Rejection(2**60, (longest,) * PROBLEMS_MAX, b"")
    assert sum(len(k) + len(v) for k, v in _sent(sent)[1].headers()) < HEADROOM_BYTES


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"message.max.bytes": 1_000}, "MSG_SIZE_TOO_LARGE"),
        ({"queue.buffering.max.messages": 2}, "_QUEUE_FULL"),
    ],
)
def test_an_outcome_that_the_client_refuses_fails_the_transaction(limit: dict[str, int], code: str) -> None:
    from zaslon.adapters.cluster.kafka.messages import send_outcomes
    from zaslon.adapters.cluster.kafka.topics import TopicNames

    producer = kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, **limit})
    names = TopicNames("input", "labels", "predictions", "rejections", "order")
    outcomes = [
        Decision(n, n, 5, Action.ALLOW, 0.5, (ReasonGiven("code", "x" * length, 1.0),), (), (), VERSIONS)
        for n, length in enumerate((10, 2_000, 10, 10))
    ]
    with pytest.raises(kafka.KafkaException) as raised:
        send_outcomes(producer, names, outcomes, [o.to_json() for o in outcomes], {})
    assert raised.value.args[0].code() == getattr(kafka.KafkaError, code)
