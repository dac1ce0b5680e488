"""How a broker is reached, and what its errors mean for a person."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from zaslon.adapters.cluster.kafka import error_codes
from zaslon.domain.errors import ServerError

Notify = Callable[[str], None]
T = TypeVar("T")
# Errors that no retry can fix. The client only reports them to a callback, and retries without end.
_HOPELESS = {
    error_codes.AUTHENTICATION: (
        "refuses the user or the password",
        "Check ZASLON_KAFKA_USER and ZASLON_KAFKA_PASSWORD_FILE.",
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: (
        "refuses the user or the password",
        "Check ZASLON_KAFKA_USER and ZASLON_KAFKA_PASSWORD_FILE.",
    ),
    error_codes.TLS: (
        "shows a certificate that is not trusted, or speaks no TLS",
        "Check ZASLON_KAFKA_CA_FILE, ZASLON_KAFKA_SECURITY and the broker's name.",
    ),
}
_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "this group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactions under this name",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "this on the cluster",
}
# Of an unreachable broker, or of one that has just started and does not know yet what it leads.
_PASSING = (
    *error_codes.UNREACHABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)  # fmt: skip
_DOWN = (error_codes.ALL_BROKERS_DOWN, error_codes.TRANSPORT)
_ATTEMPT_SECONDS = 1.0
CLOSE_SECONDS = 20.0  # a stop waits half as long for an unreachable broker


def ignore_notice(_: str) -> None:
    """Ignore the notice."""


@dataclass(frozen=True)
class Connection:
    """Where the brokers are and who we are. The password is given to them only.

    Attributes:
        servers: `host:port`, several separated by commas.
        security: `sasl_ssl`, `ssl` or `plaintext`.
        timeout_seconds: how long to wait for a first answer.
    """

    servers: str
    security: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_seconds: float = 10.0

    def config(self, watch: Watch, **more: Any) -> dict[str, Any]:
        """The client's configuration with `more` options, whose names have `_` for `.`, except callbacks."""
        common: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            "security.protocol": self.security.upper(),
            "client.id": "zaslon",
            "error_cb": watch.on_error,
            "log_level": 0,  # it would write to standard error; error_cb gets what matters
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2_000,
        }
        if self.security == "sasl_ssl":
            common |= {
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": self.user or "",
                "sasl.password": self.password or "",
            }
        if self.ca_file is not None:
            common["ssl.ca.location"] = str(self.ca_file)
        return common | {k if callable(v) else k.replace("_", "."): v for k, v in more.items()}

    def admin(self) -> AdminClient:
        """A client for topics, users and access; the broker has answered.

        Raises:
            ServerError: it cannot be reached within `timeout_seconds`, or refuses us; or the client refuses
                its configuration, as with a file of authorities that holds none.
        """
        watch = Watch(self.servers)
        try:
            client = AdminClient(self.config(watch))
        except KafkaException as error:
            raise ServerError(
                f"Cannot connect to {self.servers}: {error.args[0].str().rstrip('.')}.",
                hint="Look at the settings ZASLON_KAFKA_….",
            ) from error
        end = time.monotonic() + self.timeout_seconds
        while True:
            try:
                client.list_topics(timeout=_ATTEMPT_SECONDS)
            except KafkaException as error:
                client.poll(0)
                watch.raise_if_fatal()
                if time.monotonic() > end:
                    raise unreachable(self.servers, error.args[0]) from error
            else:
                return client

    def consumer(self, watch: Watch, **more: Any) -> Consumer:
        """A consumer that reads only what was committed and commits nothing by itself."""
        return Consumer(
            self.config(watch, isolation_level="read_committed", enable_auto_commit=False, **more)
        )

    def producer(self, watch: Watch, **more: Any) -> Producer:
        """An idempotent producer: a message sent once is in the topic once, in its order."""
        return Producer(self.config(watch, enable_idempotence=True, **more))


class UnreachableError(ServerError):
    """No broker answers; one may do so later."""


class Watch:
    """Collects what a client reports only to its callback: refusals, unreachable brokers."""

    def __init__(self, servers: str, notify: Notify = ignore_notice) -> None:
        self._servers, self._notify = servers, notify
        self._hopeless: KafkaError | None = None
        self._notified_at = float("-inf")

    def on_error(self, error: KafkaError) -> None:
        """Called by the client, on the thread that polls it."""
        if error_codes.is_unanswered_handshake(error) or error.code() in _DOWN:
            self.unreachable()
        elif error.code() in _HOPELESS:
            self._hopeless = error

    def unreachable(self) -> None:
        """Notify that no broker answers, at most once in ten seconds."""
        if time.monotonic() - self._notified_at > 10:
            self._notified_at = time.monotonic()
            self._notify(f"The broker at {self._servers} is unreachable; retrying. Nothing is lost.")

    def raise_if_fatal(self) -> None:
        """Raise one clear error for what no retry can fix.

        Raises:
            ServerError: the broker refuses us.
        """
        if self._hopeless is not None:
            what, hint = _HOPELESS[self._hopeless.code()]
            raise ServerError(f"The broker at {self._servers} {what}: {self._hopeless.str()}.", hint=hint)


def answer(future: Future[T], what: str, timeout_seconds: float) -> T:
    """What the broker answers to a request about topics; a refusal is the client's own exception.

    Raises:
        UnreachableError: nothing came within `timeout_seconds`.
    """
    try:
        return future.result(timeout_seconds)
    except TimeoutError as error:
        raise UnreachableError(f"No broker answers within {timeout_seconds:g} s ({what}).") from error


def close_within(
    close: Callable[[], object], what: str, notify: Notify, *, seconds: float = CLOSE_SECONDS
) -> None:
    """Close a client, or leave it behind when that takes longer than `seconds`.

    A client of a group that loses its broker while the group changes may wait permanently in its own
    close. Left behind it sends nothing any more, or is missed by the broker (`max.poll.interval.ms`); waited for it
    would keep this process from ever deciding again.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            close()
        except BaseException as error:  # noqa: BLE001  the caller's thread raises it
            failures.append(error)

    thread = Thread(target=run, name="zaslon-close", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        notify(f"{what} did not close within {seconds:g} s and is left behind.")
    for failure in failures:
        raise failure


def unreachable(servers: str, error: KafkaError) -> UnreachableError:
    """The error of brokers that do not answer."""
    return UnreachableError(
        f"No broker answers at {servers}: {error.str()}.",
        hint="Check ZASLON_KAFKA_SERVERS and that the broker runs.",
    )


def refused(error: KafkaError, what: str) -> ServerError:
    """A broker's refusal as an error for people. `what` names the topic, group or step."""
    if error.code() in _REFUSED:
        return ServerError(
            f"The broker does not allow us {_REFUSED[error.code()]}: {what}.",
            hint="Ask for the right, or use the user that has it (deploy/kafka/access.py).",
        )
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, error_codes.UNKNOWN_TOPIC):
        return ServerError(f"There is no topic for {what}.", hint="Create it: `zaslon topics create`.")
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return ServerError(
            f"A message is larger than a topic takes: {what}.",
            hint="Raise max.message.bytes of the topic, then start again.",
        )
    kind = UnreachableError if error.retriable() or error.code() in _PASSING else ServerError
    return kind(f"The broker answers {error.str()} ({what}).")
