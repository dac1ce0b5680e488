"""What a broker that goes away while a client logs in means: it is unreachable, our user is not wrong."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaError, Producer
from tests.waiting import until

from zaslon.adapters.cluster.kafka.connection import Connection, Watch
from zaslon.domain.errors import ServerError

_API_VERSIONS, _SASL_HANDSHAKE = 18, 17
_UNSUPPORTED_MECHANISM = 33
_HEADER = struct.Struct(">hhi")  # which request, its version, its number
_TAKES_PLAIN_ONLY = struct.pack(">hih", _UNSUPPORTED_MECHANISM, 1, 5) + b"PLAIN"


def _framed(number: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), number) + body


def _versions(version: int) -> bytes:
    """Which requests a broker knows; it speaks the oldest version only."""
    known = ((_SASL_HANDSHAKE, 0, 1), (_API_VERSIONS, 0, 0))
    listed = b"".join(struct.pack(">hhh", *request) for request in known)
    return struct.pack(">hi", 35 if version else 0, len(known)) + listed


def _converse(connection: socket.socket, refusal: bytes) -> None:
    """Answer until the handshake, and that with `refusal`, or hang up where it is empty."""
    while size := connection.recv(4, socket.MSG_WAITALL):
        (length,) = struct.unpack(">i", size)
        request = connection.recv(length, socket.MSG_WAITALL)
        kind, version, number = _HEADER.unpack(request[: _HEADER.size])
        answer = _versions(version) if kind == _API_VERSIONS else refusal
        if not answer:
            return
        connection.sendall(_framed(number, answer))


@contextmanager
def _broker(refusal: bytes) -> Iterator[str]:
    """A broker that gets no further than the handshake; its `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    with connection:
                        _converse(connection, refusal)
                except ConnectionError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _login(servers: str, watch: Watch) -> None:
    """Let a client log in, and watch it until a handshake has failed."""
    errors: list[KafkaError] = []

    def on_error(error: KafkaError) -> None:
        errors.append(error)
        watch.on_error(error)

    def is_over() -> bool:
        client.poll(0.1)
        return any("handshake failed" in error.str() for error in errors)

    login = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "scorer", "sasl_password": "unknown"}
    config = Connection(servers, "sasl_plaintext").config(watch, **login)
    client = Producer({**config, "error_cb": on_error})
    until(is_over, lambda: [error.str() for error in errors])


def test_a_broker_that_leaves_during_the_login_is_unreachable() -> None:
    notified: list[str] = []
    with _broker(refusal=b"") as servers:
        watch = Watch(servers, notified.append)
        _login(servers, watch)
    watch.raise_if_fatal()
    assert notified == [f"The broker at {servers} is unreachable; retrying. Nothing is lost."]


def test_a_broker_that_refuses_the_login_is_an_error() -> None:
    with _broker(refusal=_TAKES_PLAIN_ONLY) as servers:
        watch = Watch(servers)
        _login(servers, watch)
    with pytest.raises(ServerError, match="mechanisms: PLAIN") as refused:
        watch.raise_if_fatal()
    assert refused.value.hint == "Check ZASLON_KAFKA_USER and ZASLON_KAFKA_PASSWORD_FILE."
