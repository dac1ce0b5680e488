"""Leader election: the member of the group that holds partition 0 of topic `order` decides."""

from __future__ import annotations

from threading import RLock
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.adapters.cluster.kafka.connection import Connection, Watch, refused

# After a long absence of the broker, or a long silence of ours, the client joins the group again.
_PASSING = (error_codes.ALL_BROKERS_DOWN, error_codes.MAX_POLL_EXCEEDED)

_POLL_SECONDS = 0.02
# In session timeouts: how long the broker waits for all members when the group changes, and how long a member may
# not poll. A broker that was killed may come back with a member that left, and then waits this long for it:
# nobody decides. The client's default is five minutes.
_REBALANCE_SESSIONS = 10


class Leadership:
    """Membership in the group of scorers. Its methods may be called from any thread.

    The group assigns one partition, so one member decides and the others are standbys. When the member sends
    no heartbeat for `session_timeout_seconds`, the broker gives the partition to another.
    """

    def __init__(
        self, connection: Connection, topic: str, group: str, session_timeout_seconds: float, watch: Watch
    ) -> None:
        self._topic, self._group, self._lock, self._watch = topic, group, RLock(), watch
        self.is_ours = False
        self._rebalances = 0  # assignments and revocations
        session_ms = int(session_timeout_seconds * 1000)
        self._consumer: Consumer = connection.consumer(
            watch, group_id=group, auto_offset_reset="latest", session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 4, max_poll_interval_ms=_REBALANCE_SESSIONS * session_ms,
            # The default would take the partition from its holder whenever a standby comes or goes.
            partition_assignment_strategy="cooperative-sticky",
        )  # fmt: skip
        self._consumer.subscribe(
            [topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)  # the partition is only a token; another client reads it
        if _is_token(partitions):
            self.is_ours = True

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalances += 1
        consumer.incremental_unassign(partitions)
        if _is_token(partitions):
            self.is_ours = False

    def poll(self, wait_seconds: float = 0.0) -> None:
        """Learn what the group has assigned. To be called at least every few seconds.

        Raises:
            ServerError: the broker refuses us.
        """
        with self._lock:
            message = self._consumer.poll(wait_seconds)
        self._watch.raise_if_fatal()
        error = message.error() if message is not None else None
        if error is not None and not error.retriable() and error.code() not in _PASSING:
            is_about_group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            raise refused(error, f"'{self._group if is_about_group else self._topic}'")

    def metadata(self) -> Any:
        """Our membership, as a transaction needs it: it fences a member that was replaced."""
        with self._lock:
            return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave the group: a standby need not wait until we are missed.

        An assignment that is still queued is polled and given back before the client is closed. Its own
        close would do both; but without a broker the membership ends after the first, and the client
        then waits permanently in the second, with all threads of the process.
        """
        with self._lock:
            self._consumer.unsubscribe()
            seen, message = -1, None
            while message is not None or seen != self._rebalances:
                seen, message = self._rebalances, self._consumer.poll(_POLL_SECONDS)
            self._consumer.close()


def _is_token(partitions: list[TopicPartition]) -> bool:
    """Further partitions that somebody has added mean nothing."""
    return any(place.partition == 0 for place in partitions)
