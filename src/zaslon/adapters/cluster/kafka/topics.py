"""The topics: created with the right settings, and checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from zaslon.adapters.cluster.kafka.connection import Connection, answer, refused
from zaslon.domain.errors import ServerError
from zaslon.ports.streams import TopicState

BROKERS_DEFAULT = -1
MEBIBYTE = 1 << 20
# The largest messages of new topics. A rejected message goes to `rejections` whole, with its reason
# beside it. A record takes about 60 bytes in `order`, up to 64 more where ids are texts, and a rejected
# one its reason: micro-batches are cut so that they fit.
INPUT_BYTES_MAX, REJECTION_BYTES_MAX, ORDER_BYTES_MAX = 1 * MEBIBYTE, 2 * MEBIBYTE, 8 * MEBIBYTE


@dataclass(frozen=True)
class TopicNames:
    """What the five topics are called."""

    input: str
    labels: str
    predictions: str
    rejections: str
    order: str

    def all(self) -> tuple[str, ...]:
        """In the order of the flow."""
        return self.input, self.labels, self.order, self.predictions, self.rejections


@dataclass(frozen=True)
class MessageLimits:
    """The largest messages that the topics of a stream take, in bytes."""

    order_bytes: int
    rejection_bytes: int


class KafkaTopics:
    """The port `Topics`.

    Args:
        partitions: of `input`, `labels` and `predictions`; `order` and `rejections` have one.
        retention_ms: how long records are kept.
    """

    def __init__(
        self, connection: Connection, names: TopicNames, *, partitions: int, retention_ms: int
    ) -> None:
        self._connection, self._names = connection, names
        self._partitions, self._retention_ms = partitions, retention_ms

    def create(self) -> list[TopicState]:
        """Create missing topics; existing ones stay as they are and are only checked."""
        admin = self._connection.admin()
        wanted = [
            NewTopic(
                name,
                1 if self._has_one_partition(name) else self._partitions,
                BROKERS_DEFAULT,
                config=self._config(name),
            )
            for name in self._names.all()
        ]
        for name, future in admin.create_topics(wanted).items():
            try:
                answer(future, f"'{name}'", self._connection.timeout_seconds)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise refused(error.args[0], name) from error
        self._wait_for_all(admin)
        return self._states(admin)

    def _wait_for_all(self, admin: AdminClient) -> None:
        """A broker lists a new topic a moment after it has created it."""
        end = time.monotonic() + self._connection.timeout_seconds
        while not set(self._names.all()) <= admin.list_topics(timeout=5).topics.keys():
            if time.monotonic() > end:
                return
            time.sleep(0.05)

    def check(self) -> list[TopicState]:
        """The state of each topic, and what is wrong with it."""
        return self._states(self._connection.admin())

    def _has_one_partition(self, name: str) -> bool:
        return name in (self._names.order, self._names.rejections)

    def _config(self, name: str) -> dict[str, str]:
        config = {"cleanup.policy": "delete", "retention.ms": str(self._retention_ms)}
        if name in (self._names.input, self._names.labels):
            # The broker's clock records when a record arrived; a sender's clock is a claim.
            config |= {
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(INPUT_BYTES_MAX),
            }
        elif name == self._names.rejections:
            config["max.message.bytes"] = str(REJECTION_BYTES_MAX)
        elif name == self._names.order:
            config["max.message.bytes"] = str(ORDER_BYTES_MAX)
        return config

    def _states(self, admin: AdminClient) -> list[TopicState]:
        known = admin.list_topics(timeout=self._connection.timeout_seconds).topics
        return [self._state(admin, name, known.get(name)) for name in self._names.all()]

    def _state(self, admin: AdminClient, name: str, found: Any) -> TopicState:
        if found is None or not found.partitions:
            return TopicState(name, 0, ("missing; `zaslon topics create` creates it",))
        resource = ConfigResource(ResourceType.TOPIC, name)
        try:
            future = admin.describe_configs([resource])[resource]
            entries = answer(future, f"'{name}'", self._connection.timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return TopicState(name, len(found.partitions), (), "settings not visible to this user")
            raise refused(error.args[0], name) from error
        values = {key: entry.value for key, entry in entries.items()}
        return TopicState(name, len(found.partitions), tuple(self._complaints(name, values, found)))

    def _complaints(self, name: str, values: dict[str, Any], found: Any) -> list[str]:
        wrong = []
        for key, wanted in self._config(name).items():
            if key in ("message.timestamp.type", "cleanup.policy") and values.get(key) != wanted:
                wrong.append(f"{key} is {values.get(key)}, expected {wanted}")
        if self._has_one_partition(name) and len(found.partitions) != 1:
            wrong.append(f"{len(found.partitions)} partitions, expected 1: its messages have one order")
        return wrong


def require(admin: AdminClient, topics: Sequence[str], timeout_seconds: float) -> None:
    """Raise where a topic does not exist or may not be seen.

    Raises:
        ServerError: names the topic.
    """
    for topic in topics:
        found = admin.list_topics(topic, timeout=timeout_seconds).topics[topic]
        if found.error is not None:
            raise refused(found.error, f"'{topic}'")


def message_limits(admin: AdminClient, names: TopicNames, timeout_seconds: float) -> MessageLimits:
    """The largest messages that the topics take as they are set now.

    Raises:
        ServerError: a topic does not exist, or its settings may not be seen.
    """
    order, rejections = (_bytes_max(admin, name, timeout_seconds) for name in (names.order, names.rejections))
    return MessageLimits(order, rejections)


def _bytes_max(admin: AdminClient, topic: str, timeout_seconds: float) -> int:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries = answer(admin.describe_configs([resource])[resource], f"'{topic}'", timeout_seconds)
    except KafkaException as error:
        raise refused(error.args[0], topic) from error
    value = entries["max.message.bytes"].value
    if value is None:
        raise ServerError(f"The broker does not report how large a message of '{topic}' may be.")
    return int(value)
