"""No outcome is left out of a transaction in silence; no broker is needed to be refused by the client."""

from __future__ import annotations

import pytest

from zaslon.domain.outcomes import Action, Decision, ReasonGiven, Rejection, Versions
from zaslon.domain.rejections import PROBLEMS_MAX, Reason, RecordProblem

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


class _Sent:
    """What a rejection's message holds."""

    def __init__(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.value, self.headers = lambda: value, lambda: headers


def test_a_rejection_read_back_from_its_topic_has_all_its_problems() -> None:
    from zaslon.adapters.cluster.kafka.commit import _headers, as_rejection

    problems = tuple(RecordProblem(Reason.MISSING_FIELD, f"f{i}", "is missing", "a value") for i in range(16))
    for found in ((), problems):
        sent = Rejection(7, "missing_field:f0", "Field 'f0' is missing; expected a value.", b"x,\xff", found)
        read = as_rejection(_Sent(sent.raw, _headers(sent, sent.raw, 100)))  # type: ignore[arg-type]
        assert read == sent and read.to_json() == sent.to_json()


def test_the_headers_of_a_message_leave_room_for_the_longest_problems() -> None:
    from zaslon.adapters.cluster.kafka.commit import _HEADROOM_BYTES, _headers

    longest = RecordProblem(
        Reason.CONFLICTING_DUPLICATE, "f" * 64, "is '" + "\\U0001f600é" * 6 + "…'", "e" * 120
    )
    sent = Rejection(2**60, longest.code, longest.detail, b"", (longest,) * PROBLEMS_MAX)
    assert sum(len(k) + len(v) for k, v in _headers(sent, b"", 1)) < _HEADROOM_BYTES
