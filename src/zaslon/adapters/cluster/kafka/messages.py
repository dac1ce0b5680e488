"""The messages of topics `predictions` and `rejections`: how outcomes are written and read.

predictions  key: the transaction's id; value: the outcome's JSON; header `kind` = `label` where it
             is the receipt of a label, `change` where another model or policy decides from here on (without
             a key). A decision has no header: one would cost every transaction 1.5 µs, a tenth of what its
             whole way through the scorer takes.
rejections   no key; value: the original bytes; headers: `kind` = `rejection`, and everything else
             that a `Rejection` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.topics import TopicNames
from zaslon.domain.errors import ArtefactError
from zaslon.domain.outcomes import ChangeMade, Decision, Outcome, Rejection
from zaslon.domain.recorded import Recorded
from zaslon.domain.rejections import RecordProblem

_LABEL: list[tuple[str, str | bytes | None]] = [("kind", b"label")]
_CHANGE: list[tuple[str, str | bytes | None]] = [("kind", b"change")]
_REJECTION = ("kind", b"rejection")


class RejectionMessage(NamedTuple):
    """What topic `rejections` gets of a rejected record."""

    value: bytes
    headers: list[tuple[str, Any]]


def rejection_messages(
    outcomes: Sequence[Outcome], originals: Callable[[int], bytes], original_bytes_max: int
) -> dict[int, RejectionMessage]:
    """The messages of all rejected records, by log position.

    Args:
        outcomes: of a micro-batch.
        originals: the whole original bytes of a record, by log position.
        original_bytes_max: longer ones are cut.
    """
    messages = {}
    for outcome in outcomes:
        if isinstance(outcome, Rejection):
            original = originals(outcome.position)
            headers = _headers(outcome, original, original_bytes_max)
            messages[outcome.position] = RejectionMessage(original[:original_bytes_max], headers)
    return messages


def send_outcomes(
    producer: Producer, names: TopicNames, outcomes: Sequence[Outcome], content: Sequence[bytes],
    rejections: Mapping[int, RejectionMessage],
) -> None:  # fmt: skip
    """Send each outcome as one message of `predictions` or `rejections`, in the order of the log.

    Args:
        outcomes: of a micro-batch.
        content: the JSON of each.
        rejections: the messages of rejected records, by log position.

    Raises:
        KafkaException: the client does not take one; the transaction must not be committed.
    """
    predictions, send = names.predictions, producer.produce
    try:
        for outcome, value in zip(outcomes, content, strict=True):
            if type(outcome) is Decision:
                send(predictions, value, str(outcome.transaction_id).encode())
            elif isinstance(outcome, Rejection):
                message = rejections[outcome.position]
                send(names.rejections, message.value, headers=message.headers)
            elif isinstance(outcome, ChangeMade):
                send(predictions, value, headers=_CHANGE)
            else:
                send(predictions, value, str(outcome.transaction_id).encode(), headers=_LABEL)
    except BufferError as error:
        raise KafkaException(KafkaError(error_codes.QUEUE_FULL)) from error


def recorded(message: Message) -> Recorded:
    """A message of topic `predictions`; it is parsed here, and nowhere else.

    Raises:
        ArtefactError: something other than Zaslon wrote it.
    """
    try:
        return Recorded.read(message.value() or b"")
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"The message at offset {message.offset()} of '{message.topic()}' is no outcome.",
            hint="Only Zaslon may write to that topic.",
        ) from error


def recorded_rejection(message: Message) -> Recorded:
    """A message of topic `rejections`."""
    rejection = as_rejection(message)
    return Recorded.of(rejection, rejection.to_json())


def as_rejection(message: Message) -> Rejection:
    """A message of topic `rejections` as the outcome that was sent."""
    headers: dict[str, Any] = dict(message.headers() or [])
    if "problems" in headers:
        problems = tuple(map(RecordProblem.from_json_dict, orjson.loads(headers["problems"])))
    else:
        problems = (RecordProblem.of_record(headers["reason"].decode(), headers["detail"].decode()),)
    return Rejection(
        int(headers["position"]), problems, (message.value() or b"")[: int(headers["raw_bytes"])],
        orjson.loads(headers["transaction_id"]),
    )  # fmt: skip


def _headers(outcome: Rejection, original: bytes, original_bytes_max: int) -> list[tuple[str, Any]]:
    headers = [
        _REJECTION,
        ("position", b"%d" % outcome.position),
        ("reason", outcome.code.encode()),
        ("detail", outcome.detail.encode()),
        ("raw_bytes", b"%d" % len(outcome.raw or b"")),
        ("transaction_id", orjson.dumps(outcome.transaction_id)),
    ]
    if outcome.transaction_id is None:
        headers.append(("problems", orjson.dumps([p.to_json_dict() for p in outcome.problems])))
    if len(original) > original_bytes_max:
        headers.append(("cut_from_bytes", b"%d" % len(original)))
    return headers
