"""The port `Sender` on Kafka: an idempotent producer that counts what is durable."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from zaslon.adapters.cluster.kafka.connection import Connection, Notify, Watch, ignore_notice, refused
from zaslon.adapters.cluster.kafka.topics import INPUT_BYTES_MAX, require
from zaslon.domain.errors import ServerError

IN_FLIGHT_MAX = 200_000  # messages handed over and not yet durable
_WAIT_SECONDS = 0.05


class KafkaSender:
    """Sends records to one topic, in order, until each is acknowledged by all brokers that count.

    Raises:
        ServerError: the broker cannot be reached or refuses us, or the topic does not exist.
    """

    def __init__(self, connection: Connection, topic: str, notify: Notify = ignore_notice) -> None:
        admin = connection.admin()
        require(admin, (topic,), connection.timeout_seconds)
        self._topic, self._watch = topic, Watch(connection.servers, notify)
        self._failure: KafkaError | None = None
        self._handed_over = 0
        self._producer = connection.producer(
            self._watch, acks="all", compression_type="lz4", linger_ms=20,
            message_max_bytes=INPUT_BYTES_MAX, queue_buffering_max_messages=IN_FLIGHT_MAX * 2,
            message_timeout_ms=0,  # an unreachable broker is retried without end
            delivery_report_only_error=True, on_delivery=self._failed,
        )  # fmt: skip
        # Connects now, so that connecting does not slow down the first records.
        self._producer.list_topics(topic, timeout=connection.timeout_seconds)

    def _failed(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def send(self, records: Sequence[bytes]) -> None:
        """Hand over records (see the port)."""
        while len(self._producer) + len(records) > IN_FLIGHT_MAX and len(self._producer):
            self._wait()
        messages = [{"value": record} for record in records]
        try:
            taken = self._producer.produce_batch(self._topic, messages)
        except KafkaException as error:
            raise refused(error.args[0], f"'{self._topic}'") from error
        if taken != len(messages):
            why = next(m["_error"] for m in messages if "_error" in m)
            raise ServerError(f"A record cannot be sent to '{self._topic}': {why!s}.")
        self._handed_over += len(records)
        self._producer.poll(0)
        self._raise_if_failed()

    def _wait(self) -> None:
        self._producer.poll(_WAIT_SECONDS)
        self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        self._watch.raise_if_fatal()
        if self._failure is not None:
            raise refused(self._failure, f"'{self._topic}'")

    @property
    def acknowledged(self) -> int:
        """How many records are durable (see the port)."""
        self._producer.poll(0)
        self._raise_if_failed()
        return self._handed_over - len(self._producer)

    def finish(self) -> int:
        """Wait until all are durable (see the port)."""
        while len(self._producer):
            self._producer.flush(_WAIT_SECONDS)
            self._raise_if_failed()
        return self._handed_over
